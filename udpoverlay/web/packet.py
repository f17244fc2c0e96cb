"""A packet as the page shows it: a row of the list, and all that can be said of one. Pure.

Owns: the keys that page/packets.js and page/packet.js read. Must not know: how records are got.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from udpoverlay.decode.fields import layers
from udpoverlay.decode.ip import Ip, read_ip
from udpoverlay.decode.line import ends
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.trace.document import document
from udpoverlay.trace.origin import Origin
from udpoverlay.trace.pcapng import OUTER_POINTS, outer_header, passed
from udpoverlay.web.way import Step

__all__ = ["detail", "row"]

_SHOWN = ("point", "verdict", "dropped", "meaning", "peer", "length", "packets")


def row(record: PacketRecord, key: int, host: str) -> dict[str, Any]:
    """One line of the list; `key`: by which the page asks for more of it."""
    return {
        "key": key,
        # A browser's numbers end at 2^53: no nanoseconds.
        "milliseconds": record.time_ns // 10**6,
        "direction": "outbound" if record.outbound else "inbound",
        **_common(record, host),
    }


def detail(
    record: PacketRecord,
    host: str,
    origin: Origin | None,
    steps: Sequence[Step],
    called: Callable[[str], str],
) -> dict[str, Any]:
    """Bytes with their fields, and the way; `called`: a host's name by its public IP."""
    outer = b""
    if origin is not None and OUTER_POINTS.intersection(passed(record)):
        outer = outer_header(origin, record)
    data = outer + record.data
    found = layers(data, len(outer) + record.length, tunnelled=bool(outer))
    return {
        "id": document(record)["id"],
        **_common(record, host),
        "data": data.hex(),
        "made_again": len(outer),
        "layers": [asdict(layer) for layer in found],
        "way": [{**asdict(step), "host": called(step.host)} for step in steps],
    }


def _common(record: PacketRecord, host: str) -> dict[str, Any]:
    shown = document(record)
    return {"host": host, "what": _what(record), **{name: shown[name] for name in _SHOWN}}


def _what(record: PacketRecord) -> str:
    found = read_ip(record.data, max(record.length, len(record.data)))
    if isinstance(found, Ip):
        return ends(found)
    return "no IP packet" if record.data else "its bytes were gone"
