"""reach/live/exchange.py: when requests are sent, when they are lost; the path is made up."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from udpoverlay.reach.echo import Event, Kind
from udpoverlay.reach.live import exchange
from udpoverlay.reach.live.exchange import Plan, ask, hops, pings, search

Rule = Callable[[int, int, int], Event | None]


def answered(sequence: int, size: int = 0, ttl: int = 0) -> Event:
    return Event(sequence, Kind.ANSWER, time.monotonic(), "10.5.73.0", 62)


class Path:
    """Answers by a rule of (sequence, size, ttl); silence waits no time."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.sent: list[tuple[int, int, int]] = []
        self.coming: list[Event] = []

    def send(self, sequence: int, size: int, ttl: int = 64) -> Event | None:
        self.sent.append((sequence, size, ttl))
        event = self.rule(sequence, size, ttl)
        if event is not None and event.kind in {Kind.TOO_BIG_HERE, Kind.REFUSED_HERE}:
            return event
        if event is not None:
            self.coming.append(event)
        return None

    def receive(self, until: float) -> list[Event]:
        found, self.coming = self.coming, []
        if not found:
            time.sleep(max(0.0, until - time.monotonic()))
        return found


def plan(count: int = 3, interval: float = 0.001, timeout: float = 0.02) -> Plan:
    return Plan(count, interval, timeout, 84)


def test_each_request_is_answered_once() -> None:
    path = Path(answered)
    found = list(pings(path, plan()))
    assert [ping.number for ping in found] == [1, 2, 3]
    assert all(ping.seconds is not None and ping.seconds >= 0 for ping in found)


def test_request_without_answer_is_lost_after_the_timeout() -> None:
    found = list(pings(Path(lambda n, *_: None if n == 2 else answered(n)), plan()))
    assert {ping.number: ping.event is None for ping in found} == {1: False, 2: True, 3: False}


def test_second_answer_to_one_request_is_not_counted() -> None:
    path = Path(answered)
    path.coming = [answered(1), answered(9)]
    assert len(list(pings(path, plan(count=1)))) == 1


def test_refusal_of_this_host_ends_the_request_at_once() -> None:
    refused = Event(1, Kind.REFUSED_HERE, 0.0, words="no")
    [ping] = pings(Path(lambda *_: refused), plan(count=1, timeout=60))
    assert (ping.event, ping.seconds) == (refused, None)


def test_more_requests_than_sequence_numbers_are_all_counted() -> None:
    """The number in the packet has 16 bits."""
    numbers = [ping.number for ping in pings(Path(answered), plan(count=65540, interval=0))]
    assert numbers == list(range(1, 65541))


def test_answer_to_an_earlier_request_is_not_taken_for_this_one() -> None:
    path = Path(lambda n, *_: None)
    path.coming = [answered(1)]
    event, _ = ask(path, 2, 84, 0.01)
    assert event is None


def test_size_that_is_lost_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_LEAST_SECONDS", 0.01)
    lost: set[int] = set()

    def lossy(sequence: int, size: int, ttl: int) -> Event | None:
        if size in lost and size <= 1000:
            return answered(sequence)
        lost.add(size)
        return None

    path = Path(lossy)
    found = search(path, 1, 990, 1010, 0.0)
    assert (found.largest, found.limit) == (1000, "silence")


def test_hops_end_with_the_target() -> None:
    def way(sequence: int, size: int, ttl: int) -> Event:
        if ttl < 3:
            return Event(sequence, Kind.TIME_EXCEEDED, time.monotonic(), f"10.5.7{ttl}.0")
        return answered(sequence)

    found = list(hops(Path(way), 12, 2, 1.0, 60))
    assert [hop.senders for hop in found] == [["10.5.71.0"], ["10.5.72.0"], ["10.5.73.0"]]
    assert found[-1].reached
    assert all(len(hop.trips) == 2 for hop in found)


def test_hops_end_with_the_most_that_is_asked_for() -> None:
    found = list(hops(Path(lambda *_: None), 2, 1, 0.001, 60))
    assert [(hop.ttl, hop.trips, hop.reached) for hop in found] == [
        (1, [None], False),
        (2, [None], False),
    ]
