"""The life of our own lease: when it is renewed, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.support.aio import settle
from tests.support.controlworld import MARGIN, TERM, US, world
from tests.support.leases import attrs
from udpoverlay import log
from udpoverlay.errors import RegistryConflict
from udpoverlay.model.events import Added, Event
from udpoverlay.model.lease import Lease
from udpoverlay.registry.memory import MemoryRegistry

# ---------------------------------------------------------------- renewing


async def test_the_lease_is_renewed_the_margin_before_its_end() -> None:
    async with world() as w:
        first = w.ours().revision
        await w.clock.advance(TERM - MARGIN - 1)
        assert w.ours().revision == first
        await w.clock.advance(2)
        assert w.ours().revision == first + 1
        assert w.control.expires_in() == pytest.approx(TERM, abs=2)


async def test_a_failed_renewal_is_tried_again_every_minute() -> None:
    async with world() as w:
        w.store.reachable = False
        await w.clock.advance(TERM - MARGIN + 1)
        assert w.control.counters()["renewal_failures"] == 1
        await w.clock.advance(120)
        assert w.control.counters()["renewal_failures"] == 3
        w.store.reachable = True
        await w.clock.advance(60)
        assert w.control.counters()["renewals"] == 1


async def test_waking_from_suspend_renews_what_came_due_meanwhile() -> None:
    async with world() as w:
        first = w.ours().revision
        w.clock.suspend(TERM - 100)
        await w.clock.advance(31)
        assert w.ours().revision == first + 1


async def test_a_wall_clock_set_back_neither_delays_nor_repeats_a_renewal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world() as w:
        first = w.ours().revision
        w.clock.set_wall(-10 * TERM)
        await w.clock.advance(TERM - MARGIN - 1)
        assert w.ours().revision == first
        await w.clock.advance(2)
        assert w.ours().revision == first + 1
    assert "the wall clock jumped, or the machine slept" in [r.message for r in caplog.records]


async def test_an_entry_written_again_by_others_starts_the_term_anew() -> None:
    async with world() as w:
        await w.clock.advance(TERM / 2)
        again = replace(w.ours(), expires_at=w.clock.monotonic() + TERM)
        written = w.store.put(again)
        await w.clock.advance(TERM / 2)  # the first term is over
        assert w.ours().revision == written.revision
        assert w.alive()


async def test_a_reservation_is_never_renewed() -> None:
    async with world() as w:
        written = w.store.put(replace(w.ours(), expires_at=None, registry_lease=0))
        await w.clock.advance(3 * TERM)
        assert w.ours().revision == written.revision
        assert w.control.expires_in() is None


async def test_a_reservation_turned_back_into_a_lease_is_renewed() -> None:
    async with world() as w:
        w.store.put(replace(w.ours(), expires_at=None, registry_lease=0))
        await w.clock.advance(TERM)
        end = w.clock.monotonic() + TERM
        written = w.store.put(replace(w.ours(), expires_at=end, registry_lease=77))
        await w.clock.advance(TERM - 1)
        assert w.ours().revision > written.revision


# ---------------------------------------------------------------- two hosts, one public IP


def foreign(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        log.render(r.fields)  # type: ignore[attr-defined]  # set by our logger
        for r in caplog.records
        if r.message == "another daemon renews our lease"
    ]


async def test_renewal_by_another_host_with_our_public_ip_names_the_flags(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world() as w:
        twin = MemoryRegistry(w.store, term=TERM)
        taken = await twin.acquire(US, None)
        assert taken.subnet == w.control.lease.subnet, "it cannot tell us from itself"
        await settle()
        assert w.control.counters()["foreign_renewals"] == 1
        await twin.renew(taken)
        await settle()
        assert w.control.counters()["foreign_renewals"] == 2
        await w.clock.advance(TERM - MARGIN + 1)  # and ours goes on
        assert w.control.counters()["renewals"] == 1
        assert w.alive()
    first, second = foreign(caplog)
    assert "subnet=10.5.100.0/24 public_ip=192.0.2.100 times=1" in first
    assert "--iface or --public-ip" in first
    assert "times=2" in second


async def test_own_renewal_and_reservation_are_no_foreign_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world() as w:
        await w.clock.advance(3 * TERM)
        assert w.control.counters()["renewals"] == 3
        w.store.put(replace(w.ours(), expires_at=None, registry_lease=0))
        await settle()
        assert w.control.counters()["foreign_renewals"] == 0
    assert foreign(caplog) == []


# ---------------------------------------------------------------- what ends it


async def test_a_deleted_entry_is_a_revocation_and_ends_without_an_error() -> None:
    async with world() as w:
        w.store.delete(w.control.lease.subnet)
        await settle()
        assert w.task.done()
        assert w.task.exception() is None


async def test_another_host_on_our_subnet_ends_with_a_conflict_that_names_it() -> None:
    async with world() as w:
        w.store.put(replace(w.ours(), attrs=attrs("192.0.2.66")))
        await settle()
        with pytest.raises(RegistryConflict, match=r"192\.0\.2\.66.*192\.0\.2\.100"):
            await w.task
        assert w.ours().attrs == attrs("192.0.2.66"), "their entry is left alone"


async def test_an_old_event_of_our_own_entry_changes_nothing() -> None:
    class Echo(MemoryRegistry):
        """Tells every event of our own entry again, late."""

        async def watch_own(self, lease: Lease) -> AsyncIterator[Event]:
            stale = None
            async for event in super().watch_own(lease):
                yield event
                if stale is not None:
                    yield stale
                if isinstance(event, Added):
                    stale = Added(replace(event.lease, expires_at=0.0))

    async with world(Echo) as w:
        await w.clock.advance(TERM - MARGIN + 1)
        assert w.control.counters()["renewals"] == 1
        await w.clock.advance(60)
        assert w.control.counters()["renewals"] == 1


async def test_cancelling_stops_every_part() -> None:
    before = len(asyncio.all_tasks())
    async with world() as w:
        w.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await w.task
        await settle()
        assert len(asyncio.all_tasks()) == before


async def test_a_registry_whose_leases_do_not_run_out_is_never_asked_to_renew() -> None:
    class Endless(MemoryRegistry):
        renew = None  # type: ignore[assignment]  # it has no such method
        watch_own = None  # type: ignore[assignment]  # nor this one

    async with world(Endless) as w:
        await w.clock.advance(2 * TERM)
        assert w.control.counters()["renewals"] == 0
        assert w.alive()
