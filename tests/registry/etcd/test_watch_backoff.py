"""registry/etcd/watch.py: how often an etcd is asked that is away, or was."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable

import pytest

from tests.support.aio import in_thread, until
from tests.support.etcd import EtcdServer
from tests.support.etcdclient import client, nowhere, proxy_to
from udpoverlay.clock import SYSTEM_CLOCK
from udpoverlay.model.schedule import Moment
from udpoverlay.registry.etcd.client import EtcdClient
from udpoverlay.registry.etcd.values import (
    KeyValue,
)
from udpoverlay.registry.etcd.watch import Follower, FollowTiming, Range

pytestmark = pytest.mark.etcd

TIMING = FollowTiming(first_retry=0.1, max_retry=5.0, check_every=1e6)
JITTER = 1.25


class Nothing:
    """A listing that is not read."""

    def add(self, kv: KeyValue) -> None:
        pass


class Following:
    """A follower, and its clock: pauses are noted and last no time."""

    def __init__(self, etcd: EtcdClient) -> None:
        self.pauses: list[float] = []
        self.told = 0
        """Listings and changes."""
        self.opened = 0
        """Watches."""
        follower = Follower(
            etcd,
            Range.of(b"/x"),
            Nothing,
            counters=Counter(),
            report=lambda event, error: None,
            timing=TIMING,
            clock=self,
        )
        self.task = asyncio.ensure_future(self._follow(follower))

    def more(self, count: str) -> Awaitable[None]:
        """When `count` has grown from what it is now."""
        before = getattr(self, count)
        return until(lambda: getattr(self, count) > before)

    def now(self) -> Moment:
        return SYSTEM_CLOCK.now()

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic()

    async def sleep(self, seconds: float) -> None:
        if seconds > TIMING.max_retry * JITTER:  # between two checks of an open watch
            self.opened += 1
            await asyncio.Event().wait()
        self.pauses.append(seconds)
        await asyncio.sleep(0.01)

    async def _follow(self, follower: Follower[Nothing]) -> None:
        async for _ in follower.follow():
            self.told += 1


@contextlib.asynccontextmanager
async def following(etcd: EtcdClient) -> AsyncIterator[Following]:
    made = Following(etcd)
    try:
        yield made
    finally:
        made.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await made.task


def assert_doubling(pauses: list[float]) -> None:
    """From the first to the longest, each up to a quarter longer."""
    wanted = TIMING.first_retry
    for pause in pauses:
        assert wanted <= pause <= wanted * JITTER, (wanted, pauses)
        wanted = min(wanted * 2, TIMING.max_retry)


async def test_etcd_that_is_away_is_asked_less_and_less() -> None:
    async with following(client(nowhere())) as follower:
        await until(lambda: len(follower.pauses) >= 10)
    assert_doubling(follower.pauses[:10])
    assert len(set(follower.pauses[6:10])) == 4, "all hosts come back in the same moment"


async def test_etcd_that_was_back_is_asked_soon_the_next_time(server: EtcdServer) -> None:
    proxy = await proxy_to(server.url)
    await proxy.stop()
    async with following(client(proxy.url)) as follower:
        for number in range(2):
            await until(lambda: len(follower.pauses) >= 8)
            assert_doubling(follower.pauses)
            await proxy.start()
            await follower.more("opened")
            seen = follower.more("told")
            await in_thread(server.put, "/x", str(number))
            await seen
            follower.pauses.clear()
            await proxy.stop()
