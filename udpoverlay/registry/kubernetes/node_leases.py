"""From Nodes that change to lease events: what was reported, and what is to be reported now.

Owns: the difference between two states of the Nodes as Added and Removed, and who is believed when
two Nodes claim one subnet. Must not know: where Nodes come from.

flanneld compares three annotations of the old and the new Node, so it misses a changed podCIDR, a
lost annotation and, in dual stack, a changed IPv4 address behind unchanged IPv6 ones. Here the
whole lease is compared (docs/deviations.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from udpoverlay.kubernetes.node import NodeView, NotALease
from udpoverlay.model.events import Added, Removed, Snapshot
from udpoverlay.model.lease import Lease, Subnet
from udpoverlay.registry.kubernetes.annotations import AnnotationNames, StackNeeds, lease_of_node

__all__ = ["NodeLeases"]


class NodeLeases:
    """One follower's picture of the leases.

    `odd` collects (node, why) of what could not be read or is claimed twice, until it is taken with
    `take_odd`. A Node that was a lease and cannot be read any more stays what it was, as long as it
    is the same Node (uid): a typo in an annotation takes no working peer down.
    """

    def __init__(self, names: AnnotationNames, needs: StackNeeds) -> None:
        self._names = names
        self._needs = needs
        self._leases: dict[str, tuple[str, Lease]] = {}
        self._claims: dict[Subnet, set[str]] = {}
        self._odd: list[tuple[str, str]] = []

    def take_odd(self) -> list[tuple[str, str]]:
        """What was odd since the last call, as (node, why)."""
        odd, self._odd = self._odd, []
        return odd

    def reset(
        self, nodes: Mapping[str, NodeView], revision: int, lost_history: bool = False
    ) -> Snapshot:
        """All leases of `nodes`."""
        read = {name: self._read(view, self._leases.get(name)) for name, view in nodes.items()}
        self._leases, self._claims = {}, {}
        for name, lease in read.items():
            if lease is not None:
                self._write(name, nodes[name].uid, lease)
        leases = tuple(self._believed(claim) for claim in self._claims)
        return Snapshot(
            tuple(lease for lease in leases if lease is not None), revision, lost_history
        )

    def change(self, nodes: Mapping[str, NodeView], names: Iterable[str]) -> list[Added | Removed]:
        """What the change of the Nodes `names` means; removals come first."""
        removed: list[Added | Removed] = []
        added: list[Added | Removed] = []
        before: dict[Subnet, Lease | None] = {}
        for name in sorted(names):
            known = self._leases.get(name)
            view = nodes.get(name)
            lease = self._read(view, known) if view is not None else None
            for held in (known[1] if known else None, lease):
                if held is not None:
                    claim = self._needs.claim(held.subnet)
                    before.setdefault(claim, self._believed(claim))
            self._forget(name)
            if view is not None and lease is not None:
                self._write(name, view.uid, lease)
        for claim, old in before.items():
            new = self._believed(claim)
            if old is not None and (new is None or new.subnet != old.subnet):
                removed.append(Removed(old.subnet))
            if new is not None and new != old:
                added.append(Added(new))
        return removed + added

    def _read(self, view: NodeView, known: tuple[str, Lease] | None) -> Lease | None:
        try:
            return lease_of_node(view, self._names, self._needs)
        except Exception as error:
            # One Node must not hide the others, whatever is wrong with it.
            known_kind = isinstance(error, NotALease)
            self._odd.append((view.name, str(error) if known_kind else repr(error)))
            return known[1] if known is not None and known[0] == view.uid else None

    def _write(self, name: str, uid: str, lease: Lease) -> None:
        self._leases[name] = (uid, lease)
        claims = self._claims.setdefault(self._needs.claim(lease.subnet), set())
        claims.add(name)
        if len(claims) > 1:
            self._odd.append((name, f"{lease.subnet} is claimed by {', '.join(sorted(claims))}"))

    def _forget(self, name: str) -> None:
        known = self._leases.pop(name, None)
        if known is None:
            return
        claim = self._needs.claim(known[1].subnet)
        claims = self._claims[claim]
        claims.discard(name)
        if not claims:
            del self._claims[claim]

    def _believed(self, claim: Subnet) -> Lease | None:
        """Whose a range is; of several claims that of the first name: all hosts agree."""
        claims = self._claims.get(claim)
        return self._leases[min(claims)][1] if claims else None
