"""Records as a capture file: what Wireshark, tshark and `udpoverlay decode` read.

Owns: which block a record becomes, and the outer header that it is given. Must not know: where the
bytes go. Format: draft-ietf-opsawg-pcapng; a library was looked at (docs/adr/0028).

    a packet that was sent     ─► a block at tun-in: inner packet, a block at udp-out: outer packet
    one that was delivered     ─► udp-in: outer packet, tun-out: inner packet
    one that was dropped       ─► the points that it reached; the last says why

Only inner packets are recorded. The outer header is made again from what is known: the addresses of
both hosts, the port; its TTL is 64, it has no checksum (allowed: RFC 768). The bytes of the inner
packet are as they were at the last point. The same records give the same file, byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address

from udpoverlay import _fastpath as fp
from udpoverlay._version import VERSION
from udpoverlay.decode.blocks import (
    BYTE_ORDER,
    Block,
    InterfaceOption,
    PacketOption,
    SectionOption,
    Verdict,
)
from udpoverlay.decode.checksum import internet_sum
from udpoverlay.decode.frame import Link
from udpoverlay.model.packet_record import POINTS, PacketRecord
from udpoverlay.trace.identity import packet_id
from udpoverlay.trace.origin import Origin

__all__ = ["MEANINGS", "OUTER_POINTS", "CaptureWriter", "capture", "outer_header", "passed"]

MEANINGS = {name: text for name, _, _, text in fp.VERDICTS}
"""Each verdict in words (ext/verdict.h)."""

_NANOSECONDS = 9
_OUTER_HEADER = 28
_OUTER_TTL = 64
_UDP = 17
_IN, _OUT = 1, 2
"""epb_flags: seen coming in, or going out."""
OUTER_POINTS = frozenset({"udp-out", "udp-in"})
"""Where a packet is inside a datagram."""
_DESCRIPTIONS = {
    "tun-in": "inner packets read from {device} of {host}",
    "udp-out": "datagrams that {host} sent; outer header made again from what is known",
    "udp-in": "datagrams that {host} received; outer header made again from what is known",
    "tun-out": "inner packets written to {device} of {host}",
}


def passed(record: PacketRecord) -> tuple[str, ...]:
    """The points that a packet reached, the last where its way ended."""
    at = POINTS.index(record.point)
    return POINTS[at & ~1 : at + 1]


class CaptureWriter:
    """Makes the bytes of a capture file of one host, from first to last."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._lost = 0

    def head(self) -> bytes:
        """What a file begins with: the section and an interface for each point."""
        section = struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1)
        program = f"udpoverlay {VERSION}".encode()
        made = _block(Block.SECTION, section + _options((SectionOption.PROGRAM, program)))
        for point in POINTS:
            text = _DESCRIPTIONS[point].format(
                device=self._origin.device, host=f"{self._origin.host} {self._origin.address}"
            )
            made += _block(
                Block.INTERFACE,
                struct.pack("<HHI", Link.RAW, 0, 0)
                + _options(
                    (InterfaceOption.NAME, point.encode()),
                    (InterfaceOption.DESCRIPTION, text.encode()),
                    (InterfaceOption.RESOLUTION, bytes([_NANOSECONDS])),
                ),
            )
        return made

    def lost(self, count: int) -> None:
        """So many were not recorded, or gone; the next block tells."""
        self._lost += count

    def blocks(self, record: PacketRecord) -> bytes:
        """The packet at each point that it reached."""
        points = passed(record)
        identity = packet_id(record.data).to_bytes(8, "little")
        return b"".join(self._at(point, record, identity, point == points[-1]) for point in points)

    def _at(self, point: str, record: PacketRecord, identity: bytes, last: bool) -> bytes:
        header = outer_header(self._origin, record) if point in OUTER_POINTS else b""
        data = header + record.data
        options = []
        if last:
            options.append((PacketOption.COMMENT, _comment(record).encode()))
        flags = _IN if point in {"tun-in", "udp-in"} else _OUT
        options.append((PacketOption.FLAGS, flags.to_bytes(4, "little")))
        if self._lost:
            options.append((PacketOption.DROPS, self._lost.to_bytes(8, "little")))
            self._lost = 0
        verdict = Verdict.SHOT if last and record.dropped else Verdict.OK
        options.append((PacketOption.ID, identity))
        options.append((PacketOption.VERDICT, struct.pack("<BQ", Verdict.TC, verdict)))
        body = struct.pack(
            "<5I",
            POINTS.index(point),
            record.time_ns >> 32,
            record.time_ns & 0xFFFFFFFF,
            len(data),
            max(len(header) + record.length, len(data)),
        )
        return _block(Block.ENHANCED, body + _padded(data) + _options(*options))


def outer_header(origin: Origin, record: PacketRecord) -> bytes:
    """IPv4 and UDP, made again; 0.0.0.0 stands for a host that is not known."""
    ends = _address(origin.address), _address(record.remote)
    source, destination = ends if record.outbound else ends[::-1]
    length = min(record.length + _OUTER_HEADER, 0xFFFF)
    form = ">BBHHHBBH4s4s"
    fields = (0x45, 0, length, 0, 0, _OUTER_TTL, _UDP)
    whole = struct.pack(form, *fields, 0, source, destination)
    checksum = internet_sum(whole) ^ 0xFFFF
    return struct.pack(form, *fields, checksum, source, destination) + struct.pack(
        ">4H", origin.port, origin.port, length - 20, 0
    )


def _comment(record: PacketRecord) -> str:
    text = f"{record.verdict}: {MEANINGS.get(record.verdict, 'no verdict of this version')}"
    if record.dropped:
        text = f"dropped, {text}"
    if record.packets > 1:
        text += f"; the first of {record.packets} packets at once"
    return text


def _address(text: str) -> bytes:
    try:
        return IPv4Address(text).packed
    except AddressValueError:
        return bytes(4)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _options(*options: tuple[int, bytes]) -> bytes:
    made = b"".join(
        struct.pack("<HH", number, len(value)) + _padded(value) for number, value in options
    )
    return made + bytes(4)


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


def capture(origin: Origin, records: Iterable[PacketRecord], lost: int = 0) -> bytes:
    """A whole file."""
    writer = CaptureWriter(origin)
    writer.lost(lost)
    return writer.head() + b"".join(map(writer.blocks, records))
