"""Peers that a registry forgot: kept until it knows better, for one lease term at most.

Owns: what happens when a registry lost its history (wiped, replaced, restored from an older copy).
Must not know: which registry, routes, timers; `now` is a parameter.

A host that is missing after such a loss did not give its subnet up: nobody deleted its entry and it
did not run out. It will write itself again (udpoverlay within seconds, flanneld when it renews
next, up to 24 hours later), so packets keep flowing to it until one of these happens:

    its entry is back                                → an ordinary peer again
    its public IP comes back with another subnet     → it moved
    another host leases a subnet that overlaps its   → the registry has given it away
    a lease term has passed                          → it did not come back
    its entry is deleted or runs out                 → removed, as ever
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from udpoverlay.model.claims import Claims
from udpoverlay.model.events import Added, Event, Removed, Snapshot
from udpoverlay.model.lease import Lease, Subnet
from udpoverlay.model.schedule import LEASE_SECONDS

__all__ = ["Holdover"]


class Holdover:
    """Stands between a watch and the lease table: events in, events out."""

    def __init__(self, term: float = LEASE_SECONDS) -> None:
        self._term = term
        self._held: dict[Subnet, tuple[Lease, float]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def admit(self, event: Event, known: Callable[[], Iterable[Lease]], now: float) -> list[Event]:
        """Return what the lease table shall see of `event`.

        `known` gives the peers before it, asked only when history was lost; `now` is in seconds.
        """
        if isinstance(event, Snapshot):
            return [self._snapshot(event, known, now)]
        if not self._held:
            return [event]
        if isinstance(event, Removed):
            self._held.pop(event.subnet, None)
            return [event]
        return [*self._displaced(event), event]

    def expire(self, now: float) -> list[Event]:
        """Return the removal of everyone who did not come back within the term."""
        over = [subnet for subnet, (_, until) in self._held.items() if until <= now]
        for subnet in over:
            del self._held[subnet]
        return [Removed(subnet) for subnet in over]

    def _snapshot(
        self, snapshot: Snapshot, known: Callable[[], Iterable[Lease]], now: float
    ) -> Snapshot:
        candidates = dict(self._held)
        if snapshot.lost_history:
            for lease in known():
                candidates.setdefault(lease.subnet, (lease, now + self._term))
        if not candidates:
            return snapshot
        claims = Claims(lease.subnet for lease in snapshot.leases)
        addresses = {lease.attrs.public_ip.value for lease in snapshot.leases}
        self._held = {
            subnet: (lease, until)
            for subnet, (lease, until) in candidates.items()
            if lease.attrs.public_ip.value not in addresses and not claims.overlap(subnet)
        }
        kept = tuple(lease for lease, _ in self._held.values())
        return replace(snapshot, leases=snapshot.leases + kept)

    def _displaced(self, event: Added) -> list[Event]:
        """Forget those whom `event` replaces; they need a removal, save for the same subnet."""
        lease = event.lease
        if self._held.pop(lease.subnet, None) is not None:
            return []
        gone = [
            subnet
            for subnet, (held, _) in self._held.items()
            if held.attrs.public_ip == lease.attrs.public_ip or subnet.overlaps(lease.subnet)
        ]
        for subnet in gone:
            del self._held[subnet]
        return [Removed(subnet) for subnet in gone]
