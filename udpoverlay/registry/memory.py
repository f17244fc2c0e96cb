"""A registry in the memory of this process: several hosts of one event loop share one store.

Owns: the same promises as etcd.py without a network: conditional writes, terms, a watch. It serves
tests of everything above the registry, and as the plainest statement of what base.Registry means.
Must not know: routes, who renews. Time is the store's clock; `sweep` lets what ran out go.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from udpoverlay.errors import RegistryConflict, RegistryUnavailable
from udpoverlay.model.acquire import RACE_RETRIES, Delete, Listing, Reuse, decide
from udpoverlay.model.events import Added, Event, Removed, Snapshot
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.schedule import LEASE_SECONDS

__all__ = ["MemoryRegistry", "MemoryStore"]


class MemoryStore:
    """What all hosts see. Methods that change it tell every watcher."""

    def __init__(self, conf: NetConf | None, clock: Callable[[], float]) -> None:
        """`conf` is validated, None for "not stored yet"; `clock` is in seconds."""
        self.conf = conf
        self.clock = clock
        self.revision = 1
        self.reachable = True
        """False: every request fails with RegistryUnavailable and watches stay silent."""
        self._grants = 0
        self._entries: dict[Subnet, Lease] = {}
        self._watchers: list[asyncio.Queue[Event]] = []

    def leases(self) -> tuple[Lease, ...]:
        """All entries, ordered by subnet as etcd orders keys."""
        return tuple(sorted(self._entries.values(), key=lambda lease: str(lease.subnet)))

    def get(self, subnet: Subnet) -> Lease | None:
        """The entry of a subnet."""
        return self._entries.get(subnet)

    def grant(self) -> int:
        """A lease id that no other host gets."""
        self._grants += 1
        return self._grants

    def put(self, lease: Lease) -> Lease:
        """Write an entry, also one of another holder; return it with its new revision."""
        self.revision += 1
        stored = replace(lease, revision=self.revision)
        self._entries[lease.subnet] = stored
        self._tell(Added(stored))
        return stored

    def delete(self, subnet: Subnet) -> None:
        """Delete an entry that is there."""
        self.revision += 1
        del self._entries[subnet]
        self._tell(Removed(subnet, self.revision))

    def tell_late(self, subnet: Subnet, revision: int) -> None:
        """Tell of a deletion at `revision`, after which the entry was written again."""
        self._tell(Removed(subnet, revision))

    def sweep(self) -> None:
        """Delete what has run out by now."""
        now = self.clock()
        for lease in self.leases():
            if lease.expires_at is not None and lease.expires_at <= now:
                self.delete(lease.subnet)

    def lose_history(self, *kept: Lease) -> None:
        """Forget everything but `kept`, as a store does that was restored from an old copy."""
        self.revision = 1
        self._entries = {lease.subnet: lease for lease in kept}
        self._tell(Snapshot(self.leases(), self.revision, lost_history=True))

    def subscribe(self) -> asyncio.Queue[Event]:
        """A queue that begins with a Snapshot and gets every change from then on."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        queue.put_nowait(Snapshot(self.leases(), self.revision))
        self._watchers.append(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[Event]) -> None:
        """Stop filling `queue`."""
        self._watchers.remove(queue)

    def _tell(self, event: Event) -> None:
        for queue in self._watchers:
            queue.put_nowait(event)


class MemoryRegistry:
    """One host's view of a store; implements registry.base.Registry."""

    def __init__(
        self, store: MemoryStore, *, rng: random.Random | None = None, term: int = LEASE_SECONDS
    ) -> None:
        self._store = store
        self._rng = rng if rng is not None else random.SystemRandom()
        self._term = term
        self._granted: set[int] = set()
        self._counters: Counter[str] = Counter()
        self._watched = False

    async def stored_public_ips(self) -> tuple[str, str]:
        """None is kept here."""
        return "", ""

    async def network_config(self) -> NetConf:
        """See registry.base."""
        self._request()
        if self._store.conf is None:
            raise RegistryUnavailable("no network configuration is stored")
        return self._store.conf

    async def acquire(
        self, attrs: LeaseAttrs, previous: Subnet | None, conf: NetConf | None = None
    ) -> Lease:
        """See registry.base."""
        conf = conf or await self.network_config()
        for _ in range(RACE_RETRIES + 1):
            decision = decide(Listing(self._store.leases()), attrs, previous, conf, self._rng)
            if isinstance(decision, Delete):
                for stale in decision.leases:
                    self._store.delete(stale.subnet)
            elif isinstance(decision, Reuse):
                return self._put(replace(decision.lease, attrs=attrs), decision.reservation)
            else:
                return self._put(Lease(decision.subnet, attrs), reservation=False)
        raise RegistryConflict("own leases that do not fit come back faster than they are deleted")

    async def renew(self, lease: Lease) -> Lease:
        """See registry.base."""
        self._request()
        current = self._store.get(lease.subnet)
        if current is not None and current.attrs.public_ip != lease.attrs.public_ip:
            raise RegistryConflict(
                f"subnet {lease.subnet} is now leased by {current.attrs.public_ip}, not by us "
                f"({lease.attrs.public_ip})"
            )
        return self._put(lease, current is not None and current.registry_lease == 0)

    async def republish(self, lease: Lease, attrs: LeaseAttrs) -> Lease:
        """See registry.base."""
        self._request()
        current = self._store.get(lease.subnet)
        ours = {lease.attrs.public_ip, attrs.public_ip}
        if current is not None and current.attrs.public_ip not in ours:
            raise RegistryConflict(f"subnet {lease.subnet} is now another host's")
        reservation = current is not None and current.registry_lease == 0
        return self._put(replace(lease, attrs=attrs), reservation)

    async def complete(self, lease: Lease) -> None:
        """There is no data path to report."""

    async def watch(self) -> AsyncIterator[Event]:
        """See registry.base."""
        queue = self._store.subscribe()
        try:
            while True:
                event = await queue.get()
                self._watched = True
                yield event
        finally:
            self._store.unsubscribe(queue)

    async def watch_own(self, lease: Lease) -> AsyncIterator[Event]:
        """See registry.base."""
        async for event in self.watch():
            if isinstance(event, Snapshot):
                own = tuple(found for found in event.leases if found.subnet == lease.subnet)
                if event.lost_history:
                    yield replace(event, leases=own)
                elif own:
                    yield self._own(own[0])
                else:
                    yield Removed(lease.subnet, event.revision)
            elif isinstance(event, Removed):
                if event.subnet == lease.subnet:
                    yield event
            elif event.lease.subnet == lease.subnet:
                yield self._own(event.lease)

    def _own(self, lease: Lease) -> Added:
        grant = lease.registry_lease
        return Added(lease, foreign=grant != 0 and grant not in self._granted)

    def counters(self) -> dict[str, int]:
        """See registry.base."""
        return {"requests": self._counters["requests"]}

    def troubles(self) -> dict[str, str]:
        """None."""
        return {}

    def watch_age(self) -> float | None:
        """A change comes at once, so what is known is always up to date."""
        return 0.0 if self._watched else None

    async def aclose(self) -> None:
        """Nothing is open."""

    def _request(self) -> None:
        self._counters["requests"] += 1
        if not self._store.reachable:
            raise RegistryUnavailable("the store is not reachable")

    def _put(self, lease: Lease, reservation: bool) -> Lease:
        if reservation:
            return self._store.put(replace(lease, expires_at=None, registry_lease=0))
        grant = self._store.grant()
        self._granted.add(grant)
        expires_at = self._store.clock() + self._term
        return self._store.put(replace(lease, expires_at=expires_at, registry_lease=grant))
