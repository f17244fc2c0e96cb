"""The table of peers against a slow, obvious twin, and the rules it adds to flannel's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netaddr import IPAddress, IPNetwork

from tests.support.leases import attrs, lease, peers_for, subnet
from udpoverlay.model.events import Added, Event, Removed, Snapshot
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.place import Places
from udpoverlay.model.refusal import Refusal
from udpoverlay.peers.admission import Admission
from udpoverlay.peers.peers import STEP, Changes, Peers

OWN = lease("10.5.1.0/24", "192.0.2.1")
A, B, C = (lease(f"10.5.{n}.0/24", f"192.0.2.{n}") for n in (2, 3, 4))


@pytest.fixture
def peers() -> Peers:
    return peers_for(OWN)


def routes(peers: Peers) -> dict[str, str]:
    return {str(net): str(end.address) for net, end in peers.routes.items()}


def known(peers: Peers) -> list[Lease]:
    return [one for one, _ in peers.leases()]


def told(changes: Changes) -> list[str]:
    """`+ subnet address`, `- subnet`, `~ subnet address` for each route; `! subnet reason`."""
    lines = []
    for change in changes.routes:
        sign = "-" if change.after is None else "+" if change.before is None else "~"
        address = "" if change.after is None else f" {change.after.address}"
        lines.append(f"{sign} {change.lease.subnet}{address}")
    return lines + [f"! {one.lease.subnet} {one.refusal.value}" for one in changes.refused]


# ---------------------------------------------------------------- events


def test_first_snapshot_adds_every_other_host(peers: Peers) -> None:
    assert told(peers.apply(Snapshot((OWN, A, B)), 0)) == [
        "+ 10.5.2.0/24 192.0.2.2",
        "+ 10.5.3.0/24 192.0.2.3",
    ]
    assert known(peers) == [A, B]
    assert len(peers) == 2


def test_second_snapshot_yields_only_the_difference(peers: Peers) -> None:
    peers.apply(Snapshot((OWN, A, B)), 0)
    changes = peers.apply(Snapshot((OWN, A, C)), 0)
    assert told(changes) == ["- 10.5.3.0/24", "+ 10.5.4.0/24 192.0.2.4"]
    assert peers.apply(Snapshot((OWN, A, C)), 0) == Changes()


def test_snapshot_shows_an_address_that_changed_meanwhile(peers: Peers) -> None:
    peers.apply(Snapshot((OWN, A)), 0)
    moved = lease("10.5.2.0/24", "192.0.2.77")
    assert told(peers.apply(Snapshot((OWN, moved)), 0)) == ["~ 10.5.2.0/24 192.0.2.77"]
    assert known(peers) == [moved]


def test_snapshots_never_remove_ourselves(peers: Peers) -> None:
    peers.apply(Snapshot((OWN, A)), 0)
    assert peers.apply(Snapshot((A,)), 0) == Changes()
    assert peers.apply(Snapshot((OWN, A)), 0) == Changes()


def test_empty_snapshot_removes_every_peer(peers: Peers) -> None:
    peers.apply(Snapshot((A, B)), 0)
    assert told(peers.apply(Snapshot(()), 0)) == ["- 10.5.2.0/24", "- 10.5.3.0/24"]


def test_renewal_ends_here_and_its_revision_is_kept(peers: Peers) -> None:
    peers.apply(Added(A), 0)
    renewed = Lease(A.subnet, LeaseAttrs(A.attrs.public_ip), revision=9, registry_lease=3)
    assert peers.apply(Added(renewed), 0) == Changes()
    assert known(peers)[0].revision == 9


def test_removal_carries_what_was_known(peers: Peers) -> None:
    peers.apply(Added(A), 0)
    [change] = peers.apply(Removed(A.subnet), 0).routes
    assert (change.lease, change.after) == (A, None)
    assert peers.apply(Removed(A.subnet), 0) == Changes()


def test_own_entry_claimed_by_another_host_is_no_peer(peers: Peers) -> None:
    thief = lease("10.5.1.0/24", "192.0.2.66")
    assert peers.apply(Added(thief), 0) == Changes()
    assert told(peers.apply(Snapshot((thief, A)), 0)) == ["+ 10.5.2.0/24 192.0.2.2"]
    assert peers.apply(Removed(OWN.subnet), 0) == Changes()
    dual_thief = lease("10.5.1.0/24", "192.0.2.66", v6="fd00:0:0:9::/64")
    assert told(peers.apply(Added(dual_thief), 0)) == [f"! {dual_thief.subnet} overlap"]
    assert routes(peers) == {"10.5.2.0/24": "192.0.2.2"}


def test_leftover_lease_of_ours_has_no_route(peers: Peers) -> None:
    changes = peers.apply(Snapshot((lease("10.5.9.0/24", "192.0.2.1"), A)), 0)
    assert told(changes) == ["+ 10.5.2.0/24 192.0.2.2", "! 10.5.9.0/24 own_address"]
    assert peers.refused == 1


def test_peer_that_takes_our_address_loses_its_route(peers: Peers) -> None:
    peers.apply(Added(A), 0)
    changes = peers.apply(Added(lease("10.5.2.0/24", "192.0.2.1")), 0)
    assert told(changes) == ["- 10.5.2.0/24", "! 10.5.2.0/24 own_address"]


def test_entries_that_share_half_a_subnet_do_not_shadow_each_other(peers: Peers) -> None:
    dual = lease("10.5.2.0/24", "192.0.2.8", v6="fd00:0:0:2::/64")
    peers.apply(Added(A), 0)
    peers.apply(Added(dual), 0)
    assert told(peers.apply(Removed(A.subnet), 0)) == [
        "- 10.5.2.0/24",
        f"+ {dual.subnet} 192.0.2.8",
    ]
    assert known(peers) == [dual]


def test_ipv6_only_lease_is_known_and_has_no_route(peers: Peers) -> None:
    v6 = Lease(subnet(None, "fd00::/64"), LeaseAttrs(IPAddress(0, 4)))
    assert told(peers.apply(Added(v6), 0)) == ["! fd00::/64 no_ipv4_subnet"]
    assert peers.apply(Removed(v6.subnet), 0) == Changes()
    assert (len(peers), peers.refused) == (0, 0)


# ---------------------------------------------------------------- what is refused


def test_refusal_is_told_once_and_counted_while_it_lasts(peers: Peers) -> None:
    wide = lease("10.5.0.0/16", "192.0.2.66")
    assert told(peers.apply(Added(wide), 0)) == ["! 10.5.0.0/16 too_wide"]
    assert peers.apply(Added(wide), 0) == Changes()
    assert peers.apply(Snapshot((wide,)), 0) == Changes()
    assert (peers.refused, list(peers.leases())) == (1, [(wide, Refusal.TOO_WIDE)])
    assert peers.apply(Removed(wide.subnet), 0) == Changes()
    assert peers.refused == 0


def test_wide_lease_that_was_first_blocks_no_peer(peers: Peers) -> None:
    wide = [
        lease(net, f"192.0.2.{90 + n}")
        for n, net in enumerate(["10.0.0.0/8", "10.5.0.0/16", "10.5.0.0/17", "10.5.128.0/17"])
    ]
    peers.apply(Snapshot((*wide, A, B)), 0)
    assert routes(peers) == {"10.5.2.0/24": "192.0.2.2", "10.5.3.0/24": "192.0.2.3"}
    assert (peers.refused, peers.waiting) == (4, 0)


def test_refused_lease_that_is_corrected_gets_its_route(peers: Peers) -> None:
    assert told(peers.apply(Added(lease("10.5.2.0/24", "127.0.0.1")), 0)) == [
        "! 10.5.2.0/24 not_a_host"
    ]
    assert told(peers.apply(Added(A), 0)) == ["+ 10.5.2.0/24 192.0.2.2"]
    assert told(peers.apply(Added(lease("10.5.2.0/24", "224.0.0.5")), 0)) == [
        "- 10.5.2.0/24",
        "! 10.5.2.0/24 not_a_host",
    ]
    assert peers.refused == 1


def test_waiting_lease_that_loses_its_address_leaves_the_line(peers: Peers) -> None:
    peers.apply(Snapshot((A, lease("10.5.2.0/25", "192.0.2.66"))), 0)
    assert peers.waiting == 1
    changes = peers.apply(Added(lease("10.5.2.0/25", "0.0.0.0")), 0)
    assert told(changes) == ["! 10.5.2.0/25 no_address"]
    assert (peers.waiting, peers.refused) == (0, 1)
    assert told(peers.apply(Removed(A.subnet), 0)) == ["- 10.5.2.0/24"]
    assert routes(peers) == {}


def test_waiting_again_after_a_route_is_told_again(peers: Peers) -> None:
    narrow = lease("10.5.2.0/25", "192.0.2.66")
    assert told(peers.apply(Snapshot((A, narrow)), 0))[-1] == "! 10.5.2.0/25 overlap"
    peers.apply(Removed(A.subnet), 0)
    assert told(peers.apply(Added(A), 0)) == ["! 10.5.2.0/24 overlap"]
    changes = peers.apply(Added(lease("10.5.2.0/25", "127.0.0.1")), 0)
    assert told(changes) == [
        "- 10.5.2.0/25",
        "+ 10.5.2.0/24 192.0.2.2",
        "! 10.5.2.0/25 not_a_host",
    ]
    assert told(peers.apply(Added(narrow), 0)) == ["! 10.5.2.0/25 overlap"]


# ---------------------------------------------------------------- steps


def test_snapshot_in_steps_is_never_more_than_a_step_at_once(peers: Peers) -> None:
    many = tuple(lease(f"10.5.{2 + n // 64}.{n % 64 * 4}/30", "192.0.2.9") for n in range(3000))
    steps = list(peers.steps(Snapshot(many), 0))
    assert max(len(step.routes) for step in steps) <= STEP
    assert sum(len(step.routes) for step in steps) == 3000
    gone = list(peers.steps(Snapshot(()), 0))
    assert max(len(step.routes) for step in gone) <= STEP
    assert routes(peers) == {}


# ---------------------------------------------------------------- the twin

NETS = [
    *("10.5.2.0/24", "10.5.2.0/25", "10.5.2.128/25", "10.5.3.0/24", "10.5.2.0/23"),
    *("10.5.1.0/24", "10.5.1.0/25", "10.5.0.0/16", "10.5.0.0/17", "10.0.0.0/8", "127.0.0.0/8"),
]
ADDRESSES = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "0.0.0.0", "127.0.0.1", "10.5.2.9"]
LEASES = st.builds(
    lease,
    st.sampled_from(NETS),
    st.sampled_from(ADDRESSES),
    v6=st.sampled_from([None, None, "fd00:0:0:7::/64"]),
)
EVENTS = st.one_of(
    LEASES.map(Added),
    LEASES.map(lambda one: Removed(one.subnet)),
    st.lists(LEASES, max_size=8, unique_by=lambda one: one.subnet.key).map(
        lambda many: Snapshot(tuple(many))
    ),
)
PLACES = Places.of(NetConf(network=IPNetwork("10.5.0.0/16")).validated())
JUDGE = Admission(PLACES, OWN)


def obvious(events: list[Event]) -> Iterator[tuple[list[Lease], list[Lease]]]:
    """After each event: all leases, and those with a route, found without any index.

    A lease has its route as long as nothing takes it; what became free goes to who came first.
    """
    everyone: list[Lease] = []
    routed: list[Lease] = []
    line: list[Lease] = []

    def settle() -> None:
        for one in list(line):
            ranges = [OWN.subnet, *(other.subnet for other in routed)]
            if not any(Subnet(one.subnet.v4).overlaps(Subnet(other.v4)) for other in ranges):
                line.remove(one)
                routed.append(one)

    def forget(key: Subnet) -> None:
        for where in (everyone, routed, line):
            where[:] = [one for one in where if one.subnet != key]
        settle()

    def learn(new: Lease) -> None:
        if new.subnet == OWN.subnet:
            return
        old = next((one for one in everyone if one.subnet == new.subnet), None)
        if old is None:
            everyone.append(new)
        else:
            everyone[everyone.index(old)] = new
        if JUDGE.refusal(new) is not None:
            for where in (routed, line):
                where[:] = [one for one in where if one.subnet != new.subnet]
        elif old in routed or old in line:
            where = routed if old in routed else line
            where[where.index(old)] = new
        else:
            line.append(new)
        settle()

    for event in events:
        if isinstance(event, Snapshot):
            present = {one.subnet for one in event.leases}
            for one in [one for one in everyone if one.subnet not in present]:
                forget(one.subnet)
            for one in event.leases:
                learn(one)
        elif isinstance(event, Removed):
            forget(event.subnet)
        else:
            learn(event.lease)
        yield everyone, routed


@given(st.lists(EVENTS, max_size=14))
@settings(max_examples=400, deadline=None)
def test_any_history_ends_where_the_obvious_table_ends(events: list[Event]) -> None:
    peers = peers_for(OWN)
    follower: dict[str, str] = {}
    for event, (everyone, routed) in zip(events, obvious(events), strict=True):
        changes = peers.apply(event, 0)
        for change in changes.routes:
            net = str(change.lease.subnet.v4)
            before = None if change.before is None else str(change.before.address)
            assert follower.pop(net, None) == before
            if change.after is not None:
                follower[net] = str(change.after.address)
        assert known(peers) == everyone
        wanted = {str(one.subnet.v4): str(one.attrs.public_ip) for one in routed}
        assert routes(peers) == follower == wanted
        reasons = {one.subnet.key: why for one, why in peers.leases()}
        assert {key for key, why in reasons.items() if why is None} == {
            one.subnet.key for one in routed
        }
        waiting = sum(why is Refusal.OVERLAP for why in reasons.values())
        refused = sum(why not in (None, Refusal.OVERLAP) for why in reasons.values())
        assert (peers.waiting, peers.refused, peers.held) == (waiting, refused, 0)
        for one in changes.refused:
            assert reasons[one.lease.subnet.key] is one.refusal


def test_plain_attributes_are_compared_by_content(peers: Peers) -> None:
    peers.apply(Added(A), 0)
    assert peers.apply(Added(Lease(A.subnet, attrs("192.0.2.2"))), 0) == Changes()
