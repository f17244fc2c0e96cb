"""Requests and when they are sent: one after the other with a pause, or one and its answer.

Owns: deadlines. Must not know: which socket it is, what an outcome means.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from udpoverlay.reach.echo import Event, Kind
from udpoverlay.reach.hops import Hop
from udpoverlay.reach.sizes import Sizes, largest

__all__ = ["Ping", "Plan", "ask", "hops", "pings", "search"]

_SIZE_TRIES = 3
"""One lost packet says nothing of its size."""
_LEAST_SECONDS = 0.2
_SEQUENCES = 1 << 16


class _Socket(Protocol):
    def send(self, sequence: int, size: int, ttl: int = ...) -> Event | None: ...

    def receive(self, until: float) -> list[Event]: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of requests."""

    count: int
    interval: float
    """Seconds from one to the next."""
    timeout: float
    """Seconds after which an answer counts no more."""
    size: int
    """Bytes of the packet."""


@dataclass(frozen=True, slots=True)
class Ping:
    """One request that is over."""

    number: int
    event: Event | None
    """None: silence."""
    seconds: float | None = None
    """Until the answer; None: there was none."""


def pings(sock: _Socket, plan: Plan) -> Iterator[Ping]:
    """Send as planned; each request once it is over."""
    begun, sent = time.monotonic(), 0
    waiting: dict[int, tuple[int, float]] = {}
    while sent < plan.count or waiting:
        now = time.monotonic()
        if sent < plan.count and now >= begun + sent * plan.interval:
            sent += 1
            refused = sock.send(sent % _SEQUENCES, plan.size)
            if refused is not None:
                yield Ping(sent, refused)
            else:
                waiting[sent % _SEQUENCES] = (sent, now)
        for sequence, (number, at) in list(waiting.items()):
            if time.monotonic() - at >= plan.timeout:
                del waiting[sequence]
                yield Ping(number, None)
        moments = [at + plan.timeout for _, at in waiting.values()]
        if sent < plan.count:
            moments.append(begun + sent * plan.interval)
        if not moments:
            return
        for event in sock.receive(min(moments)):
            if event.sequence in waiting:
                number, at = waiting.pop(event.sequence)
                answered = event.kind is Kind.ANSWER
                yield Ping(number, event, event.at - at if answered else None)


def ask(
    sock: _Socket, sequence: int, size: int, seconds: float, ttl: int = 64
) -> tuple[Event | None, float]:
    """One request and what came of it, with the seconds that it took."""
    begun = time.monotonic()
    refused = sock.send(sequence % _SEQUENCES, size, ttl)
    if refused is not None:
        return refused, 0.0
    while time.monotonic() < begun + seconds:
        for event in sock.receive(begun + seconds):
            if event.sequence == sequence % _SEQUENCES:
                return event, event.at - begun
    return None, seconds


def search(sock: _Socket, first: int, floor: int, ceiling: int, slowest: float) -> Sizes:
    """The largest size that passes; requests are numbered from `first`.

    `slowest`: seconds of the slowest round trip so far, from which follows what silence is.
    """
    seconds, number = max(_LEAST_SECONDS, 4 * slowest), first

    def try_size(size: int) -> Event | None:
        nonlocal number
        last: Event | None = None
        for _ in range(_SIZE_TRIES):
            event, _ = ask(sock, number, size, seconds)
            number += 1
            if event is not None and event.kind in {Kind.ANSWER, Kind.TOO_BIG_HERE, Kind.TOO_BIG}:
                return event
            last = event or last
        return last

    return largest(floor, ceiling, try_size)


def hops(sock: _Socket, most: int, probes: int, seconds: float, size: int) -> Iterator[Hop]:
    """TTL 1, 2, … with some requests each, until there is no way further."""
    number = 0
    for ttl in range(1, most + 1):
        trips: list[float | None] = []
        events: list[Event] = []
        for _ in range(probes):
            number += 1
            event, took = ask(sock, number, size, seconds, ttl)
            trips.append(None if event is None else took)
            if event is not None:
                events.append(event)
        hop = Hop(ttl, trips, events)
        yield hop
        if hop.is_last:
            return
