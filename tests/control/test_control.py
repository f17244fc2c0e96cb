"""Leases become routes, whatever the registry does; registry and clock are the test's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.aio import settle
from tests.support.controlworld import TERM, A, B, World, world
from tests.support.leases import attrs, lease
from udpoverlay import log
from udpoverlay.errors import RegistryConflict
from udpoverlay.log.detail import SETTINGS
from udpoverlay.model.endpoint import Way
from udpoverlay.model.lease import Lease
from udpoverlay.model.refusal import Refusal

# ---------------------------------------------------------------- what is said of peers


def said(caplog: pytest.LogCaptureFixture, *events: str) -> list[str]:
    """The lines of `events`, with their fields; by default those about peers."""
    events = events or ("peer added", "peer changed", "peer removed")
    return [
        f"{r.message}{log.render(r.fields)}"  # type: ignore[attr-defined]  # set by our logger
        for r in caplog.records
        if r.message in events
    ]


async def test_each_peer_that_comes_moves_or_goes_is_a_line_and_a_renewal_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO"):
        async with world() as w:
            await w.put(A, A, replace(A, attrs=attrs("192.0.2.9")))
            w.store.delete(A.subnet)
            await w.clock.advance(0.01)
    assert said(caplog) == [
        "peer added subnet=10.5.1.0/24 public_ip=192.0.2.1",
        "peer changed subnet=10.5.1.0/24 public_ip=192.0.2.9",
        "peer removed subnet=10.5.1.0/24 public_ip=192.0.2.9",
    ]


@pytest.mark.parametrize(("verbosity", "lines"), [(0, 10), (1, 40)])
async def test_a_flood_of_peers_is_no_flood_of_lines_unless_asked_for(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    verbosity: int,
    lines: int,
) -> None:
    monkeypatch.setattr(SETTINGS, "verbosity", verbosity)

    with caplog.at_level("INFO"):
        async with world() as w:
            await w.put(*[lease(f"10.5.{n}.0/24", f"192.0.2.{n}") for n in range(1, 41)])
    assert len(said(caplog)) == lines


async def test_each_publication_is_a_line_when_asked_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SETTINGS, "verbosity", 2)

    with caplog.at_level("INFO"):
        async with world() as w:
            await w.put(A)
    assert "routes published" in caplog.messages


# ---------------------------------------------------------------- routes


async def test_leases_of_others_become_routes_and_ours_does_not() -> None:
    async with world() as w:
        await w.put(A, B)
        assert w.sink.routes == {"10.5.1.0/24": "192.0.2.1", "10.5.2.0/24": "192.0.2.2"}
        w.store.delete(A.subnet)
        await w.clock.advance(0.01)
        assert w.sink.routes == {"10.5.2.0/24": "192.0.2.2"}
        assert [str(peer.subnet) for peer, _ in w.control.peers()] == ["10.5.2.0/24"]


async def test_routes_are_published_even_when_there_is_no_peer() -> None:
    async with world() as w:
        assert w.sink.publications == 1


async def test_the_first_routes_are_told_once_and_only_when_they_are_published() -> None:
    made = World()
    made.store.put(A)
    made.sink.fail.append(MemoryError())
    async with world(made=made) as w:
        assert w.first_routes == []
        await w.clock.advance(2)
        await w.put(B)
        assert w.sink.publications == 2
        assert w.first_routes == [{"10.5.1.0/24": "192.0.2.1"}]


async def test_one_event_is_published_without_waiting_for_a_timer() -> None:
    async with world() as w:
        await w.clock.advance(1)
        w.store.put(A)
        await settle()  # the clock stands still
        assert "10.5.1.0/24" in w.sink.routes


async def test_a_burst_of_events_is_published_a_few_times_only() -> None:
    async with world() as w:
        for number in range(2000):
            net = f"10.5.{number // 16 % 99}.{number % 16 * 16}/28"
            w.store.put(lease(net, "192.0.2.7"))
            if number % 100 == 0:
                await settle(3)
        await w.clock.advance(0.01)
        assert len(w.sink.routes) == 99 * 16
        assert w.sink.publications <= 4


async def test_a_renewal_of_a_peer_publishes_nothing() -> None:
    async with world() as w:
        await w.put(A)
        before = w.sink.publications
        await w.put(A, A, A)
        assert w.sink.publications == before


async def test_a_table_that_cannot_be_built_is_tried_again() -> None:
    async with world() as w:
        w.sink.fail = [MemoryError(), OSError(7, "too big")]
        await w.put(A)
        assert w.sink.routes == {}
        await w.clock.advance(2.1)
        assert w.sink.routes == {"10.5.1.0/24": "192.0.2.1"}
        assert w.control.counters()["publish_failures"] == 2


async def test_an_overlapping_claim_leaves_the_working_peer_its_route(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world() as w:
        await w.put(A, lease("10.5.1.0/25", "192.0.2.66"))
        await w.put(A)
        assert w.sink.routes == {"10.5.1.0/24": "192.0.2.1"}
        assert w.control.counters()["leases_waiting"] == 1
    assert said(caplog, "lease refused") == [
        'lease refused subnet=10.5.1.0/25 public_ip=192.0.2.66 why="its range overlaps one that is '
        'in use" holder_subnet=10.5.1.0/24 holder=192.0.2.1 fix="delete the entry if no host '
        'holds it"'
    ]


async def test_claim_on_our_own_range_names_us_as_holder(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as w:
        await w.put(lease("10.5.100.0/25", "192.0.2.66"))
        assert w.sink.routes == {}
    [line] = said(caplog, "lease refused")
    assert 'holder_subnet=10.5.100.0/24 holder="this host"' in line


@pytest.mark.parametrize(
    ("net", "public_ip", "why"),
    [
        ("10.0.0.0/8", "192.0.2.66", Refusal.TOO_WIDE),
        ("10.5.0.0/16", "192.0.2.66", Refusal.TOO_WIDE),
        ("127.0.0.0/8", "192.0.2.66", Refusal.OUTSIDE_NETWORK),
        ("224.0.0.0/4", "192.0.2.66", Refusal.OUTSIDE_NETWORK),
        ("10.5.9.0/24", "127.0.0.1", Refusal.NOT_A_HOST),
        ("10.5.9.0/24", "10.5.9.5", Refusal.IN_OVERLAY),
        ("10.5.9.0/24", "0.0.0.0", Refusal.NO_ADDRESS),
        ("10.5.9.0/25", "192.0.2.100", Refusal.OWN_ADDRESS),
    ],
)
async def test_refused_lease_gets_no_route_and_is_counted_and_named_once(
    caplog: pytest.LogCaptureFixture, net: str, public_ip: str, why: Refusal
) -> None:
    made = World()
    made.store.put(lease(net, public_ip, registry_lease=1))  # first of all
    async with world(made=made) as w:
        await w.put(A, lease(net, public_ip, registry_lease=1), A)
        assert w.sink.routes == {"10.5.1.0/24": "192.0.2.1"}
        assert w.control.counters()["leases_refused"] == 1
        reasons = {str(one.subnet): refusal for one, refusal in w.control.peers()}
        assert reasons == {net: why, "10.5.1.0/24": None}
    event = "lease refused" if why.fix else "lease without a route"
    [line] = said(caplog, event)
    assert why.fix in line
    assert net in line
    assert public_ip in line
    assert why.why in line


async def test_peer_inside_network_follows_the_routes_of_this_host() -> None:
    """A host may live in Network, behind a narrower route that comes and goes."""

    async with world() as w:
        await w.put(lease("10.5.9.0/24", "10.5.200.5"), A)
        both = {"10.5.9.0/24": "10.5.200.5", "10.5.1.0/24": "192.0.2.1"}
        assert w.sink.routes == both
        w.ways["10.5.200.5"] = Way.TUNNEL
        await w.clock.advance(31)
        assert w.sink.routes == {"10.5.1.0/24": "192.0.2.1"}
        assert w.control.counters()["leases_refused"] == 1
        w.ways.clear()
        await w.clock.advance(31)
        assert w.sink.routes == both
        assert w.control.counters()["leases_refused"] == 0


async def test_wide_lease_written_first_keeps_no_host_from_starting() -> None:
    made = World()
    for number, net in enumerate(["10.0.0.0/8", "10.5.0.0/16", "10.5.0.0/17", "10.5.128.0/17"]):
        made.store.put(lease(net, f"192.0.2.{66 + number}"))
    async with world(made=made) as w:
        assert str(w.control.lease.subnet) == "10.5.100.0/24", "its previous subnet, at that"
        await w.put(A)
        assert w.sink.routes == {"10.5.1.0/24": "192.0.2.1"}


async def test_fifty_stale_leases_of_ours_end_in_a_lease() -> None:
    made = World()
    for number in range(50):
        made.store.put(replace(lease(f"10.4.{number}.0/24", "192.0.2.100"), registry_lease=9))
    async with world(made=made) as w:
        assert made.store.leases() == (w.ours(),)


# ---------------------------------------------------------------- an unreachable registry


async def test_an_unreachable_registry_removes_no_route_and_ends_nothing() -> None:
    async with world() as w:
        await w.put(A)
        w.store.reachable = False
        await w.clock.advance(3 * TERM)
        assert w.sink.routes == {"10.5.1.0/24": "192.0.2.1"}
        assert w.alive()


async def test_a_lease_that_ran_out_in_the_meantime_is_claimed_again() -> None:
    async with world() as w:
        before = w.ours()
        w.store.reachable = False
        await w.clock.advance(TERM + 100)
        w.store.reachable = True
        w.store.sweep()
        await w.clock.advance(0.01)
        assert w.ours().subnet == before.subnet
        assert w.ours().expires_at == pytest.approx(w.clock.monotonic() + TERM, abs=60)
        assert w.alive()


async def test_deletion_told_after_our_entry_was_written_again_ends_nothing() -> None:
    """After a pause of etcd the entry expires, we write it again, then the watch catches up."""
    async with world() as w:
        lease = w.control.lease
        w.store.tell_late(lease.subnet, lease.revision - 1)
        await w.clock.advance(1)
        assert w.alive()
        w.store.delete(lease.subnet)
        await w.clock.advance(1)
        await w.task


async def test_subnet_lost_to_another_host_ends_with_a_conflict() -> None:
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


# ---------------------------------------------------------------- another address of ours


async def test_another_address_is_published_for_the_same_lease() -> None:
    async with world() as w:
        before = w.ours()
        w.control.move(attrs("192.0.2.200"))
        await w.clock.advance(0.01)
        assert (w.ours().subnet, w.ours().attrs) == (before.subnet, attrs("192.0.2.200"))
        assert w.control.lease.attrs == attrs("192.0.2.200")
        assert w.control.counters()["republications"] == 1
        await w.clock.advance(TERM)  # renewed as that from now on
        assert w.ours().attrs == attrs("192.0.2.200")
        assert w.alive()


async def test_another_address_waits_for_a_registry_that_cannot_be_reached() -> None:
    async with world() as w:
        w.store.reachable = False
        w.control.move(attrs("192.0.2.200"))
        await w.clock.advance(300)
        assert w.alive()
        w.store.reachable = True
        await w.clock.advance(2.1)
        assert w.ours().attrs == attrs("192.0.2.200")
        assert w.alive()


async def test_our_new_address_told_before_the_answer_is_no_conflict() -> None:
    """The watch may be faster than the answer to what we wrote, which may also get lost."""
    async with world() as w:
        w.store.reachable = False
        w.control.move(attrs("192.0.2.200"))
        w.store.put(replace(w.ours(), attrs=attrs("192.0.2.200")))
        await w.clock.advance(1)
        assert w.alive()
        w.store.reachable = True
        await w.clock.advance(2.1)
        assert w.control.lease.attrs == attrs("192.0.2.200")


async def test_other_hosts_claim_while_we_move_is_a_conflict() -> None:
    async with world() as w:
        w.store.reachable = False
        w.control.move(attrs("192.0.2.200"))
        w.store.put(replace(w.ours(), attrs=attrs("192.0.2.66"), registry_lease=1))
        await w.clock.advance(1)
        with pytest.raises(RegistryConflict, match=r"leased by 192\.0\.2\.66"):
            await w.task


# ---------------------------------------------------------------- a registry without memory


async def test_peers_that_a_wiped_registry_forgot_keep_their_routes_for_a_term() -> None:
    async with world() as w:
        await w.put(A, B)
        w.store.lose_history()
        await w.clock.advance(1)
        assert set(w.sink.routes) == {"10.5.1.0/24", "10.5.2.0/24"}
        assert w.control.counters()["peers_held"] == 2
        await w.put(A)
        await w.clock.advance(TERM + 31)
        assert set(w.sink.routes) == {"10.5.1.0/24"}


async def test_our_subnet_is_claimed_again_in_a_wiped_registry() -> None:
    async with world() as w:
        before = w.control.lease.subnet
        w.store.lose_history()
        await w.clock.advance(1)
        assert w.ours().subnet == before
        assert w.alive()


async def test_an_old_copy_of_our_entry_is_renewed_at_once() -> None:
    async with world() as w:
        await w.clock.advance(1000)
        old = replace(w.ours(), revision=1, expires_at=w.clock.monotonic() + 5)
        w.store.lose_history(old)
        await w.clock.advance(1)
        assert w.ours().expires_at == pytest.approx(w.clock.monotonic() + TERM, abs=2)


async def test_an_old_copy_that_gives_our_subnet_to_another_host_is_a_conflict() -> None:
    async with world() as w:
        other = Lease(w.control.lease.subnet, attrs("192.0.2.66"), revision=1, registry_lease=1)
        w.store.lose_history(other)
        await w.clock.advance(1)
        with pytest.raises(RegistryConflict):
            await w.task
