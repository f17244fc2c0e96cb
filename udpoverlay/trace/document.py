"""A record as an object for other programs: docs/reference/trace.md.

Owns: its keys. Must not know: who prints it.
"""

from __future__ import annotations

from udpoverlay.decode.ip import Ip, read_ip
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.trace.identity import packet_id
from udpoverlay.trace.pcapng import MEANINGS

__all__ = ["document"]


def document(record: PacketRecord) -> dict[str, object]:
    """A packet's object: docs/reference/trace.md."""
    found = read_ip(record.data, max(record.length, len(record.data)))
    packet = found if isinstance(found, Ip) else None
    transport = packet.transport if packet else None
    return {
        "time_ns": record.time_ns,
        "direction": "outbound" if record.outbound else "inbound",
        "point": record.point,
        "verdict": record.verdict,
        "dropped": record.dropped,
        "meaning": MEANINGS.get(record.verdict, ""),
        "peer": record.remote,
        "id": f"{packet_id(record.data):016x}",
        "length": record.length,
        "packets": record.packets,
        "source": packet.source if packet else None,
        "destination": packet.destination if packet else None,
        "protocol": packet.protocol if packet else None,
        "source_port": transport.source_port if transport else None,
        "destination_port": transport.destination_port if transport else None,
        "detail": transport.detail if transport else "",
        "worker": record.worker,
        "number": record.number,
        "data": record.data.hex(),
    }
