"""What becomes of peers that a registry without memory forgot."""

from __future__ import annotations

from tests.support.leases import lease, peers_for
from udpoverlay.model.events import Added, Removed, Snapshot
from udpoverlay.model.lease import Lease
from udpoverlay.peers.peers import Changes, Peers

OWN = lease("10.5.100.0/24", "192.0.2.100")
A = lease("10.5.1.0/24", "192.0.2.1")
B = lease("10.5.2.0/24", "192.0.2.2")
C = lease("10.5.3.0/24", "192.0.2.3")
LOST = Snapshot((), lost_history=True)


def following(*leases: Lease, term: float = 100.0) -> Peers:
    peers = peers_for(OWN, hold=term)
    peers.apply(Snapshot(leases), 0.0)
    return peers


def holding(*leases: Lease, now: float = 0.0, term: float = 100.0) -> Peers:
    peers = following(*leases, term=term)
    assert peers.apply(LOST, now) == Changes()
    assert peers.held == len(leases)
    return peers


def nets(peers: Peers) -> list[str]:
    return sorted(str(net) for net in peers.routes)


def test_forgotten_peers_stay_after_history_was_lost() -> None:
    assert nets(holding(A, B)) == ["10.5.1.0/24", "10.5.2.0/24"]


def test_deleted_peers_go_when_history_was_not_lost() -> None:
    peers = following(A, B)
    peers.apply(Snapshot((B,)), 0.0)
    assert (nets(peers), peers.held) == (["10.5.2.0/24"], 0)


def test_what_the_registry_still_has_is_not_held() -> None:
    peers = following(A, B)
    peers.apply(Snapshot((A,), lost_history=True), 0.0)
    assert (len(peers), peers.held) == (2, 1)


def test_peer_that_writes_itself_again_is_an_ordinary_peer() -> None:
    peers = holding(A, B)
    assert peers.apply(Added(A), 1) == Changes()
    peers.expire(1000)
    assert nets(peers) == ["10.5.1.0/24"]
    assert peers.held == 0


def test_peer_that_comes_back_with_another_subnet_has_moved() -> None:
    peers = holding(A, B)
    peers.apply(Added(lease("10.5.9.0/24", "192.0.2.1")), 1)
    assert nets(peers) == ["10.5.2.0/24", "10.5.9.0/24"]
    assert peers.held == 1


def test_subnet_given_to_another_host_is_not_held_against_it() -> None:
    peers = holding(A, B, C)
    peers.apply(Added(lease("10.5.0.0/22", "192.0.2.9")), 1)
    assert nets(peers) == ["10.5.0.0/22"]
    assert peers.held == 0


def test_same_subnet_taken_by_another_host_is_a_plain_change() -> None:
    peers = holding(A)
    [change] = peers.apply(Added(lease("10.5.1.0/24", "192.0.2.9")), 1).routes
    assert change.before is not None
    assert change.after is not None
    assert peers.held == 0


def test_no_peer_is_held_longer_than_a_term() -> None:
    peers = holding(A, now=50.0, term=100.0)
    assert peers.expire(149.9) == Changes()
    assert len(peers.expire(150.0).routes) == 1
    assert peers.expire(150.0) == Changes()
    assert len(peers) == 0


def test_second_loss_does_not_begin_the_term_again() -> None:
    peers = holding(A, now=0.0, term=100.0)
    peers.apply(LOST, 90.0)
    assert len(peers.expire(100.0).routes) == 1


def test_later_ordinary_snapshot_keeps_those_who_are_held() -> None:
    peers = holding(A, B)
    peers.apply(Snapshot((C,), 5), 1)
    assert nets(peers) == ["10.5.1.0/24", "10.5.2.0/24", "10.5.3.0/24"]
    assert peers.held == 2


def test_deletion_of_a_held_entry_removes_it() -> None:
    peers = holding(A)
    assert len(peers.apply(Removed(A.subnet), 1).routes) == 1
    assert (len(peers), peers.held) == (0, 0)


def test_snapshot_that_gives_the_range_away_ends_the_hold() -> None:
    taker = lease("10.5.1.128/25", "192.0.2.9")
    peers = following(A, B)
    peers.apply(Snapshot((taker,), lost_history=True), 0)
    assert nets(peers) == ["10.5.1.128/25", "10.5.2.0/24"]
    assert peers.held == 1


def test_claim_that_waited_before_the_loss_goes_on_waiting() -> None:
    squatter = lease("10.5.1.0/25", "192.0.2.66")
    peers = following(A, squatter)
    peers.apply(Snapshot((squatter,), lost_history=True), 0)
    peers.apply(Added(squatter), 1)
    assert nets(peers) == ["10.5.1.0/24"]
    assert (peers.held, peers.waiting) == (1, 1)
    peers.expire(101)
    assert nets(peers) == ["10.5.1.0/25"]


def test_refused_claim_ends_no_hold() -> None:
    peers = holding(A, B)
    for net, public_ip in (
        ("10.0.0.0/8", "192.0.2.66"),
        ("10.5.0.0/16", "192.0.2.1"),
        ("10.5.1.0/25", "127.0.0.1"),
    ):
        peers.apply(Added(lease(net, public_ip)), 1)
    assert nets(peers) == ["10.5.1.0/24", "10.5.2.0/24"]
    assert peers.held == 2


def test_leases_without_a_route_are_not_held() -> None:
    refused = lease("10.5.0.0/16", "192.0.2.66")
    waiting = lease("10.5.1.0/25", "192.0.2.67")
    peers = following(refused, A, waiting)
    peers.apply(LOST, 0)
    assert (len(peers), peers.held, peers.refused, peers.waiting) == (1, 1, 0, 0)
