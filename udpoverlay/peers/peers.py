"""All other hosts' leases: one event in, the routes that change out.

Owns: what was known and what is (flannel pkg/lease/lease.go), and the order of the parts below.
Must not know: registries, C, clocks; `now` is a parameter.

    Snapshot/Added/Removed ─► is it news? ─► can it be a peer? ─► who held it? ─► who has the range?
                              a renewal      admission.py         holdover.py     route_plan.py
                              ends here      refused, and why     displaced       route or waiting

One entry is one subnet as the registry spells it. Our own entry is never in the table, not even
when another host claims it. A snapshot is taken in steps: thousands of leases stop nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from netaddr import IPNetwork

from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.events import Event, Removed, Snapshot
from udpoverlay.model.lease import Lease, SubnetKey
from udpoverlay.model.refusal import Refusal
from udpoverlay.model.schedule import LEASE_SECONDS
from udpoverlay.peers.admission import Admission
from udpoverlay.peers.holdover import Holdover
from udpoverlay.peers.route_plan import RouteChange, RoutePlan

__all__ = ["Changes", "Peers", "Refused"]

STEP = 250
"""Leases in one step of `steps`: some milliseconds."""


@dataclass(frozen=True, slots=True)
class Refused:
    """`lease` has no route since now, or has none for another reason than before."""

    lease: Lease
    refusal: Refusal
    holder: Lease | None = None
    """OVERLAP: whose range it is; None: this host's."""


@dataclass(slots=True)
class Changes:
    """What one event, or one step of it, changed."""

    routes: list[RouteChange] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def add(self, more: Changes) -> None:
        """Append what came later."""
        self.routes += more.routes
        self.refused += more.refused


@dataclass(slots=True)
class _Peer:
    lease: Lease
    refusal: Refusal | None = None
    """None also for a claim that waits: the plan knows."""
    reported: Refusal | None = None
    """What was last reported of it in `Changes.refused`."""


class Peers:
    """Follows one watch; not for several threads."""

    def __init__(
        self,
        own: Lease,
        admission: Admission,
        *,
        route: Callable[[Lease], Endpoint],
        hold_seconds: float = LEASE_SECONDS,
    ) -> None:
        """`route`: where packets for a peer go. `hold_seconds`: how long the forgotten are kept."""
        self._own = own.subnet.key
        self._admission = admission
        self._plan = RoutePlan(own.subnet, route)
        self._holdover = Holdover(hold_seconds)
        self._peers: dict[SubnetKey, _Peer] = {}
        self._refused = 0
        self._unsettled: set[SubnetKey] = set()
        """Leases that `recheck` looks at."""
        self._judged: list[SubnetKey] = []
        """Leases whose refusal, if there is one, is still to be reported."""

    # ------------------------------------------------------------------ what others may ask

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def routes(self) -> Mapping[IPNetwork, Endpoint]:
        """What to publish, whole; always the same object."""
        return self._plan.routes

    @property
    def held(self) -> int:
        """How many peers keep their route though the registry forgot them."""
        return len(self._holdover)

    @property
    def waiting(self) -> int:
        """How many leases have no route because their range is in use."""
        return self._plan.waiting

    @property
    def refused(self) -> int:
        """How many leases have no route for another reason."""
        return self._refused

    def leases(self) -> Iterator[tuple[Lease, Refusal | None]]:
        """All leases, the longest known first, each with the reason why it has no route."""
        for key, peer in self._peers.items():
            yield peer.lease, self._refusal(key, peer)

    # ------------------------------------------------------------------ events

    def apply(self, event: Event, now: float) -> Changes:
        """Take in one event at `now` (seconds) and return what it changes.

        Of a Snapshot, what is not in it goes first; leases that it repeats unchanged change
        nothing, nor does a renewal.
        """
        changes = Changes()
        for step in self.steps(event, now):
            changes.add(step)
        return changes

    def steps(self, event: Event, now: float) -> Iterator[Changes]:
        """`apply` in steps of a few milliseconds. No other call may change anything in between."""
        if isinstance(event, Snapshot):
            yield from self._snapshot(event, now)
        elif isinstance(event, Removed):
            yield self._remove(event.subnet.key)
        else:
            yield self._reported(self._added(event.lease))

    def expire(self, now: float) -> Changes:
        """Remove every held peer that did not come back within the term."""
        changes = Changes()
        for key in self._holdover.overdue(now):
            changes.add(self._remove(key))
        return changes

    def recheck(self) -> Iterator[Changes]:
        """Judge again, in steps, what depends on this host's routes and addresses."""
        for number, key in enumerate(list(self._unsettled), 1):
            peer = self._peers.get(key)
            if peer is not None:
                changes = self._reported(self._judge(key, peer))
                if number % STEP == 0 or changes.routes or changes.refused:
                    yield changes

    def _snapshot(self, snapshot: Snapshot, now: float) -> Iterator[Changes]:
        present: set[SubnetKey] = set()
        for number, lease in enumerate(snapshot.leases, 1):
            present.add(lease.subnet.key)
            if number % (4 * STEP) == 0:
                yield Changes()
        changes = Changes()
        for number, (key, peer) in enumerate(list(self._peers.items()), 1):
            if key in present:
                continue
            if snapshot.lost_history and self._refusal(key, peer) is None:
                self._holdover.hold(peer.lease, now)
            if key not in self._holdover:
                changes.add(self._remove(key))
            if number % STEP == 0:
                yield changes
                changes = Changes()
        for number, lease in enumerate(snapshot.leases, 1):
            changes.add(self._added(lease))
            if number % STEP == 0:
                yield changes
                changes = Changes()
        yield changes
        # At the end: what had to wait may have got its range from a lease that came after it.
        while self._judged:
            yield self._reported(Changes())

    # ------------------------------------------------------------------ one lease

    def _added(self, lease: Lease) -> Changes:
        key = lease.subnet.key
        if key == self._own:
            return Changes()
        self._holdover.release(key)
        peer = self._peers.get(key)
        if peer is None:
            peer = self._peers[key] = _Peer(lease)
        else:
            known, peer.lease = peer.lease.attrs, lease
            if known is lease.attrs or known == lease.attrs:
                return Changes()
        return self._judge(key, peer)

    def _remove(self, key: SubnetKey) -> Changes:
        self._holdover.release(key)
        self._unsettled.discard(key)
        peer = self._peers.pop(key, None)
        if peer is None:
            return Changes()
        if peer.refusal is not None:
            self._refused -= 1
        return Changes(self._drop(key))

    def _judge(self, key: SubnetKey, peer: _Peer) -> Changes:
        """Give `peer` its route, its place in the line or its refusal."""
        lease = peer.lease
        before, peer.refusal = peer.refusal, self._admission.refusal(lease)
        self._refused += (peer.refusal is not None) - (before is not None)
        if self._admission.may_change(lease, peer.refusal):
            self._unsettled.add(key)
        else:
            self._unsettled.discard(key)
        changes = Changes()
        if peer.refusal is not None:
            changes.routes = self._drop(key)
        else:
            for displaced in self._displaced(key, lease):
                changes.add(self._remove(displaced))
            changes.routes += self._plan.place(key, lease)
        self._judged.append(key)
        return changes

    def _drop(self, key: SubnetKey) -> list[RouteChange]:
        changes = self._plan.drop(key)
        for change in changes:
            if (
                change.before is None
            ):  # it waited for this; if it waits again, that is reported again
                self._peers[change.lease.subnet.key].reported = None
        return changes

    def _displaced(self, key: SubnetKey, lease: Lease) -> list[SubnetKey]:
        """Held subnets that `lease`, which is news, shows to be given up."""
        if not self._holdover:
            return []
        rivals = (*self._holdover.of_address(lease), *self._plan.holders(lease.subnet))
        return [rival for rival in rivals if rival in self._holdover and rival != key]

    def _refusal(self, key: SubnetKey, peer: _Peer) -> Refusal | None:
        return peer.refusal or (Refusal.OVERLAP if self._plan.waits(key) else None)

    def _reported(self, changes: Changes) -> Changes:
        """Add to `changes` what was judged and has no route now, a step's worth of it."""
        for key in self._judged[:STEP]:
            peer = self._peers.get(key)
            if peer is None:
                continue
            refusal = self._refusal(key, peer)
            if refusal is not None and refusal is not peer.reported:
                holder = self._plan.holder(key) if refusal is Refusal.OVERLAP else None
                changes.refused.append(Refused(peer.lease, refusal, holder))
            peer.reported = refusal
        del self._judged[:STEP]
        return changes
