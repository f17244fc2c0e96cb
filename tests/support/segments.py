"""Builders of IP packets for tests: every field can be set, lengths and checksums are right."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, replace

from tests.support.twin.offload import Parts, put_together

__all__ = ["Segment", "noise", "super_packet"]


def noise(length: int) -> bytes:
    """Bytes without a pattern, the same ones each time."""
    return random.Random(length).randbytes(length)


@dataclass(frozen=True)
class Segment:
    """One TCP or UDP packet; `build()` gives its bytes. Options are padded to 4 bytes."""

    payload: bytes = b""
    tcp: bool = True
    ipv6: bool = False
    source: int = 1
    destination: int = 2
    ports: tuple[int, int] = (40000, 5201)
    sequence: int = 1000
    acknowledgment: int = 777
    flags: int = 0x10
    window: int = 512
    urgent: int = 0
    reserved: int = 0
    options: bytes = b""
    id: int = 100
    tos: int = 0
    ttl: int = 63
    fragment: int = 0x4000
    ip_options: bytes = b""
    extension: bytes = b""
    flow_label: int = 0

    def but(self, **changes: object) -> Segment:
        return replace(self, **changes)  # type: ignore[arg-type] # fields by name, test code

    def _ip(self) -> bytes:
        protocol = 6 if self.tcp else 17
        if self.ipv6:
            first = 6 << 28 | self.tos << 20 | self.flow_label
            next_header = 60 if self.extension else protocol
            head = struct.pack("!IHBB", first, 0, next_header, self.ttl)
            addresses = b"".join(
                bytes.fromhex("fd00") + address.to_bytes(14, "big")
                for address in (self.source, self.destination)
            )
            extension = bytes([protocol]) + self.extension[1:] if self.extension else b""
            return head + addresses + extension
        length = 20 + len(self.ip_options)
        return (
            struct.pack(
                "!BBHHHBBH",
                0x40 | length // 4,
                self.tos,
                0,
                self.id & 0xFFFF,
                self.fragment,
                self.ttl,
                protocol,
                0,
            )
            + bytes([10, 1, 0, self.source, 10, 1, 1, self.destination])
            + self.ip_options
        )

    def _header(self) -> bytes:
        if not self.tcp:
            return struct.pack("!HHHH", *self.ports, 0, 0)
        options = self.options + b"\0" * (-len(self.options) % 4)
        return (
            struct.pack(
                "!HHIIBBHHH",
                *self.ports,
                self.sequence & 0xFFFFFFFF,
                self.acknowledgment,
                (20 + len(options)) // 4 << 4 | self.reserved,
                self.flags,
                self.window,
                0,
                self.urgent,
            )
            + options
        )

    def build(self, *, sums: bool = True) -> bytes:
        """With `sums` off the transport checksum is the pseudo-header's sum, as with NEEDS_CSUM."""
        parts = Parts(self._ip(), self._header(), self.payload, 6 if self.tcp else 17)
        return put_together(parts, sums=sums)


def super_packet(segment: Segment, gso_size: int) -> tuple[bytes, bytes]:
    """(vnet header, super-packet) as a TUN hands it over."""
    packet = segment.build(sums=False)
    headers = len(packet) - len(segment.payload)
    transport = 8 if not segment.tcp else 20 + len(segment.options) + -len(segment.options) % 4
    kind = 5 if not segment.tcp else 4 if segment.ipv6 else 1
    if segment.tcp and segment.flags & 0x80:
        kind |= 0x80
    vnet = struct.pack(
        "=BBHHHH", 1, kind, headers, gso_size, headers - transport, 16 if segment.tcp else 6
    )
    return vnet, packet
