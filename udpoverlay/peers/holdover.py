"""Peers that a registry forgot: kept until it knows better, for one lease term at most.

Owns: who is held until when. Must not know: which registry, routes, timers; `now` is a parameter.

A host that is missing after a registry lost its history (wiped, replaced, restored from an older
copy) did not give its subnet up: its entry was not deleted and did not run out. It will write
itself again (udpoverlay within seconds, flanneld when it renews next, up to 24 hours later), so
packets keep flowing to it until one of these happens:

    its entry is back                                → an ordinary peer again
    its public IP comes back with another subnet     → it moved
    a new claim overlaps its subnet                  → the registry has given it away
    a lease term has passed                          → it did not come back
    its entry is deleted or runs out                 → removed, as ever

A claim that waited for its subnet before the loss is no new one: it goes on waiting.
"""

from __future__ import annotations

from udpoverlay.model.lease import Lease, SubnetKey
from udpoverlay.model.schedule import LEASE_SECONDS

__all__ = ["Holdover"]


class Holdover:
    """The leases that are held, by subnet and by public IP."""

    def __init__(self, term: float = LEASE_SECONDS) -> None:
        """`term`: seconds that a lease is held at most."""
        self._term = term
        self._held: dict[SubnetKey, tuple[Lease, float]] = {}
        self._by_address: dict[int, set[SubnetKey]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: SubnetKey) -> bool:
        return key in self._held

    def hold(self, lease: Lease, now: float) -> None:
        """Keep `lease` from `now` on; one that is held already keeps its time."""
        key = lease.subnet.key
        if key not in self._held:
            self._held[key] = (lease, now + self._term)
            self._by_address.setdefault(lease.attrs.public_ip.value, set()).add(key)

    def release(self, key: SubnetKey) -> None:
        """Hold a lease no longer, whatever becomes of it."""
        held = self._held.pop(key, None)
        if held is None:
            return
        address = held[0].attrs.public_ip.value
        self._by_address[address].discard(key)
        if not self._by_address[address]:
            del self._by_address[address]

    def of_address(self, lease: Lease) -> list[SubnetKey]:
        """Subnets that are held for the host that publishes `lease` now."""
        return list(self._by_address.get(lease.attrs.public_ip.value, ()))

    def overdue(self, now: float) -> list[SubnetKey]:
        """Who did not come back within the term."""
        return [key for key, (_, until) in self._held.items() if until <= now]
