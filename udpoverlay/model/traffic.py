"""What went to a peer and came from it, and what workers did: values between engine and admin.

Owns: the value types and their sums. Must not know: who counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PeerTraffic", "WorkerTimes"]


@dataclass(frozen=True, slots=True)
class WorkerTimes:
    """What one worker spent its time on since it began, in seconds."""

    total: float
    asleep: float
    """Waiting for a packet."""
    spinning: float
    """Looking on without finding one."""

    @property
    def working(self) -> float:
        """The rest: with packets."""
        return max(0.0, self.total - self.asleep - self.spinning)


@dataclass(frozen=True, slots=True)
class PeerTraffic:
    """Packets of one peer since start; bytes are those of inner packets."""

    sent_packets: int = 0
    sent_bytes: int = 0
    delivered_packets: int = 0
    delivered_bytes: int = 0
    drops: Mapping[str, int] = field(default_factory=dict)
    """Packets to it and from it by verdict; those of which it is not known whose they are count for
    no peer."""
    heard_ns: int = 0
    """When a datagram of its came last, on the monotonic clock; 0: never."""

    def __add__(self, other: PeerTraffic) -> PeerTraffic:
        return PeerTraffic(
            self.sent_packets + other.sent_packets,
            self.sent_bytes + other.sent_bytes,
            self.delivered_packets + other.delivered_packets,
            self.delivered_bytes + other.delivered_bytes,
            dict(Counter(self.drops) + Counter(other.drops)),
            max(self.heard_ns, other.heard_ns),
        )
