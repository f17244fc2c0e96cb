"""Records as lines of JSON, in the stream of a daemon (docs/reference/admin.md).

Owns: their keys, in both directions. Must not know: who sends and who reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from udpoverlay.model.packet_record import POINTS, PacketRecord

__all__ = ["record_document", "record_of"]


def record_document(record: PacketRecord) -> dict[str, object]:
    """A record as JSON; its bytes in hex digits."""
    document: dict[str, object] = record._asdict()
    document["data"] = record.data.hex()
    return document


def record_of(document: Mapping[str, Any]) -> PacketRecord:
    """The record that a daemon wrote; keys that we do not know are its own.

    Raises KeyError, TypeError or ValueError.
    """
    values = {name: document[name] for name in PacketRecord._fields}
    for name in ("time_ns", "worker", "number", "packets", "length"):
        values[name] = int(values[name])
    values["data"] = bytes.fromhex(values["data"])
    record = PacketRecord(**values)
    if record.point not in POINTS:
        raise ValueError(f"no point: {record.point!r}")
    return record
