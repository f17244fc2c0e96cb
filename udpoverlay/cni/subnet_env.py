"""What the plugin reads of subnet.env, as flannel's plugin does: one `KEY=value` a line.

Owns: which keys are needed (flannel-io/cni-plugin flannel.go, loadFlannelSubnetEnv). No quotes, no
comments; a value is everything behind the first "=".
"""

from __future__ import annotations

import socket

from udpoverlay.cni.errors import CANNOT_DECODE, TRY_AGAIN, CniError

__all__ = ["SubnetEnv", "load_subnet_env", "parse_cidr"]

_FIX = (
    "look at the log of udpoverlayd or flanneld on this node: it writes the file once it is ready"
)
_WIDTHS = {socket.AF_INET: 32, socket.AF_INET6: 128}


class SubnetEnv:
    """Networks of the overlay, our own subnets, MTU in bytes, whether the daemon masquerades."""

    __slots__ = ("ip_masq", "mtu", "networks", "subnets")

    def __init__(self) -> None:
        self.networks: list[str] = []
        self.subnets: list[str] = []
        self.mtu = 0
        self.ip_masq: bool | None = None


def parse_cidr(text: str) -> str:
    """`10.5.72.1/24` → `10.5.72.0/24`, as Go's net.ParseCIDR. Raises ValueError."""
    address, slash, length_text = text.strip().partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    width = _WIDTHS[family]
    if not slash or not (length_text.isascii() and length_text.isdigit()):
        raise ValueError(text)
    length = int(length_text)
    if length > width:
        raise ValueError(text)
    try:
        value = int.from_bytes(socket.inet_pton(family, address), "big")
    except OSError as error:
        raise ValueError(text) from error
    network = value >> (width - length) << (width - length)
    return f"{socket.inet_ntop(family, network.to_bytes(width // 8, 'big'))}/{length}"


def load_subnet_env(path: str) -> SubnetEnv:
    """Read the file. Raises CniError: try again while it is not there, cannot decode when wrong."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(65536).splitlines()
    except FileNotFoundError as error:
        raise CniError(TRY_AGAIN, f"the subnet file {path} does not exist", _FIX) from error
    except OSError as error:
        raise CniError(
            TRY_AGAIN, f"the subnet file {path} cannot be read: {error.strerror}", _FIX
        ) from error
    env = SubnetEnv()
    found: dict[str, str] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if equals:
            found[key] = value
    for prefix in ("FLANNEL_", "FLANNEL_IPV6_"):
        for network in _each(path, prefix + "NETWORK", found):
            if network not in env.networks:
                env.networks.append(network)
        env.subnets += _each(path, prefix + "SUBNET", found)[:1]
    mtu = found.get("FLANNEL_MTU")
    if mtu is not None:
        if not (mtu.isascii() and mtu.isdigit() and int(mtu) < 1 << 32):
            raise CniError(CANNOT_DECODE, f"{path}: FLANNEL_MTU {mtu!r} is not a number", _FIX)
        env.mtu = int(mtu)
    if "FLANNEL_IPMASQ" in found:
        env.ip_masq = found["FLANNEL_IPMASQ"] == "true"
    missing = [
        name
        for name, there in (
            ("FLANNEL_NETWORK", env.networks),
            ("FLANNEL_SUBNET", env.subnets),
            ("FLANNEL_MTU", mtu is not None),
            ("FLANNEL_IPMASQ", env.ip_masq is not None),
        )
        if not there
    ]
    if missing:
        raise CniError(CANNOT_DECODE, f"{path} is missing {', '.join(missing)}", _FIX)
    return env


def _each(path: str, key: str, found: dict[str, str]) -> list[str]:
    if key not in found:
        return []
    try:
        return [parse_cidr(cidr) for cidr in found[key].split(",")]
    except ValueError as error:
        raise CniError(
            CANNOT_DECODE, f"{path}: {key} {found[key]!r} is not a network like 10.5.0.0/16", _FIX
        ) from error
