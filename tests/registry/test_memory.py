"""The registry in memory keeps the contract."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from netaddr import IPNetwork

from tests.registry.contract import RenewingContract, RenewingHarness
from tests.support.aio import collecting
from tests.support.clock import FakeClock
from tests.support.leases import attrs, lease, subnet
from udpoverlay.errors import OutOfSubnets
from udpoverlay.model.events import Removed
from udpoverlay.model.lease import Lease, LeaseAttrs
from udpoverlay.model.netconf import NetConf
from udpoverlay.registry.memory import MemoryRegistry, MemoryStore

CONF = NetConf(network=IPNetwork("10.5.0.0/16")).validated()


class MemoryHarness:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(CONF, self.clock.monotonic)

    def registry(self, host: int) -> MemoryRegistry:
        return MemoryRegistry(self.store, rng=random.Random(host))

    def attrs(self, host: int) -> LeaseAttrs:
        return attrs(f"192.0.2.{host}")

    async def without_configuration(self) -> None:
        self.store.conf = None

    async def delete(self, lease: Lease) -> None:
        self.store.delete(lease.subnet)

    async def take_over(self, lease: Lease, host: int) -> None:
        self.store.put(replace(lease, attrs=self.attrs(host)))

    async def malformed(self) -> None:
        """Nothing malformed can be in it."""

    async def change(self, host: int, lease: Lease) -> LeaseAttrs:
        changed = attrs(f"192.0.2.{host + 100}")
        self.store.put(replace(lease, attrs=changed))
        return changed

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self.store.reachable = False
        yield
        self.store.reachable = True


class TestContract(RenewingContract):
    @pytest.fixture
    def harness(self) -> RenewingHarness:
        return MemoryHarness()


async def test_what_ran_out_goes_at_the_next_sweep_and_reservations_stay() -> None:
    world = MemoryHarness()
    own = await world.registry(1).acquire(attrs("192.0.2.1"), None)
    pinned = world.store.put(lease("10.5.9.0/24", "192.0.2.9"))
    async with collecting(world.registry(2).watch()) as watch:
        await watch.until(lambda events: events)
        await world.clock.advance(86401)
        world.store.sweep()
        await watch.until(lambda events: len(events) == 2)
        assert watch.items[1] == Removed(own.subnet)
    assert world.store.leases() == (pinned,)


async def test_a_reservation_keeps_having_no_term() -> None:
    world = MemoryHarness()
    world.store.put(lease("10.5.9.0/24", "192.0.2.1"))
    own = await world.registry(1).acquire(attrs("192.0.2.1"), None)
    assert (own.subnet, own.expires_at) == (subnet("10.5.9.0/24"), None)
    assert (await world.registry(1).renew(own)).expires_at is None


async def test_a_full_network_has_no_subnet_left() -> None:
    world = MemoryHarness()
    world.store.conf = NetConf(network=IPNetwork("10.5.0.0/22"), subnet_len=24).validated()
    for host in (1, 2, 3):
        await world.registry(host).acquire(attrs(f"192.0.2.{host}"), None)
    with pytest.raises(OutOfSubnets):
        await world.registry(4).acquire(attrs("192.0.2.4"), None)
