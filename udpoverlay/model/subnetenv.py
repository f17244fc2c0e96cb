"""The text of the subnet file: what CNI plugins and Docker read, and our memory of the last subnet.

Owns: keys, order and bytes (flannel pkg/subnet/subnet.go) and the reading of previous subnets
(flannel main.go). Must not know: where the file is. Readers split at the first "=" and take the
rest as it stands, so nothing is ever quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from netaddr import IPAddress, IPNetwork

from udpoverlay.gocompat import net as goip
from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import NetConf

__all__ = ["format_subnet_env", "parse_subnet_env", "previous_subnet"]

_LINE = re.compile(r"(?:export[ \t]+)?([A-Za-z0-9_.]+)[ \t]*[=:][ \t]*(.*)", re.ASCII)
_QUOTED = re.compile(r"""(["'])(.*?)(?<!\\)\1""")
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_ESCAPE = re.compile(r"\\(.)")


def format_subnet_env(conf: NetConf, subnet: Subnet, mtu: int, ip_masq: bool) -> str:
    """Return the whole file. The subnet is written as its first host address; `mtu` is in bytes."""
    lines: list[str] = []
    if conf.enable_ipv4 and subnet.v4 is not None:
        lines += [f"FLANNEL_NETWORK={conf.network}", f"FLANNEL_SUBNET={_first_host(subnet.v4)}"]
    if conf.enable_ipv6 and subnet.v6 is not None:
        lines += [
            f"FLANNEL_IPV6_NETWORK={conf.ipv6_network}",
            f"FLANNEL_IPV6_SUBNET={_first_host(subnet.v6)}",
        ]
    lines += [f"FLANNEL_MTU={mtu}", f"FLANNEL_IPMASQ={str(ip_masq).lower()}"]
    return "\n".join(lines) + "\n"


def _first_host(net: IPNetwork) -> str:
    return f"{IPAddress(net.value + 1, version=net.version)}/{net.prefixlen}"


def parse_subnet_env(text: str) -> dict[str, str]:
    """Read `KEY=value` lines as dotenv has them: export, quotes and comments are tolerated.

    Lines that make no sense are skipped; of a repeated key the last line counts.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match is None:
            continue
        key, value = match.groups()
        quoted = _QUOTED.match(value)
        if quoted is None:
            values[key] = _COMMENT.sub("", value).strip()
        elif quoted.group(1) == '"':
            values[key] = _ESCAPE.sub(r"\1", quoted.group(2))
        else:
            values[key] = quoted.group(2)
    return values


def _single(value: str, parse: Callable[[str], IPNetwork | None]) -> IPNetwork | None:
    """The one network in a comma list; None for none, several, or 0/0."""
    nets = [net for net in map(parse, value.split(",")) if net is not None]
    if len(nets) != 1 or (nets[0].value == 0 and nets[0].prefixlen == 0):
        return None
    return nets[0]


def previous_subnet(text: str) -> Subnet | None:
    """Return the subnet that a subnet file remembers; None unless it names exactly one IPv4 one."""
    values = parse_subnet_env(text)
    v4 = _single(values.get("FLANNEL_SUBNET", ""), goip.parse_cidr4)
    if v4 is None:
        return None
    return Subnet(v4, _single(values.get("FLANNEL_IPV6_SUBNET", ""), goip.parse_cidr6))
