"""The leases of all other hosts, and what each registry event changes (flannel pkg/lease/lease.go).

Owns: which lease is a peer's, and the difference between what was known and what is. Must not know:
routes in C, backends, registries. One entry is one subnet as the registry spells it; ours are
never in the table, not even when another host claims our subnet.
"""

from __future__ import annotations

from dataclasses import dataclass

from udpoverlay.model.events import Event, Removed, Snapshot
from udpoverlay.model.lease import Lease, Subnet

__all__ = ["Change", "LeaseTable", "PeerAdded", "PeerRemoved"]

_Key = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class PeerAdded:
    """`lease` is new, changed, or was written again (a renewal); `before` is what it replaces."""

    lease: Lease
    before: Lease | None = None

    @property
    def is_news(self) -> bool:
        """Whether anything differs: false for a mere renewal."""
        return self.before is None or self.before.attrs != self.lease.attrs


@dataclass(frozen=True, slots=True)
class PeerRemoved:
    """`lease` is gone; it carries the attributes that were known."""

    lease: Lease


Change = PeerAdded | PeerRemoved


def _key(subnet: Subnet) -> _Key:
    # Hashing netaddr values costs ten times this.
    v4, v6 = subnet.v4, subnet.v6
    return (
        -1 if v4 is None else v4.value,
        -1 if v4 is None else v4.prefixlen,
        -1 if v6 is None else v6.value,
        -1 if v6 is None else v6.prefixlen,
    )


class LeaseTable:
    """Follows one watch; not for several threads."""

    def __init__(self, own: Lease) -> None:
        self._own_ip = own.attrs.public_ip
        self._own_key = _key(own.subnet)
        self._peers: dict[_Key, Lease] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def leases(self) -> list[Lease]:
        """All peers, the longest known first."""
        return list(self._peers.values())

    def apply(self, event: Event) -> list[Change]:
        """Take in one event and return what it changes, in registry order.

        A Snapshot yields removals first, then new and changed leases; leases that it repeats
        unchanged yield nothing. An Added always yields a change, Removed only for a known subnet.
        """
        if isinstance(event, Snapshot):
            return self._reset(event)
        if isinstance(event, Removed):
            return self._remove(_key(event.subnet))
        return self._add(event.lease)

    def _is_ours(self, lease: Lease, key: _Key) -> bool:
        """Our subnet, whoever claims it, or a left-over of ours: a route to ourselves is a loop."""
        own = self._own_key
        if (key[:2] == own[:2] and own[1] >= 0) or (key[2:] == own[2:] and own[3] >= 0):
            return True
        return self._own_ip.value != 0 and bool(lease.attrs.public_ip == self._own_ip)

    def _add(self, lease: Lease) -> list[Change]:
        key = _key(lease.subnet)
        if self._is_ours(lease, key):
            return self._remove(key)
        before = self._peers.get(key)
        self._peers[key] = lease
        return [PeerAdded(lease, before)]

    def _remove(self, key: _Key) -> list[Change]:
        known = self._peers.pop(key, None)
        return [] if known is None else [PeerRemoved(known)]

    def _reset(self, snapshot: Snapshot) -> list[Change]:
        present: dict[_Key, Lease] = {}
        for lease in snapshot.leases:
            key = _key(lease.subnet)
            if self._is_ours(lease, key):
                present.pop(key, None)
            else:
                present[key] = lease
        changes: list[Change] = []
        for key in [key for key in self._peers if key not in present]:
            changes += self._remove(key)
        for key, lease in present.items():
            change = PeerAdded(lease, self._peers.get(key))
            self._peers[key] = lease
            if change.is_news:
                changes.append(change)
        return changes
