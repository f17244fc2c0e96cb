"""Docker's options for a host with a subnet, as flannel's dist/mk-docker-opts.sh writes them.

Owns: names, order and bytes. Must not know: files, flags.
"""

from __future__ import annotations

from collections.abc import Mapping

from udpoverlay.errors import OperatorError

__all__ = ["docker_options", "format_docker_opts"]

_INVERSE = {"true": "false", "false": "true"}
"""Docker masquerades where the daemon does not."""


def docker_options(env: Mapping[str, str], *, ip_masq: bool = True) -> dict[str, str]:
    """Name → option, from what the subnet file holds; `ip_masq` false leaves that option out.

    Raises OperatorError when FLANNEL_IPMASQ is neither true nor false.
    """
    options: dict[str, str] = {}
    if env.get("FLANNEL_SUBNET"):
        options["DOCKER_OPT_BIP"] = f"--bip={env['FLANNEL_SUBNET']}"
    word = env.get("FLANNEL_IPMASQ")
    if word and ip_masq:
        if word not in _INVERSE:
            raise OperatorError(
                f"FLANNEL_IPMASQ is {word!r}", fix="the subnet file says true or false"
            )
        options["DOCKER_OPT_IPMASQ"] = f"--ip-masq={_INVERSE[word]}"
    if env.get("FLANNEL_MTU"):
        options["DOCKER_OPT_MTU"] = f"--mtu={env['FLANNEL_MTU']}"
    return options


def format_docker_opts(
    options: Mapping[str, str], *, individual: bool, combined: bool, key: str
) -> str:
    """The text of the file: a line an option, and all of them in one variable."""
    lines = [f'{name}="{option}"' for name, option in options.items()] if individual else []
    if combined:
        lines.append(f'{key}="{"".join(f" {option}" for option in options.values())}"')
    return "".join(f"{line}\n" for line in lines)
