"""One IP packet: its addresses, what it carries, and what is wrong with it by itself.

Owns: the rules that need nothing but the packet. Must not know: tunnels, leases, and files.
RFC 791, RFC 8200.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field

from udpoverlay.decode.checksum import internet_sum
from udpoverlay.decode.problem import Word
from udpoverlay.decode.transport import Transport, first_fragment, read_transport

__all__ = ["Fault", "Ip", "checksum_fault", "read_ip"]

Fault = tuple[Word, str]
"""A problem before it is known which packet of a tunnel it is in."""

_V4 = struct.Struct(">BBHHHBBH4s4s")
_V6 = struct.Struct(">IHBB16s16s")
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_MOST_EXTENSIONS = 8
_CHECKSUMS = frozenset({Word.HEADER_CHECKSUM, Word.CHECKSUM, Word.OFFLOAD_CHECKSUM})


@dataclass(slots=True)
class Ip:
    """A packet, as its header says."""

    version: int
    source: str
    destination: str
    protocol: int
    ttl: int
    """Hop limit in IPv6."""
    length: int
    """In bytes, with the header."""
    fragment_offset: int | None = None
    """In bytes, of the packet that this is a piece of; None: it is whole."""
    transport: Transport | None = None
    """None: cut, or not the first fragment. A first fragment has ports at most."""
    faults: list[Fault] = field(default_factory=list)


def read_ip(data: bytes, wire: int) -> Ip | Fault:
    """The packet that `data` begins with; of it `wire` bytes came (`data` may hold fewer).

    A Fault when it is none.
    """
    version = data[0] >> 4 if data else 0
    if version == 4:
        return _ipv4(data, wire)
    if version == 6:
        return _ipv6(data, wire)
    return Word.NOT_IP, (
        f"neither IPv4 nor IPv6: it begins with {data[:4].hex(' ')}" if data else "nothing in it"
    )


def checksum_fault(data: bytes, wire: int) -> str:
    """What is wrong with a packet's checksums; "": nothing, or it cannot be told."""
    found = read_ip(data, max(wire, len(data)))
    faults = found.faults if isinstance(found, Ip) else []
    return next((text for word, text in faults if word in _CHECKSUMS), "")


def _ipv4(data: bytes, wire: int) -> Ip | Fault:
    if len(data) < _V4.size:
        return Word.CUT, f"an IPv4 header needs 20 bytes, {len(data)} are here"
    first, _, length, _, fragment, ttl, protocol, _, source, destination = _V4.unpack_from(data)
    header = (first & 0xF) * 4
    if header < _V4.size:
        return Word.BAD_HEADER, f"an IPv4 header of {header} bytes; the least is 20"
    length = length or wire  # segmentation offload of more than 64 KiB leaves a 0
    if length < header:
        return Word.BAD_HEADER, f"a total length of {length} bytes, under the header's {header}"
    offset = (fragment & 0x1FFF) * 8
    packet = Ip(
        4,
        str(ipaddress.IPv4Address(source)),
        str(ipaddress.IPv4Address(destination)),
        protocol,
        ttl,
        length,
        fragment_offset=offset if fragment & 0x2000 or offset else None,
    )
    if len(data) >= header and internet_sum(data[:header]) != 0xFFFF:
        right = internet_sum(data[:10], data[12:header]) ^ 0xFFFF
        packet.faults.append(
            (
                Word.HEADER_CHECKSUM,
                f"header checksum {data[10:12].hex()}, {right:04x} is right",
            )
        )
    _fill(packet, data, header, wire, source + destination)
    return packet


def _ipv6(data: bytes, wire: int) -> Ip | Fault:
    if len(data) < _V6.size:
        return Word.CUT, f"an IPv6 header needs 40 bytes, {len(data)} are here"
    _, payload, protocol, hops, source, destination = _V6.unpack_from(data)
    packet = Ip(
        6,
        str(ipaddress.IPv6Address(source)),
        str(ipaddress.IPv6Address(destination)),
        protocol,
        hops,
        _V6.size + payload if payload else wire,
    )
    at = _V6.size
    for _ in range(_MOST_EXTENSIONS):
        if packet.protocol not in {_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION}:
            break
        if len(data) < at + 8:
            packet.faults.append((Word.CUT, "it ends inside an extension header"))
            return packet
        if packet.protocol == _FRAGMENT:
            packet.fragment_offset = int.from_bytes(data[at + 2 : at + 4], "big") & 0xFFF8
        size = 8 if packet.protocol == _FRAGMENT else 8 + 8 * data[at + 1]
        packet.protocol = data[at]
        at += size
    _fill(packet, data, at, wire, source + destination)
    return packet


def _fill(packet: Ip, data: bytes, header: int, wire: int, addresses: bytes) -> None:
    """What holds for both versions."""
    if packet.length > wire:
        packet.faults.append((Word.CUT, f"its header says {packet.length:,} bytes, {wire:,} came"))
        return
    if packet.ttl == 0:
        packet.faults.append((Word.TTL, "a TTL of 0 must not be on a wire"))
    content = data[header : packet.length]
    if packet.fragment_offset is not None:
        if packet.fragment_offset == 0:
            packet.transport = first_fragment(packet.protocol, content)
        return
    packet.transport, faults = read_transport(
        packet.protocol, content, addresses, packet.length - header
    )
    packet.faults += faults
