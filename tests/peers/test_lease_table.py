"""The lease table against a slow, obvious twin, and the rules it adds to flannel's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress, IPNetwork

from udpoverlay.model.events import Added, Event, Removed, Snapshot
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.peers.lease_table import LeaseTable, PeerAdded, PeerRemoved


def lease(number: int, host: int | None = None, v6: int | None = None) -> Lease:
    subnet = Subnet(
        IPNetwork(f"10.5.{number}.0/24"),
        None if v6 is None else IPNetwork(f"fd00:0:0:{v6:x}::/64"),
    )
    return Lease(subnet, LeaseAttrs(IPAddress(f"192.0.2.{number if host is None else host}")))


OWN = lease(1)
A, B, C = lease(2), lease(3), lease(4)


@pytest.fixture
def table() -> LeaseTable:
    return LeaseTable(OWN)


def test_a_first_snapshot_adds_every_other_host(table: LeaseTable) -> None:
    assert table.apply(Snapshot((OWN, A, B))) == [PeerAdded(A), PeerAdded(B)]
    assert table.leases() == [A, B]


def test_a_second_snapshot_yields_only_the_difference(table: LeaseTable) -> None:
    table.apply(Snapshot((OWN, A, B)))
    assert table.apply(Snapshot((OWN, A, C))) == [PeerRemoved(B), PeerAdded(C)]
    assert table.apply(Snapshot((OWN, A, C))) == []


def test_a_snapshot_shows_a_peer_whose_address_changed_meanwhile(table: LeaseTable) -> None:
    table.apply(Snapshot((OWN, A)))
    moved = lease(2, host=77)
    assert table.apply(Snapshot((OWN, moved))) == [PeerAdded(moved, A)]
    assert table.leases() == [moved]


def test_snapshots_never_remove_ourselves(table: LeaseTable) -> None:
    table.apply(Snapshot((OWN, A)))
    assert table.apply(Snapshot((A,))) == []
    assert table.apply(Snapshot((OWN, A))) == []


def test_an_empty_snapshot_removes_every_peer(table: LeaseTable) -> None:
    table.apply(Snapshot((A, B)))
    assert table.apply(Snapshot(())) == [PeerRemoved(A), PeerRemoved(B)]


def test_a_renewal_is_reported_but_is_no_news(table: LeaseTable) -> None:
    table.apply(Added(A))
    (change,) = table.apply(Added(A))
    assert isinstance(change, PeerAdded)
    assert not change.is_news


def test_a_removal_carries_what_was_known(table: LeaseTable) -> None:
    table.apply(Added(A))
    assert table.apply(Removed(A.subnet)) == [PeerRemoved(A)]
    assert table.apply(Removed(A.subnet)) == []


def test_our_own_subnet_claimed_by_another_host_is_no_peer(table: LeaseTable) -> None:
    thief = lease(1, host=66)
    assert table.apply(Added(thief)) == []
    assert table.apply(Snapshot((thief, A))) == [PeerAdded(A)]
    assert table.apply(Removed(OWN.subnet)) == []
    dual_thief = lease(1, host=66, v6=9)
    assert table.apply(Added(dual_thief)) == []


def test_a_left_over_lease_of_ours_is_no_peer(table: LeaseTable) -> None:
    assert table.apply(Snapshot((lease(9, host=1), A))) == [PeerAdded(A)]


def test_a_peer_that_takes_our_address_stops_being_one(table: LeaseTable) -> None:
    table.apply(Added(A))
    assert table.apply(Added(lease(2, host=1))) == [PeerRemoved(A)]


def test_entries_that_share_half_a_subnet_do_not_shadow_each_other(table: LeaseTable) -> None:
    dual = lease(2, host=8, v6=2)
    table.apply(Added(A))
    table.apply(Added(dual))
    assert table.apply(Removed(A.subnet)) == [PeerRemoved(A)]
    assert table.leases() == [dual]


def test_hosts_without_an_address_are_still_told_apart() -> None:
    table = LeaseTable(Lease(Subnet(None, IPNetwork("fd00::/64")), LeaseAttrs(IPAddress(0, 4))))
    other = Lease(Subnet(None, IPNetwork("fd00:0:0:1::/64")), LeaseAttrs(IPAddress(0, 4)))
    assert table.apply(Added(other)) == [PeerAdded(other)]


LEASES = st.builds(lease, st.integers(0, 6), st.integers(1, 4), st.none() | st.integers(0, 3))
EVENTS = st.one_of(
    LEASES.map(Added),
    LEASES.map(lambda one: Removed(one.subnet)),
    st.lists(LEASES, max_size=8).map(lambda many: Snapshot(tuple(many))),
)


def obvious(events: list[Event]) -> Iterator[list[Lease]]:
    """Return what peers there are after each event, found without any index or difference."""
    known: list[Lease] = []
    for event in events:
        if isinstance(event, Snapshot):
            incoming = list(event.leases)
            known = []
        elif isinstance(event, Added):
            incoming = [event.lease]
        else:
            incoming = []
            known = [one for one in known if one.subnet != event.subnet]
        for one in incoming:
            known = [other for other in known if other.subnet != one.subnet] + [one]
        known = [
            one
            for one in known
            if one.subnet.v4 != OWN.subnet.v4 and one.attrs.public_ip != OWN.attrs.public_ip
        ]
        yield known


@given(st.lists(EVENTS, max_size=12))
def test_any_history_ends_where_the_obvious_table_ends(events: list[Event]) -> None:
    table = LeaseTable(OWN)
    follower: dict[Subnet, Lease] = {}
    for event, known in zip(events, obvious(events), strict=True):
        for change in table.apply(event):
            if isinstance(change, PeerAdded):
                assert change.before == follower.get(change.lease.subnet)
                follower[change.lease.subnet] = change.lease
            else:
                assert follower.pop(change.lease.subnet) == change.lease
        wanted = {one.subnet: one for one in known}
        assert {one.subnet: one for one in table.leases()} == wanted
        assert follower == wanted
        assert len(table) == len(wanted)
