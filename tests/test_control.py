"""The life of a lease, with a registry in memory and a clock that only the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from netaddr import IPNetwork

from tests.support.aio import run, settle
from tests.support.clock import FakeClock
from tests.support.leases import PORT, Sink, attrs, lease, subnet
from udpoverlay import log
from udpoverlay.control import Control, SystemClock
from udpoverlay.errors import RegistryConflict
from udpoverlay.model.events import Added, Event
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
        self.store = MemoryStore(CONF, self.clock.seconds)
        self.registry = MemoryRegistry(self.store, rng=random.Random(1), term=TERM)
        self.sink = Sink()
        self.first_routes: list[dict[str, str]] = []
        self.control: Control
        self.task: asyncio.Task[None]

    async def start(self, registry: MemoryRegistry | None = None) -> None:
        used = registry if registry is not None else self.registry
        own = await used.acquire(US, subnet("10.5.100.0/24"))
        self.control = Control(
            used,
            self.sink,
            own,
            port=PORT,
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


# ---------------------------------------------------------------- what is said of peers


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines about peers, with their fields."""
    return [
        f"{r.message}{log.render(r.fields)}"  # type: ignore[attr-defined]  # set by our logger
        for r in caplog.records
        if r.message.startswith("peer ")
    ]


def test_each_peer_that_comes_moves_or_goes_is_a_line_and_a_renewal_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.put(A, A, replace(A, attrs=attrs("192.0.2.9")))
            w.store.delete(A.subnet)
            await w.clock.advance(0.01)

    with caplog.at_level("INFO"):
        run(scenario())
    assert said(caplog) == [
        "peer added subnet=10.5.1.0/24 public_ip=192.0.2.1",
        "peer changed subnet=10.5.1.0/24 public_ip=192.0.2.9",
        "peer removed subnet=10.5.1.0/24 public_ip=192.0.2.9",
    ]


@pytest.mark.parametrize(("verbosity", "lines"), [(0, 10), (1, 40)])
def test_a_flood_of_peers_is_no_flood_of_lines_unless_asked_for(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    verbosity: int,
    lines: int,
) -> None:
    monkeypatch.setattr(log._settings, "verbosity", verbosity)

    async def scenario() -> None:
        async with world() as w:
            await w.put(*[lease(f"10.5.{n}.0/24", f"192.0.2.{n}") for n in range(1, 41)])

    with caplog.at_level("INFO"):
        run(scenario())
    assert len(said(caplog)) == lines


# ---------------------------------------------------------------- routes


def test_leases_of_others_become_routes_and_ours_does_not() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.put(A, B)
            assert w.sink.routes == {"10.5.1.0/24": "192.0.2.1", "10.5.2.0/24": "192.0.2.2"}
            w.store.delete(A.subnet)
            await w.clock.advance(0.01)
            assert w.sink.routes == {"10.5.2.0/24": "192.0.2.2"}
            assert [str(peer.subnet) for peer in w.control.peers()] == ["10.5.2.0/24"]

    run(scenario())


def test_routes_are_published_even_when_there_is_no_peer() -> None:
    async def scenario() -> None:
        async with world() as w:
            assert w.sink.publications == 1

    run(scenario())


def test_the_first_routes_are_told_once_and_only_when_they_are_published() -> None:
    async def scenario() -> None:
        made = World()
        made.store.put(A)
        made.sink.fail.append(MemoryError())
        async with world(made=made) as w:
            assert w.first_routes == []
            await w.clock.advance(2)
            await w.put(B)
            assert w.sink.publications == 2
            assert w.first_routes == [{"10.5.1.0/24": "192.0.2.1"}]

    run(scenario())


def test_one_event_is_published_without_waiting_for_a_timer() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.clock.advance(1)
            w.store.put(A)
            await settle()  # the clock stands still
            assert "10.5.1.0/24" in w.sink.routes

    run(scenario())


def test_a_burst_of_events_is_published_a_few_times_only() -> None:
    async def scenario() -> None:
        async with world() as w:
            for number in range(2000):
                net = f"10.5.{number // 16 % 99}.{number % 16 * 16}/28"
                w.store.put(lease(net, "192.0.2.7"))
                if number % 100 == 0:
                    await settle(3)
            await w.clock.advance(0.01)
            assert len(w.sink.routes) == 99 * 16
            assert w.sink.publications <= 4

    run(scenario())


def test_a_renewal_of_a_peer_publishes_nothing() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.put(A)
            before = w.sink.publications
            await w.put(A, A, A)
            assert w.sink.publications == before

    run(scenario())


def test_a_table_that_cannot_be_built_is_tried_again() -> None:
    async def scenario() -> None:
        async with world() as w:
            w.sink.fail = [MemoryError(), OSError(7, "too big")]
            await w.put(A)
            assert w.sink.routes == {}
            await w.clock.advance(2.1)
            assert w.sink.routes == {"10.5.1.0/24": "192.0.2.1"}
            assert w.control.counters()["publish_failures"] == 2

    run(scenario())


def test_an_overlapping_claim_leaves_the_working_peer_its_route(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.put(A, lease("10.5.1.0/25", "192.0.2.66"))
            await w.put(A)
            assert w.sink.routes == {"10.5.1.0/24": "192.0.2.1"}
            assert w.control.counters()["leases_waiting"] == 1

    run(scenario())
    assert [record.message for record in caplog.records].count(
        "lease refused: its range overlaps one that is in use"
    ) == 1


# ---------------------------------------------------------------- an unreachable registry


def test_an_unreachable_registry_removes_no_route_and_ends_nothing() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.put(A)
            w.store.reachable = False
            await w.clock.advance(3 * TERM)
            assert w.sink.routes == {"10.5.1.0/24": "192.0.2.1"}
            assert w.alive()

    run(scenario())


def test_a_lease_that_ran_out_in_the_meantime_is_claimed_again() -> None:
    async def scenario() -> None:
        async with world() as w:
            before = w.ours()
            w.store.reachable = False
            await w.clock.advance(TERM + 100)
            w.store.reachable = True
            w.store.sweep()
            await w.clock.advance(0.01)
            assert w.ours().subnet == before.subnet
            assert w.ours().expires_at == pytest.approx(w.clock.monotonic + TERM, abs=60)
            assert w.alive()

    run(scenario())


def test_a_subnet_that_was_lost_to_another_host_meanwhile_ends_with_a_conflict() -> None:
    async def scenario() -> None:
        async with world() as w:
            taken = w.control.lease.subnet
            w.store.reachable = False
            await w.clock.advance(TERM + 100)
            w.store.delete(taken)
            w.store.put(Lease(taken, attrs("192.0.2.66"), registry_lease=1))
            w.store.reachable = True
            await w.clock.advance(61)
            with pytest.raises(RegistryConflict, match=r"leased by 192\.0\.2\.66"):
                await w.task

    run(scenario())


# ---------------------------------------------------------------- a registry without memory


def test_peers_that_a_wiped_registry_forgot_keep_their_routes_for_a_term() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.put(A, B)
            w.store.lose_history()
            await w.clock.advance(1)
            assert set(w.sink.routes) == {"10.5.1.0/24", "10.5.2.0/24"}
            assert w.control.counters()["peers_held"] == 2
            await w.put(A)
            await w.clock.advance(TERM + 31)
            assert set(w.sink.routes) == {"10.5.1.0/24"}

    run(scenario())


def test_our_subnet_is_claimed_again_in_a_wiped_registry() -> None:
    async def scenario() -> None:
        async with world() as w:
            before = w.control.lease.subnet
            w.store.lose_history()
            await w.clock.advance(1)
            assert w.ours().subnet == before
            assert w.alive()

    run(scenario())


def test_an_old_copy_of_our_entry_is_renewed_at_once() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.clock.advance(1000)
            old = replace(w.ours(), revision=1, expires_at=w.clock.monotonic + 5)
            w.store.lose_history(old)
            await w.clock.advance(1)
            assert w.ours().expires_at == pytest.approx(w.clock.monotonic + TERM, abs=2)

    run(scenario())


def test_an_old_copy_that_gives_our_subnet_to_another_host_is_a_conflict() -> None:
    async def scenario() -> None:
        async with world() as w:
            other = Lease(w.control.lease.subnet, attrs("192.0.2.66"), revision=1, registry_lease=1)
            w.store.lose_history(other)
            await w.clock.advance(1)
            with pytest.raises(RegistryConflict):
                await w.task

    run(scenario())


# ---------------------------------------------------------------- renewing


def test_the_lease_is_renewed_the_margin_before_its_end() -> None:
    async def scenario() -> None:
        async with world() as w:
            first = w.ours().revision
            await w.clock.advance(TERM - MARGIN - 1)
            assert w.ours().revision == first
            await w.clock.advance(2)
            assert w.ours().revision == first + 1
            assert w.control.expires_in() == pytest.approx(TERM, abs=2)

    run(scenario())


def test_a_failed_renewal_is_tried_again_every_minute() -> None:
    async def scenario() -> None:
        async with world() as w:
            w.store.reachable = False
            await w.clock.advance(TERM - MARGIN + 1)
            assert w.control.counters()["renewal_failures"] == 1
            await w.clock.advance(120)
            assert w.control.counters()["renewal_failures"] == 3
            w.store.reachable = True
            await w.clock.advance(60)
            assert w.control.counters()["renewals"] == 1

    run(scenario())


def test_waking_from_suspend_renews_what_came_due_meanwhile() -> None:
    async def scenario() -> None:
        async with world() as w:
            first = w.ours().revision
            w.clock.suspend(TERM - 100)
            await w.clock.advance(31)
            assert w.ours().revision == first + 1

    run(scenario())


def test_a_wall_clock_set_back_neither_delays_nor_repeats_a_renewal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with world() as w:
            first = w.ours().revision
            w.clock.set_wall(-10 * TERM)
            await w.clock.advance(TERM - MARGIN - 1)
            assert w.ours().revision == first
            await w.clock.advance(2)
            assert w.ours().revision == first + 1

    run(scenario())
    assert "the wall clock jumped, or the machine slept" in [r.message for r in caplog.records]


def test_an_entry_written_again_by_others_starts_the_term_anew() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.clock.advance(TERM / 2)
            again = replace(w.ours(), expires_at=w.clock.monotonic + TERM)
            written = w.store.put(again)
            await w.clock.advance(TERM / 2)  # the first term is over
            assert w.ours().revision == written.revision
            assert w.alive()

    run(scenario())


def test_a_reservation_is_never_renewed() -> None:
    async def scenario() -> None:
        async with world() as w:
            written = w.store.put(replace(w.ours(), expires_at=None, registry_lease=0))
            await w.clock.advance(3 * TERM)
            assert w.ours().revision == written.revision
            assert w.control.expires_in() is None

    run(scenario())


def test_a_reservation_turned_back_into_a_lease_is_renewed() -> None:
    async def scenario() -> None:
        async with world() as w:
            w.store.put(replace(w.ours(), expires_at=None, registry_lease=0))
            await w.clock.advance(TERM)
            end = w.clock.monotonic + TERM
            written = w.store.put(replace(w.ours(), expires_at=end, registry_lease=77))
            await w.clock.advance(TERM - 1)
            assert w.ours().revision > written.revision

    run(scenario())


# ---------------------------------------------------------------- what ends it


def test_a_deleted_entry_is_a_revocation_and_ends_without_an_error() -> None:
    async def scenario() -> None:
        async with world() as w:
            w.store.delete(w.control.lease.subnet)
            await settle()
            assert w.task.done()
            assert w.task.exception() is None

    run(scenario())


def test_another_host_on_our_subnet_ends_with_a_conflict_that_names_it() -> None:
    async def scenario() -> None:
        async with world() as w:
            w.store.put(replace(w.ours(), attrs=attrs("192.0.2.66")))
            await settle()
            with pytest.raises(RegistryConflict, match=r"192\.0\.2\.66.*192\.0\.2\.100"):
                await w.task
            assert w.ours().attrs == attrs("192.0.2.66"), "their entry is left alone"

    run(scenario())


def test_an_old_event_of_our_own_entry_changes_nothing() -> None:
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

    async def scenario() -> None:
        async with world(Echo) as w:
            await w.clock.advance(TERM - MARGIN + 1)
            assert w.control.counters()["renewals"] == 1
            await w.clock.advance(60)
            assert w.control.counters()["renewals"] == 1

    run(scenario())


def test_cancelling_stops_every_part() -> None:
    async def scenario() -> None:
        before = len(asyncio.all_tasks())
        async with world() as w:
            w.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await w.task
            await settle()
            assert len(asyncio.all_tasks()) == before

    run(scenario())


def test_a_registry_whose_leases_do_not_run_out_is_never_asked_to_renew() -> None:
    class Endless(MemoryRegistry):
        def renews(self) -> bool:
            return False

    async def scenario() -> None:
        async with world(Endless) as w:
            await w.clock.advance(2 * TERM)
            assert w.control.counters()["renewals"] == 0
            assert w.alive()

    run(scenario())


def test_the_system_clock_tells_both_clocks() -> None:
    async def scenario() -> None:
        clock = SystemClock()
        before = clock.now()
        await clock.sleep(0.001)
        after = clock.now()
        assert after.monotonic > before.monotonic
        assert after.wall > 1_600_000_000

    run(scenario())
