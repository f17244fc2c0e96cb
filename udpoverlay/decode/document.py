"""A packet that was taken apart, as `udpoverlay decode --json` has it: docs/reference/decode.md."""

from __future__ import annotations

from typing import Any

from udpoverlay.decode.ip import Ip
from udpoverlay.decode.tunnel import Dissected

__all__ = ["document"]

SCHEMA = 1


def document(found: Dissected) -> dict[str, Any]:
    """One packet's object."""
    frame = found.frame
    return {
        "schema": SCHEMA,
        "number": frame.number,
        "seconds": frame.seconds,
        "length": frame.length,
        "captured": len(frame.data),
        "comment": frame.comment,
        "tunnel": found.tunnel,
        "vni": found.vni,
        "outer": None if found.outer is None else _packet(found.outer),
        "inner": [_packet(packet) for packet in found.inner],
        "other": found.other,
        "problems": [
            {"where": problem.where.value, "word": problem.word.value, "text": problem.text}
            for problem in found.problems
        ],
    }


def _packet(packet: Ip) -> dict[str, Any]:
    transport = packet.transport
    return {
        "version": packet.version,
        "source": packet.source,
        "destination": packet.destination,
        "protocol": packet.protocol,
        "ttl": packet.ttl,
        "length": packet.length,
        "fragment_offset": packet.fragment_offset,
        "transport": None if transport is None else transport.name,
        "source_port": None if transport is None else transport.source_port,
        "destination_port": None if transport is None else transport.destination_port,
        "detail": "" if transport is None else transport.detail,
    }
