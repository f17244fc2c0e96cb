"""Which addresses a host can be reached at by its peers.

Owns: the rule for a public address, whether an operator, an annotation or a peer's lease gives it.
"""

from __future__ import annotations

from netaddr import IPAddress

from udpoverlay.errors import OperatorError
from udpoverlay.gocompat.net import parse_ip

__all__ = ["public_address", "unreachable"]

_BROADCAST = 0xFFFFFFFF
_SPECIAL = {0: "an address of 0.0.0.0/8", 127: "a loopback address"} | dict.fromkeys(
    range(224, 240), "a multicast address"
)
"""By the first octet of an IPv4 address."""


def unreachable(address: IPAddress) -> str:
    """Why no other host can send to `address`, "" when one may.

    The special addresses of RFC 1122 3.2.1.3 and RFC 4291 2.4; link-local ones are good on one
    link, private ones anywhere.
    """
    value: int = address.value
    if value == 0:
        return "the unspecified address"
    if address.version == 4:
        return "the broadcast address" if value == _BROADCAST else _SPECIAL.get(value >> 24, "")
    if value == 1:
        return "a loopback address"
    return "a multicast address" if value >> 120 == 0xFF else ""


def public_address(name: str, text: str, version: int) -> IPAddress | None:
    """Read the public address that the flag `name` gives; None for an empty text.

    Raises OperatorError for what is no address of this version, or one that no host has.
    """
    if not text:
        return None
    address = parse_ip(text)
    example = "192.0.2.1" if version == 4 else "2001:db8::1"
    fix = f"write the address at which other hosts reach this one, like {example}, or leave it out"
    if address is None or address.version != version:
        raise OperatorError(f"{name} {text!r} is not an IPv{version} address", fix=fix)
    why = unreachable(address)
    if why:
        raise OperatorError(f"{name} {text!r} is {why}: peers could not send to us", fix=fix)
    return address
