"""What every registry promises (udpoverlay/registry/base.py), as one suite.

A module of tests for one registry subclasses `RegistryContract` (`RenewingContract` where leases
run out) and gives the fixture `harness`: the few things that differ, such as how an administrator
deletes an entry. Everything above a registry may rely on what is asserted here and on nothing else.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

import pytest

from tests.support.aio import collecting, until
from udpoverlay.errors import RegistryConflict, RegistryUnavailable
from udpoverlay.model.events import Added, Event, Removed, Snapshot
from udpoverlay.model.lease import Lease, LeaseAttrs
from udpoverlay.registry.base import Registry, RenewingRegistry


class Harness(Protocol):
    """A registry's world, fresh for each test. Host numbers start at 1."""

    def registry(self, host: int) -> Registry:
        """A new connection of a host; opened inside the running loop, closed with aio.at_end."""

    def attrs(self, host: int) -> LeaseAttrs:
        """What that host publishes."""

    async def without_configuration(self) -> None:
        """Take the network configuration away."""

    async def delete(self, lease: Lease) -> None:
        """Delete an entry, as an administrator does."""

    async def malformed(self) -> None:
        """Write several entries that are no leases beside the good ones."""

    async def change(self, host: int, lease: Lease) -> LeaseAttrs:
        """Let `host` publish something else for its lease; return what."""

    def outage(self) -> contextlib.AbstractAsyncContextManager[None]:
        """The registry does not answer inside the with block and has lost nothing afterwards."""


class RenewingHarness(Harness, Protocol):
    """The world of a registry whose leases run out."""

    def registry(self, host: int) -> RenewingRegistry:
        """As Harness."""

    async def take_over(self, lease: Lease, host: int) -> None:
        """Let another host hold the entry of `lease`."""


def subnets(leases: Sequence[Lease]) -> set[str]:
    return {str(lease.subnet) for lease in leases}


def seen(events: Sequence[Event]) -> dict[str, Lease]:
    """What a follower that believes every event knows in the end."""
    known: dict[str, Lease] = {}
    for event in events:
        if isinstance(event, Snapshot):
            known = {str(lease.subnet): lease for lease in event.leases}
        elif isinstance(event, Added):
            known[str(event.lease.subnet)] = event.lease
        else:
            known.pop(str(event.subnet), None)
    return known


class RegistryContract:
    """Subclass it and define the fixture `harness`."""

    async def test_the_network_configuration_is_read_and_validated(self, harness: Harness) -> None:
        conf = await harness.registry(1).network_config()
        assert str(conf.network) == "10.5.0.0/16"
        assert conf.backend_type == "udp"

    async def test_no_configuration_yet_is_something_to_wait_for(self, harness: Harness) -> None:
        await harness.without_configuration()
        with pytest.raises(RegistryUnavailable):
            await harness.registry(1).network_config()

    async def test_a_host_gets_a_subnet_of_the_network_with_its_attributes(
        self, harness: Harness
    ) -> None:
        registry = harness.registry(1)
        conf = await registry.network_config()
        lease = await registry.acquire(harness.attrs(1), None)
        assert lease.attrs == harness.attrs(1)
        assert conf.network is not None
        assert lease.subnet.v4 is not None
        assert lease.subnet.v4 in conf.network

    async def test_a_host_that_asks_again_gets_the_same_subnet(self, harness: Harness) -> None:
        first = await harness.registry(1).acquire(harness.attrs(1), None)
        again = await harness.registry(1).acquire(harness.attrs(1), None)
        assert again.subnet == first.subnet

    async def test_hosts_get_subnets_that_do_not_overlap(self, harness: Harness) -> None:
        leases = [
            await harness.registry(host).acquire(harness.attrs(host), None) for host in (1, 2, 3)
        ]
        for index, one in enumerate(leases):
            assert not any(one.subnet.overlaps(other.subnet) for other in leases[index + 1 :])

    async def test_a_watch_begins_with_everything_and_goes_on_with_changes(
        self, harness: Harness
    ) -> None:
        first = await harness.registry(1).acquire(harness.attrs(1), None)
        async with collecting(harness.registry(2).watch()) as watch:
            await watch.until(lambda events: events)
            assert isinstance(watch.items[0], Snapshot)
            assert subnets(watch.items[0].leases) == {str(first.subnet)}
            assert not watch.items[0].lost_history

            second = await harness.registry(2).acquire(harness.attrs(2), None)
            await watch.until(lambda events: str(second.subnet) in seen(events))
            assert seen(watch.items)[str(second.subnet)].attrs == harness.attrs(2)

            await harness.delete(first)
            await watch.until(lambda events: Removed(first.subnet) in events)
            assert not any(isinstance(event, Snapshot) for event in watch.items[1:])

    async def test_watch_has_an_age_from_its_first_word_on(self, harness: Harness) -> None:
        await harness.registry(1).acquire(harness.attrs(1), None)
        registry = harness.registry(2)
        assert registry.watch_age() is None
        began = time.monotonic()
        async with collecting(registry.watch()) as watch:
            await watch.until(lambda events: events)
            await until(lambda: registry.watch_age() is not None)
            age = registry.watch_age()
            assert age is not None
            assert 0 <= age <= time.monotonic() - began

    async def test_a_watch_tells_changed_attributes(self, harness: Harness) -> None:
        lease = await harness.registry(1).acquire(harness.attrs(1), None)
        async with collecting(harness.registry(2).watch()) as watch:
            await watch.until(lambda events: events)
            changed = await harness.change(1, lease)
            assert changed != lease.attrs
            await watch.until(lambda events: seen(events)[str(lease.subnet)].attrs == changed)

    async def test_other_attributes_are_published_for_the_same_subnet(
        self, harness: Harness
    ) -> None:
        registry = harness.registry(1)
        lease = await registry.acquire(harness.attrs(1), None)
        async with collecting(harness.registry(2).watch()) as watch:
            await watch.until(lambda events: events)
            moved = await registry.republish(lease, harness.attrs(9))
            assert (moved.subnet, moved.attrs) == (lease.subnet, harness.attrs(9))
            await watch.until(
                lambda events: seen(events)[str(lease.subnet)].attrs == harness.attrs(9)
            )
            again = await registry.republish(moved, harness.attrs(9))  # an answer that was lost
            assert (again.subnet, again.attrs) == (moved.subnet, moved.attrs)

    async def test_several_followers_see_the_same(self, harness: Harness) -> None:
        async with (
            collecting(harness.registry(1).watch()) as one,
            collecting(harness.registry(2).watch()) as two,
        ):
            lease = await harness.registry(3).acquire(harness.attrs(3), None)
            for watch in (one, two):
                await watch.until(lambda events: str(lease.subnet) in seen(events))

    async def test_malformed_entries_are_skipped_and_nobody_is_lost(self, harness: Harness) -> None:
        first = await harness.registry(1).acquire(harness.attrs(1), None)
        registry = harness.registry(2)
        async with collecting(registry.watch()) as watch:
            await watch.until(lambda events: events)
            await harness.malformed()
            second = await harness.registry(2).acquire(harness.attrs(2), None)
            await watch.until(lambda events: str(second.subnet) in seen(events))
            assert set(seen(watch.items)) == subnets([first, second])
            assert not any(isinstance(event, Removed) for event in watch.items)
        async with collecting(harness.registry(3).watch()) as fresh:
            await fresh.until(lambda events: events)
            assert set(seen(fresh.items)) == subnets([first, second])

    async def test_an_outage_ends_no_watch_and_hides_no_change(self, harness: Harness) -> None:
        first = await harness.registry(1).acquire(harness.attrs(1), None)
        registry = harness.registry(2)
        async with collecting(registry.watch()) as watch:
            await watch.until(lambda events: events)
            async with harness.outage():
                with pytest.raises(RegistryUnavailable):
                    await registry.network_config()
                assert set(seen(watch.items)) == subnets([first])
            second = await harness.registry(3).acquire(harness.attrs(3), None)
            await watch.until(lambda events: str(second.subnet) in seen(events))
            assert set(seen(watch.items)) == subnets([first, second])
            assert not any(isinstance(event, Removed) for event in watch.items)

    async def test_completing_is_accepted(self, harness: Harness) -> None:
        registry = harness.registry(1)
        await registry.complete(await registry.acquire(harness.attrs(1), None))

    async def test_counters_are_plain_counts_and_grow(self, harness: Harness) -> None:
        registry = harness.registry(1)
        before = registry.counters()
        await registry.acquire(harness.attrs(1), None)
        after = registry.counters()
        assert set(before) == set(after)
        assert sum(after.values()) > sum(before.values())

    async def test_closing_twice_is_harmless(self, harness: Harness) -> None:
        registry = harness.registry(1)
        await registry.network_config()
        await registry.aclose()
        await registry.aclose()


class RenewingContract(RegistryContract):
    """The same, and what a registry promises whose leases run out."""

    async def test_a_renewed_lease_has_its_full_term_again(self, harness: RenewingHarness) -> None:
        registry = harness.registry(1)
        lease = await registry.acquire(harness.attrs(1), None)
        renewed = await registry.renew(lease)
        assert (renewed.subnet, renewed.attrs) == (lease.subnet, lease.attrs)
        assert renewed.expires_at is not None
        assert lease.expires_at is not None
        assert renewed.expires_at >= lease.expires_at
        assert renewed.revision > lease.revision

    async def test_a_renewal_never_takes_another_hosts_subnet(
        self, harness: RenewingHarness
    ) -> None:
        registry = harness.registry(1)
        lease = await registry.acquire(harness.attrs(1), None)
        await harness.take_over(lease, 2)
        with pytest.raises(RegistryConflict, match=str(harness.attrs(2).public_ip)):
            await registry.renew(lease)
        async with collecting(registry.watch()) as watch:
            await watch.until(lambda events: events)
            assert seen(watch.items)[str(lease.subnet)].attrs == harness.attrs(2)

    async def test_other_attributes_never_go_to_another_hosts_subnet(
        self, harness: RenewingHarness
    ) -> None:
        registry = harness.registry(1)
        lease = await registry.acquire(harness.attrs(1), None)
        await harness.take_over(lease, 2)
        with pytest.raises(RegistryConflict):
            await registry.republish(lease, harness.attrs(9))

    async def test_a_renewal_brings_back_an_entry_that_ran_out(
        self, harness: RenewingHarness
    ) -> None:
        registry = harness.registry(1)
        lease = await registry.acquire(harness.attrs(1), None)
        await harness.delete(lease)
        assert (await registry.renew(lease)).subnet == lease.subnet
        async with collecting(registry.watch()) as watch:
            await watch.until(lambda events: str(lease.subnet) in seen(events))

    async def test_the_own_entry_is_followed_alone(self, harness: RenewingHarness) -> None:
        registry = harness.registry(1)
        lease = await registry.acquire(harness.attrs(1), None)
        async with collecting(registry.watch_own(lease)) as own:
            await own.until(lambda events: events)
            assert own.items == [Added(lease)]
            await harness.registry(2).acquire(harness.attrs(2), None)
            renewed = await registry.renew(lease)
            await own.until(lambda events: len(events) == 2)
            assert isinstance(own.items[1], Added)
            assert own.items[1].lease.revision == renewed.revision
            await harness.delete(lease)
            await own.until(lambda events: len(events) == 3)
            assert own.items[2] == Removed(lease.subnet)

    async def test_own_entry_written_by_another_client_is_foreign(
        self, harness: RenewingHarness
    ) -> None:
        """Two hosts with one public IP take each other's entry for their own."""

        registry = harness.registry(1)
        lease = await registry.acquire(harness.attrs(1), None)
        async with collecting(registry.watch_own(lease)) as own:
            await own.until(lambda events: events)
            twin = await harness.registry(1).acquire(harness.attrs(1), None)
            assert twin.subnet == lease.subnet
            await registry.renew(twin)
            await own.until(lambda events: len(events) == 3)
            assert [isinstance(e, Added) and e.foreign for e in own.items] == [
                False,
                True,
                False,
            ]
        async with collecting(harness.registry(1).watch_own(lease)) as other:
            await other.until(lambda events: events)
            assert isinstance(other.items[0], Added)
            assert other.items[0].foreign, "also as the first event"

    async def test_the_own_entry_is_followed_through_an_outage(
        self, harness: RenewingHarness
    ) -> None:
        registry = harness.registry(1)
        lease = await registry.acquire(harness.attrs(1), None)
        async with collecting(registry.watch_own(lease)) as own:
            await own.until(lambda events: events)
            async with harness.outage():
                pass
            await harness.delete(lease)
            await until(lambda: Removed(lease.subnet) in own.items)
