"""Thousands of overlapping claims neither stop the event loop nor make a renewal expensive.

Bounds are in CPU time of this thread, far above what is needed and far below what comparing every
pair takes, so that a busy machine changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.aio import until
from tests.support.leases import lease, peers_for
from udpoverlay.control import Control
from udpoverlay.model.events import Added, Event, Removed, Snapshot
from udpoverlay.model.lease import Lease
from udpoverlay.registry.memory import MemoryRegistry, MemoryStore

CLAIMS = 8000
OWN = lease("10.250.0.0/24", "172.16.0.1")
LONGEST_TURN = 0.5
"""CPU seconds; a step takes 5 ms. Comparing each pair took a minute."""


@functools.cache
def working() -> tuple[Lease, ...]:
    return tuple(
        lease(f"10.{n // 250}.{n % 250}.0/24", f"192.0.{n // 250}.{n % 250 + 1}")
        for n in range(CLAIMS)
    )


@functools.cache
def overlapping() -> tuple[Lease, ...]:
    return tuple(
        lease(f"10.{n // 250}.{n % 250}.0/{25 + n % 4}", f"198.51.{n // 250}.{n % 250 + 1}")
        for n in range(CLAIMS)
    )


@functools.cache
def wider() -> tuple[Lease, ...]:
    return tuple(lease(f"10.{n}.0.0/16", f"203.0.113.{n + 1}") for n in range(CLAIMS // 250))


def everything() -> Snapshot:
    return Snapshot((*working(), *overlapping(), *wider()))


@pytest.fixture(autouse=True)
def frozen() -> Iterator[None]:
    """A full collection looks at everything that other tests left: that is no turn of ours."""
    everything()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Scripted(MemoryRegistry):
    """A registry that tells what the test puts into its queue."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(None, lambda: 0.0))
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    async def watch(self) -> AsyncIterator[Event]:
        while True:
            yield await self.events.get()

    async def watch_own(self, lease: Lease) -> AsyncIterator[Event]:
        await asyncio.Event().wait()
        yield Added(lease)


class Publications:
    """A sink that counts."""

    def __init__(self) -> None:
        self.count = 0
        self.routes = 0

    def replace(self, routes: Any) -> None:
        self.count += 1
        self.routes = len(routes)


class Turns:
    """The longest CPU time that anything kept the loop from its next turn, a millisecond more."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.longest, before = max(self.longest, now - before), now


class Host:
    def __init__(self) -> None:
        self.registry, self.sink, self.turns = Scripted(), Publications(), Turns()
        self.control = Control(self.registry, self.sink, OWN, peers_for(OWN, "10.0.0.0/8"))

    async def take(self, *events: Event) -> float:
        """Let the control take `events`; the CPU seconds that this took."""
        started = time.thread_time()
        # Once the last one is counted, those before it are done.
        events = (*events, Removed(OWN.subnet))
        wanted = self.control.counters()["events"] + len(events)
        for event in events:
            self.registry.events.put_nowait(event)
        await until(lambda: self.control.counters()["events"] == wanted)
        return time.thread_time() - started


@contextlib.asynccontextmanager
async def following() -> AsyncIterator[Host]:
    host = Host()
    tasks = [asyncio.ensure_future(work) for work in (host.control.run(), host.turns.watch())]
    try:
        yield host
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def renewals(leases: tuple[Lease, ...]) -> Iterator[Added]:
    """What each renewal of each host looks like: equal attributes, other objects."""
    for one in leases:
        yield Added(Lease(one.subnet, one.attrs, revision=7, registry_lease=7))


async def test_eight_thousand_overlapping_claims_block_no_turn_of_the_loop() -> None:
    async with following() as host:
        spent = await host.take(everything())
        assert host.turns.longest < min(LONGEST_TURN, spent / 3), "in steps"
        await until(lambda: host.sink.count)
        counters = host.control.counters()
        assert host.sink.routes == CLAIMS
        assert counters["leases_waiting"] == CLAIMS + len(wider())
        await host.take(*renewals(working()))
        assert host.turns.longest < LONGEST_TURN
        host.turns.longest = 0.0
        spent = await host.take(Snapshot(()))
        assert host.turns.longest < min(LONGEST_TURN, spent / 3), "in steps"


async def test_five_hundred_renewals_among_overlapping_claims_cost_little() -> None:
    async with following() as host:
        await host.take(everything())
        await until(lambda: host.sink.count)
        published = host.sink.count
        assert await host.take(*renewals(working()[:250]), *renewals(overlapping()[:250])) < 0.5
        assert host.sink.count == published


async def test_ranges_that_become_free_go_to_those_who_wait_without_a_long_turn() -> None:
    async with following() as host:
        await host.take(everything())
        spent = await host.take(*(Removed(one.subnet) for one in working()[:1000]))
        assert spent < 2.0
        assert host.control.counters()["leases_waiting"] == CLAIMS - 1000 + len(wider())
        await host.take(Snapshot(overlapping()))
        await until(lambda: host.sink.routes == CLAIMS)
        assert host.turns.longest < LONGEST_TURN
        assert host.control.counters()["leases_waiting"] == 0
