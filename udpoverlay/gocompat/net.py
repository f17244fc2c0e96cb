"""Addresses and networks as Go reads and writes them (net.ParseIP, net.ParseCIDR, net.IP.String).

Owns: text ↔ netaddr values. Every registry, flag and file of flannel passes through these rules, so
they live here once. Must not know: what an address is used for.
Differences that matter against other parsers: no leading zeros in an octet, no zone, no short forms
("10.1"), and "::ffff:1.2.3.4" is the same address as "1.2.3.4".
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv6Address

from netaddr import IPAddress, IPNetwork

__all__ = [
    "ip6_text",
    "is_mapped",
    "network_of",
    "parse_cidr",
    "parse_cidr4",
    "parse_cidr6",
    "parse_ip",
    "parse_ip4",
    "parse_ip6",
]

_OCTETS = {str(value): value for value in range(256)}
_MAPPED = 0xFFFF << 32
_MAX_TEXT = 64


def is_mapped(value: int) -> bool:
    """Whether an IPv6 address is an IPv4 one in disguise (::ffff:0:0/96, RFC 4291 2.5.5.2)."""
    return value >> 32 == 0xFFFF


def _value4(text: str) -> int | None:
    parts = text.split(".")
    if len(parts) != 4:
        return None
    try:
        a, b, c, d = parts
        return _OCTETS[a] << 24 | _OCTETS[b] << 16 | _OCTETS[c] << 8 | _OCTETS[d]
    except KeyError:
        return None


def _value6(text: str) -> int | None:
    if ":" not in text or "%" in text or len(text) > _MAX_TEXT:
        return None
    try:
        return int(IPv6Address(text))
    except AddressValueError:
        return None


def parse_ip(text: str) -> IPAddress | None:
    """Read an address of either family; an IPv4-mapped IPv6 one is IPv4. None: not an address."""
    value = _value4(text)
    if value is not None:
        return IPAddress(value, version=4)
    value = _value6(text)
    if value is None:
        return None
    if is_mapped(value):
        return IPAddress(value & 0xFFFFFFFF, version=4)
    return IPAddress(value, version=6)


def parse_ip4(text: str) -> IPAddress | None:
    """Read an IPv4 address (flannel pkg/ip/ipnet.go, ParseIP4). None: it is not one."""
    value = _value4(text)
    if value is None:
        value = _value6(text)
        if value is None or not is_mapped(value):
            return None
        value &= 0xFFFFFFFF
    return IPAddress(value, version=4)


def parse_ip6(text: str) -> IPAddress | None:
    """Read an IPv6 address; an IPv4 one becomes mapped (flannel pkg/ip/ip6net.go, ParseIP6)."""
    value = _value6(text)
    if value is None:
        value = _value4(text)
        if value is None:
            return None
        value |= _MAPPED
    return IPAddress(value, version=6)


def network_of(value: int, length: int, version: int) -> IPNetwork:
    """Build the network of `length` bits that holds the address `value`, host bits cleared."""
    host_bits = (32 if version == 4 else 128) - length
    return IPNetwork((value >> host_bits << host_bits, length), version=version)


def _length(text: str, most: int) -> int | None:
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_TEXT:
        return None
    length = int(text)
    return length if length <= most else None


def parse_cidr4(text: str) -> IPNetwork | None:
    """Read an IPv4 network; only the network part is kept. None: it is not one."""
    address, _, prefix = text.partition("/")
    value, length = _value4(address), _length(prefix, 32)
    return None if value is None or length is None else network_of(value, length, 4)


def parse_cidr6(text: str) -> IPNetwork | None:
    """Read an IPv6 network; only the network part is kept. None: it is not one."""
    address, _, prefix = text.partition("/")
    value, length = _value6(address), _length(prefix, 128)
    return None if value is None or length is None else network_of(value, length, 6)


def parse_cidr(text: str) -> IPNetwork | None:
    """Read a network of either family; only the network part is kept. None: it is not one."""
    net = parse_cidr4(text)
    return parse_cidr6(text) if net is None else net


def ip6_text(value: int) -> str:
    """Write an IPv6 address as Go does: RFC 5952, and an IPv4-mapped one in dotted form."""
    if is_mapped(value):
        return str(IPAddress(value & 0xFFFFFFFF, version=4))
    return IPv6Address(value).compressed
