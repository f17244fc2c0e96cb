"""When to renew, on two clocks that lie in different ways."""

from __future__ import annotations

from udpoverlay.model.schedule import (
    LEASE_SECONDS,
    LONGEST_SLEEP,
    RETRY_SECONDS,
    Moment,
    Renewal,
    jump,
)

START = Moment(monotonic=500.0, wall=1_700_000_000.0)
PLAN = Renewal(START, term=LEASE_SECONDS, margin=3600)


def later(seconds: float, wall_jump: float = 0.0, base: Moment = START) -> Moment:
    return Moment(base.monotonic + seconds, base.wall + seconds + wall_jump)


def test_a_lease_is_renewed_its_margin_before_the_end() -> None:
    assert PLAN.due_in(START) == LEASE_SECONDS - 3600
    assert PLAN.due_in(later(82_000)) == 800
    assert PLAN.due_in(later(82_800)) == 0
    assert PLAN.due_in(later(90_000)) == 0


def test_a_reservation_is_never_due_and_never_expires() -> None:
    plan = Renewal(START, term=None, margin=3600)
    assert plan.due_in(later(10**9)) is None
    assert not plan.expired(later(10**9))
    assert plan.sleep(START) == LONGEST_SLEEP


def test_a_failure_is_tried_again_a_minute_later_for_ever() -> None:
    plan = PLAN.failed(later(82_800))
    assert plan.due_in(later(82_800)) == RETRY_SECONDS
    assert plan.due_in(later(82_830)) == 30
    plan = plan.failed(later(82_860))
    assert plan.due_in(later(82_860)) == RETRY_SECONDS


def test_a_success_starts_the_term_afresh() -> None:
    now = later(82_900)
    plan = PLAN.failed(later(82_800)).renewed(now, LEASE_SECONDS)
    assert plan.due_in(now) == LEASE_SECONDS - 3600


def test_an_entry_that_became_a_reservation_is_left_alone() -> None:
    assert PLAN.renewed(later(5), None).due_in(later(99_999)) is None


def test_term_within_the_margin_is_renewed_at_half_time() -> None:
    plan = Renewal(START, term=60, margin=3600)
    assert plan.due_in(START) == 30
    assert plan.due_in(later(30)) == 0


def test_waking_from_suspend_makes_an_old_lease_due() -> None:
    asleep = Moment(START.monotonic + 10, START.wall + 85_000)
    assert PLAN.due_in(asleep) == 0
    assert not PLAN.expired(asleep)
    assert PLAN.expired(Moment(START.monotonic + 10, START.wall + LEASE_SECONDS))


def test_a_wall_clock_set_back_does_not_delay_the_renewal() -> None:
    assert PLAN.due_in(later(82_800, wall_jump=-(10**8))) == 0
    assert PLAN.due_in(later(1000, wall_jump=-(10**8))) == LEASE_SECONDS - 3600 - 1000


def test_a_wall_clock_set_forward_renews_once_and_then_not_again() -> None:
    jumped = later(10, wall_jump=10**8)
    assert PLAN.due_in(jumped) == 0
    assert PLAN.renewed(jumped, LEASE_SECONDS).due_in(jumped) == LEASE_SECONDS - 3600


def test_nobody_sleeps_through_a_clock_jump() -> None:
    assert PLAN.sleep(START) == LONGEST_SLEEP
    assert PLAN.sleep(later(82_795)) == 5


def test_a_jump_is_what_the_clocks_disagree_about() -> None:
    assert jump(START, later(100)) == 0
    assert jump(START, later(100, wall_jump=-7200)) == -7200
