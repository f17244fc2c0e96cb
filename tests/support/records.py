"""Records of packets for tests, made from their fields."""

from __future__ import annotations

from typing import Any

from tests.support.captures import udp
from tests.support.packets import ipv4
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.trace.origin import Origin

__all__ = ["NO_ROUTE", "ORIGIN", "SENT", "record"]

ORIGIN = Origin("n1", "192.0.2.1", 8285, "flannel0")
_CUT = 72


def record(packet: bytes | None = None, **changed: Any) -> PacketRecord:
    """A packet that was sent to 192.0.2.2, unless something is `changed`."""
    if packet is None:
        packet = ipv4(udp(b"hello", port=53, source_port=4000))
    facts: dict[str, Any] = {
        "time_ns": 1_700_000_000_123_456_789,
        "worker": 0,
        "number": 0,
        "verdict": "outbound_sent",
        "dropped": False,
        "point": "udp-out",
        "remote": "192.0.2.2",
        "packets": 1,
        "length": len(packet),
        "data": packet[:_CUT],
    }
    return PacketRecord(**{**facts, **changed})


SENT = record()
NO_ROUTE = record(verdict="outbound_no_route", dropped=True, point="tun-in", remote="")
