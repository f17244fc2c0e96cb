"""When to renew and when to try again; both clocks are parameters, nothing here reads one.

Owns: the times of flannel pkg/subnet/etcd/local_manager.go (CompleteLease).
Must not know: what is renewed. Times are seconds.

Two clocks, because each lies in its own way: the monotonic clock stands still while the machine is
suspended, the wall clock jumps when it is set. A lease is as old as the clock that ran
further says. Waking from suspend or a jump forward renews too early, which is harmless; a jump
backward changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = [
    "LEASE_SECONDS",
    "LONGEST_SLEEP",
    "RETRY_SECONDS",
    "Moment",
    "Renewal",
    "jump",
]

LEASE_SECONDS = 86400
"""Term of a lease in etcd: 24 hours."""

RETRY_SECONDS = 60.0
"""Pause after a renewal that failed; tried for ever."""

LONGEST_SLEEP = 30.0
"""The longest sleep without another look at both clocks."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks."""

    monotonic: float
    wall: float


def jump(before: Moment, after: Moment) -> float:
    """How far the wall clock ran ahead of (or, negative, fell behind) the monotonic one."""
    return (after.wall - before.wall) - (after.monotonic - before.monotonic)


@dataclass(frozen=True, slots=True)
class Renewal:
    """When one lease is due.

    `granted` is taken before the request that got the term, so that the lease never seems younger
    than the registry thinks. `term` is what the registry granted, None for a reservation.
    """

    granted: Moment
    term: float | None
    margin: float
    """Seconds before the end of the term at which to renew."""
    retry_at: Moment | None = None
    """Set after a failure: not before RETRY_SECONDS have passed since then."""

    @staticmethod
    def _elapsed(since: Moment, now: Moment) -> float:
        return max(now.monotonic - since.monotonic, now.wall - since.wall, 0.0)

    def due_in(self, now: Moment) -> float | None:
        """Seconds until the next attempt, 0 when it is due, None when it never is.

        A term that is not longer than the margin is renewed when half of it has passed: renewing at
        once, as upstream does, would never stop.
        """
        if self.term is None:
            return None
        if self.retry_at is not None:
            return max(0.0, RETRY_SECONDS - self._elapsed(self.retry_at, now))
        after = self.term - self.margin if self.term > self.margin else self.term / 2
        return max(0.0, after - self._elapsed(self.granted, now))

    def sleep(self, now: Moment) -> float:
        """Seconds to wait before calling `due_in` again."""
        due = self.due_in(now)
        return LONGEST_SLEEP if due is None else min(due, LONGEST_SLEEP)

    def expired(self, now: Moment) -> bool:
        """Whether the registry has let the lease run out by now, as far as we can tell."""
        return self.term is not None and self._elapsed(self.granted, now) >= self.term

    def failed(self, now: Moment) -> Renewal:
        """Return the plan after an attempt that failed at `now`."""
        return replace(self, retry_at=now)

    def renewed(self, granted: Moment, term: float | None) -> Renewal:
        """Return the plan after a success, or after another client wrote our entry."""
        return replace(self, granted=granted, term=term, retry_at=None)
