"""dataplane/impairments.py: places, ends and the log, with workers that answer as a test says."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from udpoverlay import _fastpath as fp
from udpoverlay.dataplane.impairments import Impairments
from udpoverlay.errors import KernelError, OperatorError
from udpoverlay.model.impairment import MOST_TOGETHER, Impairment

TEN = fp.IMPAIR_MILLIONTHS // 10


class Pump:
    def __init__(self) -> None:
        self.rules: dict[int, tuple[bytes, int, dict[str, int]]] = {}
        self.ended: list[int] = []

    def set_impairment(self, place: int, peer: bytes, until_ns: int, **what: int) -> None:
        self.rules[place] = (peer, until_ns, what)

    def end_impairment(self, place: int) -> None:
        self.ended.append(place)


class Worker:
    def __init__(self) -> None:
        self.places: set[int] = set()
        self.busy = False
        """It still uses what was offered."""
        self.memory = True

    def offer_impairment(self, place: int) -> bool:
        if not self.memory:
            raise MemoryError
        self.places.add(place)
        return True

    def reclaim_impairment(self, place: int) -> bool:
        if not self.busy:
            self.places.discard(place)
        return place not in self.places

    def impairment_counts(self, place: int) -> tuple[int, int, int, int, int, int, int]:
        return (10, 2, 0, 0, 0, 0, 1)


class World:
    def __init__(self, *, allowed: bool = True) -> None:
        self.pump, self.workers = Pump(), [Worker(), Worker()]
        self.made = Impairments(self.pump, self.workers, allowed=allowed)

    def set(self, peer: str = "192.0.2.2", **what: Any) -> None:
        self.made.set(
            Impairment(peer, **{"seconds": 60.0, "seed": 7, "loss_percent": 10.0, **what})
        )

    def busy(self, busy: bool) -> None:
        for worker in self.workers:
            worker.busy = busy


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.getMessage()} {getattr(record, 'fields', {})}" for record in caplog.records]


def test_every_worker_gets_it_in_the_units_of_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.set(delay_ms=50.0, jitter_ms=10.0, reorder_percent=1.0, reorder_ms=5.0)
    [(place, (peer, until, what))] = world.pump.rules.items()
    assert peer == bytes([192, 0, 2, 2])
    assert abs(until - time.monotonic_ns() - 60e9) < 10e9
    assert what == {
        "seed": 7, "loss": TEN, "duplicate": 0, "corrupt": 0, "reorder": TEN // 10,
        "behind_us": 5000, "delay_us": 50_000, "jitter_us": 10_000, "rate": 0,
    }  # fmt: skip
    assert [worker.places for worker in world.workers] == [{place}, {place}]
    [state] = world.made.states()
    assert (state.packets, state.lost, state.waiting) == (20, 4, 2)
    assert 50 < state.left_seconds <= 60
    [line] = lines(caplog)
    assert "impairment starts" in line
    assert "192.0.2.2" in line
    assert "loss 10 %" in line


def test_it_is_refused_where_it_is_not_allowed_and_the_way_is_named() -> None:
    world = World(allowed=False)
    with pytest.raises(OperatorError, match="--allow-impair"):
        world.set()
    assert not world.pump.rules


def test_a_new_one_for_a_peer_replaces_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.set()
    world.busy(True)
    world.set(loss_percent=20.0)
    assert world.pump.ended == [0]
    [state] = world.made.states()
    assert state.impairment.loss_percent == 20.0
    assert set(world.pump.rules) == {0, 1}, "the old one's place is in use until it is given back"
    world.busy(False)
    world.made.look()
    assert any("impairment ended" in line and "replaced" in line for line in lines(caplog))
    [state] = world.made.states()
    assert state.impairment.loss_percent == 20.0


def test_as_many_peers_as_there_are_places_and_no_more() -> None:
    world = World()
    for number in range(MOST_TOGETHER):
        world.set(f"192.0.2.{number}")
    with pytest.raises(OperatorError, match=r"8 peers are impaired already: 192\.0\.2\.0, "):
        world.set("192.0.2.99")
    world.set("192.0.2.3", loss_percent=20.0)  # that one is free at once
    assert len(world.made.states()) == MOST_TOGETHER
    assert world.made.end("192.0.2.5")
    world.set("192.0.2.99")


def test_a_place_that_a_worker_still_uses_is_not_used_again() -> None:
    world = World()
    for number in range(MOST_TOGETHER):
        world.set(f"192.0.2.{number}")
    world.busy(True)
    assert world.made.end("192.0.2.5")
    with pytest.raises(OperatorError, match="try again in a second"):
        world.set("192.0.2.99")


def test_it_ends_when_asked_and_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.set()
    assert not world.made.end("192.0.2.3")
    assert world.made.end("192.0.2.2")
    assert not world.made.end("192.0.2.2")
    assert world.made.states() == []
    world.made.look()
    assert "asked for" in lines(caplog)[-1]


async def test_its_time_ends_it_and_the_log_says_what_it_did(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    task = asyncio.create_task(world.made.run())
    world.set(seconds=0.1)
    while any(worker.places for worker in world.workers):  # noqa: ASYNC110 - what a worker holds
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    task.cancel()
    assert world.made.states() == []
    assert "its time is over" in lines(caplog)[-1]
    assert "'lost': 4" in lines(caplog)[-1]


def test_without_memory_none_is_active_and_all_is_given_back() -> None:
    world = World()
    world.workers[1].memory = False
    with pytest.raises(KernelError, match="no memory"):
        world.set()
    assert world.made.states() == []
    assert world.pump.ended == [0]
    world.made.look()
    assert world.workers[0].places == set()


def test_the_end_of_the_tunnel_ends_it_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.set()
    world.busy(True)
    world.made.stop()
    assert world.made.states() == []
    assert "the tunnel stopped" in lines(caplog)[-1]
