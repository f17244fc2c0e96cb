"""One host with its control: a registry in memory, a clock that only the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

from netaddr import IPNetwork

from tests.support.aio import settle
from tests.support.clock import FakeClock
from tests.support.leases import Sink, attrs, lease, peers_for, subnet
from udpoverlay.control import Control
from udpoverlay.errors import RegistryConflict
from udpoverlay.model.endpoint import Way
from udpoverlay.model.lease import Lease
from udpoverlay.model.netconf import NetConf
from udpoverlay.registry.memory import MemoryRegistry, MemoryStore

TERM = 86400
MARGIN = 3600
CONF = NetConf(network=IPNetwork("10.5.0.0/16")).validated()
US = attrs("192.0.2.100")
A = lease("10.5.1.0/24", "192.0.2.1", registry_lease=1)
B = lease("10.5.2.0/24", "192.0.2.2", registry_lease=1)


class World:
    """One host with its control running, the store, the clock and the sink around it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(CONF, self.clock.monotonic)
        self.registry = MemoryRegistry(self.store, rng=random.Random(1), term=TERM)
        self.sink = Sink()
        self.first_routes: list[dict[str, str]] = []
        self.ways: dict[str, Way] = {}
        """Where the kernel sends datagrams for an address; the others go to the underlay."""
        self.control: Control
        self.task: asyncio.Task[None]

    async def start(self, registry: MemoryRegistry | None = None) -> None:
        used = registry if registry is not None else self.registry
        own = await used.acquire(US, subnet("10.5.100.0/24"))
        self.control = Control(
            used,
            self.sink,
            own,
            peers_for(own, way=lambda address: self.ways.get(str(address), Way.UNDERLAY)),
            renew_margin=MARGIN,
            clock=self.clock,
            on_first_routes=lambda: self.first_routes.append(dict(self.sink.routes)),
        )
        self.task = asyncio.ensure_future(self.control.run())
        await settle()

    async def put(self, *leases: Lease) -> None:
        for one in leases:
            self.store.put(one)
        await self.clock.advance(0.01)

    def ours(self) -> Lease:
        found = self.store.get(self.control.lease.subnet)
        assert found is not None
        return found

    def alive(self) -> bool:
        return not self.task.done()


@contextlib.asynccontextmanager
async def world(
    registry: type[MemoryRegistry] | None = None, made: World | None = None
) -> AsyncIterator[World]:
    made = World() if made is None else made
    await made.start(registry(made.store, term=TERM) if registry is not None else None)
    try:
        yield made
    finally:
        made.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, RegistryConflict):
            await made.task
