"""Whose packet it is: addresses, protocol and ports, from the first bytes of it.

Owns: where they stand, and no more: each packet that a trace goes through is looked at. Must not
know: what is wrong with a packet (decode/ says that, of those that are shown).
RFC 791, RFC 8200.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Flow", "flow_of"]

_TCP, _UDP, _SCTP = 6, 17, 132
_WITH_PORTS = frozenset({_TCP, _UDP, _SCTP})
_EXTENSIONS = frozenset({0, 43, 60})
"""Hop by hop, routing, destination options; a fragment header differs."""
_FRAGMENT = 44
_MOST_EXTENSIONS = 8
_V4_HEADER, _V6_HEADER = 20, 40


class Flow(NamedTuple):
    """Addresses are numbers."""

    version: int
    source: int
    destination: int
    protocol: int
    source_port: int = -1
    """-1: the protocol has none, or they are not in this fragment."""
    destination_port: int = -1


def flow_of(data: bytes) -> Flow | None:
    """Of the packet that begins with `data`; None: its header is not whole."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= _V4_HEADER:
        first_piece = not (data[6] & 0x1F or data[7])
        at = (data[0] & 0xF) * 4
        protocol = data[9]
        source = int.from_bytes(data[12:16], "big")
        destination = int.from_bytes(data[16:20], "big")
    elif version == 6 and len(data) >= _V6_HEADER:
        protocol, at, first_piece = _behind_extensions(data)
        source = int.from_bytes(data[8:24], "big")
        destination = int.from_bytes(data[24:40], "big")
    else:
        return None
    if not first_piece or protocol not in _WITH_PORTS or len(data) < at + 4:
        return Flow(version, source, destination, protocol)
    return Flow(
        version,
        source,
        destination,
        protocol,
        data[at] << 8 | data[at + 1],
        data[at + 2] << 8 | data[at + 3],
    )


def _behind_extensions(data: bytes) -> tuple[int, int, bool]:
    """Protocol, where it begins, and whether that is in this piece of the packet."""
    protocol, at, first_piece = data[6], _V6_HEADER, True
    for _ in range(_MOST_EXTENSIONS):
        if len(data) < at + 8:
            break
        if protocol == _FRAGMENT:
            first_piece = first_piece and not (data[at + 2] or data[at + 3] & 0xF8)
            protocol, at = data[at], at + 8
        elif protocol in _EXTENSIONS:
            protocol, at = data[at], at + 8 + 8 * data[at + 1]
        else:
            break
    return protocol, at, first_piece
