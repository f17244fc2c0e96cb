"""What becomes of peers that a registry without memory forgot."""

from __future__ import annotations

from tests.support.leases import lease, subnet
from udpoverlay.model.events import Added, Removed, Snapshot
from udpoverlay.model.lease import Lease
from udpoverlay.peers.holdover import Holdover

A = lease("10.5.1.0/24", "192.0.2.1")
B = lease("10.5.2.0/24", "192.0.2.2")
C = lease("10.5.3.0/24", "192.0.2.3")


def nobody() -> list[Lease]:
    raise AssertionError("the known peers matter only when history was lost")


def holding(*known: Lease, now: float = 0.0, term: float = 100.0) -> Holdover:
    holdover = Holdover(term)
    [event] = holdover.admit(Snapshot((), lost_history=True), lambda: known, now)
    assert isinstance(event, Snapshot)
    assert event.leases == known
    return holdover


def test_an_ordinary_snapshot_passes_untouched() -> None:
    snapshot = Snapshot((A,), 7)
    assert Holdover().admit(snapshot, nobody, 0) == [snapshot]


def test_ordinary_changes_pass_untouched() -> None:
    holdover = Holdover()
    for event in (Added(A), Removed(A.subnet)):
        assert holdover.admit(event, nobody, 0) == [event]


def test_forgotten_peers_stay_after_history_was_lost() -> None:
    holdover = holding(A, B)
    assert len(holdover) == 2


def test_what_the_registry_still_has_is_not_held() -> None:
    holdover = Holdover()
    [event] = holdover.admit(Snapshot((A,), lost_history=True), lambda: [A, B], 0)
    assert event == Snapshot((A, B), lost_history=True)
    assert len(holdover) == 1


def test_a_peer_that_writes_itself_again_is_an_ordinary_peer() -> None:
    holdover = holding(A, B)
    assert holdover.admit(Added(A), nobody, 1) == [Added(A)]
    assert holdover.expire(1000) == [Removed(B.subnet)]


def test_a_peer_that_comes_back_with_another_subnet_has_moved() -> None:
    moved = lease("10.5.9.0/24", "192.0.2.1")
    holdover = holding(A, B)
    assert holdover.admit(Added(moved), nobody, 1) == [Removed(A.subnet), Added(moved)]
    assert len(holdover) == 1


def test_a_subnet_given_to_somebody_else_is_not_held_against_them() -> None:
    taker = lease("10.5.0.0/22", "192.0.2.9")
    holdover = holding(A, B, C)
    events = holdover.admit(Added(taker), nobody, 1)
    assert events == [Removed(A.subnet), Removed(B.subnet), Removed(C.subnet), Added(taker)]
    assert len(holdover) == 0


def test_the_same_subnet_taken_by_another_host_is_a_plain_change() -> None:
    taker = lease("10.5.1.0/24", "192.0.2.9")
    assert holding(A).admit(Added(taker), nobody, 1) == [Added(taker)]


def test_nobody_is_held_longer_than_a_term() -> None:
    holdover = holding(A, now=50.0, term=100.0)
    assert holdover.expire(149.9) == []
    assert holdover.expire(150.0) == [Removed(A.subnet)]
    assert holdover.expire(150.0) == []


def test_a_second_loss_does_not_begin_the_term_again() -> None:
    holdover = holding(A, now=0.0, term=100.0)
    holdover.admit(Snapshot((), lost_history=True), lambda: [A], 90.0)
    assert holdover.expire(100.0) == [Removed(A.subnet)]


def test_a_later_ordinary_snapshot_keeps_those_who_are_held() -> None:
    holdover = holding(A, B)
    [event] = holdover.admit(Snapshot((C,), 5), nobody, 1)
    assert event == Snapshot((C, A, B), 5)


def test_a_deletion_of_a_held_entry_removes_it() -> None:
    holdover = holding(A)
    assert holdover.admit(Removed(A.subnet), nobody, 1) == [Removed(A.subnet)]
    assert len(holdover) == 0


def test_a_snapshot_that_gives_the_range_away_ends_the_hold() -> None:
    taker = lease("10.5.1.128/25", "192.0.2.9")
    holdover = Holdover()
    [event] = holdover.admit(Snapshot((taker,), lost_history=True), lambda: [A, B], 0)
    assert event == Snapshot((taker, B), lost_history=True)
    assert subnet("10.5.1.0/24") == A.subnet
