"""What an IP packet carries: UDP, TCP, ICMP; others have a name alone.

Owns: ports, flags, types and checksums of these. Must not know: the packet around them.
RFC 768, RFC 9293, RFC 792, RFC 4443.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from udpoverlay.decode.checksum import internet_sum, is_unfinished, pseudo_header
from udpoverlay.decode.problem import Word

__all__ = [
    "ICMP",
    "ICMPV6",
    "TCP",
    "UDP",
    "Transport",
    "first_fragment",
    "icmp_words",
    "read_transport",
]

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_CHECKSUM_AT = {ICMP: 2, TCP: 16, UDP: 6, ICMPV6: 2}
_LEAST = {ICMP: 8, TCP: 20, UDP: 8, ICMPV6: 8}
_NAMES = {ICMP: "ICMP", TCP: "TCP", UDP: "UDP", ICMPV6: "ICMPv6", 2: "IGMP", 4: "IPIP",
          47: "GRE", 50: "ESP", 132: "SCTP"}  # fmt: skip
_FLAGS = (("SYN", 0x02), ("FIN", 0x01), ("RST", 0x04), ("PSH", 0x08), ("ACK", 0x10))
_ICMP = {
    (0, 0): "echo reply", (8, 0): "echo request", (3, 0): "net unreachable",
    (3, 1): "host unreachable", (3, 2): "protocol unreachable", (3, 3): "port unreachable",
    (3, 4): "fragmentation needed", (3, 13): "prohibited", (11, 0): "TTL expired",
}  # fmt: skip
_ICMPV6 = {(128, 0): "echo request", (129, 0): "echo reply", (2, 0): "packet too big"}


@dataclass(frozen=True, slots=True)
class Transport:
    """Ports are None where the protocol has none."""

    name: str
    source_port: int | None = None
    destination_port: int | None = None
    detail: str = ""
    """Flags, or an ICMP message in words."""
    payload: bytes = b""
    """Of UDP, as far as it was captured."""
    payload_wire: int = 0
    """Bytes of it on the wire."""


def read_transport(
    protocol: int, data: bytes, addresses: bytes, wire: int
) -> tuple[Transport, list[tuple[Word, str]]]:
    """What `data` is, of which `wire` bytes came, and what is wrong with it."""
    name = _NAMES.get(protocol, f"protocol {protocol}")
    if protocol not in _LEAST:
        return Transport(name), []
    if len(data) < _LEAST[protocol]:
        if len(data) < wire:  # the capture is cut, not the packet
            return Transport(name), []
        return Transport(name), [
            (Word.BAD_HEADER, f"a {name} header needs {_LEAST[protocol]} bytes, it has {len(data)}")
        ]
    if protocol == UDP:
        return _udp(data, addresses, wire)
    if protocol == TCP:
        source, destination = struct.unpack_from(">HH", data)
        flags = " ".join(name for name, bit in _FLAGS if data[13] & bit)
        found = Transport("TCP", source, destination, flags)
    else:
        found = Transport(name, detail=icmp_words(protocol, data))
    return found, _checksum(name, protocol, data, addresses, wire)


def first_fragment(protocol: int, data: bytes) -> Transport:
    """What can be said of the first piece of a packet: the rest decides about its checksum."""
    name = _NAMES.get(protocol, f"protocol {protocol}")
    if protocol in {TCP, UDP} and len(data) >= 4:
        return Transport(name, *struct.unpack_from(">HH", data))
    return Transport(name)


def _udp(data: bytes, addresses: bytes, wire: int) -> tuple[Transport, list[tuple[Word, str]]]:
    source, destination, length, checksum = struct.unpack_from(">4H", data)
    length = length or wire  # more than 64 KiB, by segmentation offload
    if not 8 <= length <= wire:
        return Transport("UDP", source, destination), [
            (Word.BAD_HEADER, f"a UDP length of {length:,} bytes where {wire:,} came")
        ]
    found = Transport("UDP", source, destination, "", data[8:length], length - 8)
    if checksum == 0 and len(addresses) == 8:  # none was made: RFC 768
        return found, []
    return found, _checksum("UDP", UDP, data[:length], addresses, length)


def _checksum(
    name: str, protocol: int, data: bytes, addresses: bytes, wire: int
) -> list[tuple[Word, str]]:
    if len(data) < wire:
        return []
    pseudo = b"" if protocol == ICMP else pseudo_header(addresses, protocol, wire)
    if internet_sum(pseudo, data) == 0xFFFF:
        return []
    at = _CHECKSUM_AT[protocol]
    (found,) = struct.unpack_from(">H", data, at)
    if protocol != ICMP and is_unfinished(found, addresses, protocol, (wire, 0)):
        return [
            (
                Word.OFFLOAD_CHECKSUM,
                f"{name} checksum {found:04x} covers the pseudo header alone: left to a card "
                "(offload pattern)",
            )
        ]
    right = internet_sum(pseudo, data[:at], data[at + 2 :]) ^ 0xFFFF
    if protocol == UDP:
        right = right or 0xFFFF
    return [(Word.CHECKSUM, f"{name} checksum {found:04x}, {right:04x} is right")]


def icmp_words(protocol: int, data: bytes) -> str:
    """Type and code of an ICMP message of 8 bytes at least, in words."""
    kind, code = data[0], data[1]
    words = (_ICMP if protocol == ICMP else _ICMPV6).get((kind, code), f"type {kind} code {code}")
    if protocol == ICMP and (kind, code) == (3, 4):
        words += f", MTU {int.from_bytes(data[6:8], 'big')}"
    if protocol == ICMPV6 and (kind, code) == (2, 0):
        words += f", MTU {int.from_bytes(data[4:8], 'big')}"
    if protocol == ICMP and kind in {3, 11} and len(data) >= 28:
        words += f", about {ipaddress.IPv4Address(data[20:24])} to "
        words += f"{ipaddress.IPv4Address(data[24:28])}"
    return words
