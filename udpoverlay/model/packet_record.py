"""What is remembered of one packet: a record of the flight recorder.

Owns: its fields and their units. Must not know: how it was recorded, who shows it.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["POINTS", "PacketRecord"]

POINTS = ("tun-in", "udp-out", "udp-in", "tun-out")
"""Where a packet can be seen, in the order of ext/worker/event.h.

A packet of ours comes in from the TUN and goes out by UDP; a peer's comes in by UDP and goes out to
the TUN."""


class PacketRecord(NamedTuple):
    """The end of a packet's way through the tunnel."""

    time_ns: int
    """Of its batch, in nanoseconds since 1970."""
    worker: int
    number: int
    """Counted by worker and by kind (passed, dropped), from 0, without gaps."""
    verdict: str
    """Its verdict's name, for example "outbound_no_route"."""
    dropped: bool
    point: str
    """How far it came, one of POINTS."""
    remote: str
    """Public IP of the other host; "" where it is not known."""
    packets: int
    """Sent or written at once with it, itself included: segments of one flow. The others have no
    record of their own."""
    length: int
    """Bytes of the inner packet."""
    data: bytes
    """Its first bytes, from the IP header on; at most 72, and none where they were gone."""

    @property
    def outbound(self) -> bool:
        """Whether it came from the TUN."""
        return self.point in POINTS[:2]
