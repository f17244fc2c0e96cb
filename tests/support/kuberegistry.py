"""A KubeRegistry that is open, one that waits for its lease, and what its watch told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone

from netaddr import IPAddress, IPNetwork

from tests.support.kubecluster import (
    until,
)
from udpoverlay.clock import Clock, SystemClock
from udpoverlay.errors import OperatorError
from udpoverlay.model.config import KubeConfigSource
from udpoverlay.model.events import Added, Event, Snapshot
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.schedule import Moment
from udpoverlay.registry.kubernetes.registry import KubeRegistry, KubeTiming, open_kube

QUICK = KubeTiming(sync=30.0, poll=0.02)
ATTRS = LeaseAttrs(IPAddress("192.0.2.1"))
UDP = {
    "backend-data": "null",
    "backend-type": "",
    "kube-subnet-manager": "true",
    "public-ip": "192.0.2.1",
}
NOW = datetime(2026, 3, 1, 12, 30, 59, 999999, tzinfo=timezone.utc)


class NoonClock(SystemClock):
    """The machine's, but for the time of day."""

    def now(self) -> Moment:
        return Moment(self.monotonic(), NOW.timestamp())


CLOCK = NoonClock()


def subnet(text: str) -> Subnet:
    return Subnet(IPNetwork(text))


@asynccontextmanager
async def opened(source: KubeConfigSource, clock: Clock = CLOCK) -> AsyncIterator[KubeRegistry]:
    registry = await open_kube(source, timing=QUICK, clock=clock)
    try:
        yield registry
    finally:
        await registry.aclose()


class Told:
    """Reads a watch in the background; `leases` is what a follower knows now."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self.events: list[Event] = []
        self.leases: dict[str, str] = {}
        self._task = asyncio.ensure_future(self._read(events))

    async def _read(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            self.events.append(event)
            if isinstance(event, Snapshot):
                self.leases = {str(x.subnet): str(x.attrs.public_ip) for x in event.leases}
            elif isinstance(event, Added):
                self.leases[str(event.lease.subnet)] = str(event.lease.attrs.public_ip)
            else:
                self.leases.pop(str(event.subnet), None)

    async def become(self, leases: dict[str, str]) -> None:
        await until(lambda: self._task.done() or self.leases == leases, f"{leases}")
        if self._task.done():
            self._task.result()

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@asynccontextmanager
async def watching(registry: KubeRegistry) -> AsyncIterator[Told]:
    told = Told(registry.watch())
    try:
        yield told
    finally:
        await told.close()


async def waits(registry: KubeRegistry, *words: str) -> None:
    await until(lambda: all(word in registry.waiting for word in words), f"{words}")


@asynccontextmanager
async def acquiring(registry: KubeRegistry) -> AsyncIterator[asyncio.Task[Lease]]:
    task = asyncio.ensure_future(registry.acquire(ATTRS, None))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, OperatorError):
            await task
