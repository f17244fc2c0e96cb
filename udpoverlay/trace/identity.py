"""One number for a packet, the same wherever it is seen on its way through the tunnel.

Owns: which bytes of a packet do not change on the way. Must not know: who compares.

    host A: tun-in, udp-out ── the same id ── host B: udp-in, tun-out

Each host takes a hop: TTL and header checksum change, and congestion may be marked in the TOS
byte (RFC 6040). All else stays; two packets of one flow differ in it by identification, sequence
number or checksum. Packets that are equal byte for byte have one id.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["ID_BYTES", "packet_id"]

ID_BYTES = 8
_LOOKED_AT = 64
"""Bytes: IPv6 and TCP without options; a record holds more (ext/trace/ring.h)."""
_V4_TOS, _V4_TTL, _V4_CHECKSUM = 1, 8, slice(10, 12)
_V6_HOP_LIMIT = 7


def packet_id(data: bytes) -> int:
    """64 bits, from the first bytes of an inner packet."""
    head = bytearray(data[:_LOOKED_AT])
    version = head[0] >> 4 if head else 0
    if version == 4 and len(head) >= 20:
        head[_V4_TOS] = head[_V4_TTL] = 0
        head[_V4_CHECKSUM] = b"\0\0"
    elif version == 6 and len(head) >= 40:
        head[0], head[1] = 0x60, head[1] & 0x0F  # traffic class
        head[_V6_HOP_LIMIT] = 0
    return int.from_bytes(blake2b(head, digest_size=ID_BYTES).digest(), "big")
