"""The largest packet that passes: a binary search, and what stops the next longer one.

Owns: the order in which sizes are tried, what a failure means. Must not know: how a size is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from udpoverlay.reach.echo import Event, Kind

__all__ = ["Sizes", "largest"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a search found; sizes are bytes of the inner packet, IPv4 header included."""

    largest: int
    """Was answered."""
    ceiling: int
    """The longest that was asked for."""
    tried: int
    """How many sizes."""
    stopped_by: Event | None = None
    """What came for the packet one byte longer than `largest`; None: nothing at all."""
    reported: Event | None = None
    """The last router that said "fragmentation needed", of any size."""

    @property
    def whole(self) -> bool:
        """Whether nothing stops the longest."""
        return self.largest == self.ceiling

    @property
    def limit(self) -> str:
        """What stops longer packets: none, here, icmp or silence."""
        if self.whole:
            return "none"
        if self.stopped_by is not None and self.stopped_by.kind is Kind.TOO_BIG_HERE:
            return "here"
        if self.reported is not None or self.stopped_by is not None:
            return "icmp"
        return "silence"


def largest(floor: int, ceiling: int, ask: Callable[[int], Event | None]) -> Sizes:
    """Search from `floor`, which passes, to `ceiling`.

    `ask(size)` gives what came for a packet so long: an answer, an error, or None for silence.
    Assumes that what passes at one size passes at every shorter one.
    """
    low, high = floor, ceiling + 1
    middle, tried = ceiling, 0
    stopped_by: Event | None = None
    reported: Event | None = None
    while high - low > 1:
        event = ask(middle)
        tried += 1
        if event is not None and event.kind is Kind.ANSWER:
            low = middle
        else:
            high, stopped_by = middle, event
        if event is not None and event.kind is Kind.TOO_BIG:
            reported = event
        middle = _next(low, high, reported.mtu if reported else 0)
    return Sizes(low, ceiling, tried, stopped_by if high <= ceiling else None, reported)


def _next(low: int, high: int, named: int) -> int:
    """The MTU that a router named and the byte above it, else the middle."""
    for size in (named, named + 1):
        if low < size < high:
            return size
    return (low + high) // 2
