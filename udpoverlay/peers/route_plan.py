"""Which peer gets the packets of which network, when everything that leases say is taken together.

Owns: the one mapping that is published, and the rule for claims that overlap: who came first keeps
its addresses. A later lease for the same, a wider or a narrower range cannot take traffic from a
working peer or from us (longest prefix would prefer the narrower one); it waits until the range is
free. Must not know: registries, C, how a table is built, whether a claim is one (admission.py).

The mapping is one dict for the life of the plan, and its keys stay the same objects while a route
stands: a publisher may remember what it made of each. No step looks at more claims than those that
overlap the range at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from netaddr import IPNetwork

from udpoverlay.model.claims import Claims
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.lease import Lease, Subnet, SubnetKey

__all__ = ["RouteChange", "RoutePlan"]


@dataclass(frozen=True, slots=True)
class RouteChange:
    """The route of one lease: new (`before` None), moved, or gone (`after` None)."""

    lease: Lease
    before: Endpoint | None
    after: Endpoint | None


@dataclass(slots=True)
class _Claim:
    """One lease's claim on its IPv4 network; without an endpoint it waits."""

    lease: Lease
    net: IPNetwork
    range: Subnet
    turn: int
    """Who came first; the place in the line."""
    endpoint: Endpoint | None = None


class RoutePlan:
    """IPv4 routes to peers, as flannel's udp backend carries them."""

    def __init__(self, own: Subnet, route: Callable[[Lease], Endpoint]) -> None:
        """`own` is never given away; `route` tells where packets for a peer go."""
        self._route = route
        self._routes: dict[IPNetwork, Endpoint] = {}
        self._claims: dict[SubnetKey, _Claim] = {}
        self._active: Claims[SubnetKey] = Claims()
        self._waiting: Claims[SubnetKey] = Claims()
        self._waiting_count = 0
        self._turns = 0
        if own.v4 is not None:
            self._active.add(Subnet(v4=own.v4), own.key)

    @property
    def routes(self) -> Mapping[IPNetwork, Endpoint]:
        """What to publish, whole."""
        return self._routes

    @property
    def waiting(self) -> int:
        """How many claims have no route because their range is in use."""
        return self._waiting_count

    def waits(self, key: SubnetKey) -> bool:
        """Whether the claim `key` is here and has no route."""
        claim = self._claims.get(key)
        return claim is not None and claim.endpoint is None

    def holder(self, key: SubnetKey) -> Lease | None:
        """Whose range the waiting claim `key` overlaps; None: our own."""
        holder = self._active.first(self._claims[key].range)
        return None if holder not in self._claims else self._claims[holder].lease

    def holders(self, subnet: Subnet) -> list[SubnetKey]:
        """Every claim with a route that overlaps the IPv4 network of `subnet`."""
        if subnet.v4 is None:
            return []
        found = self._active.heads(Subnet(v4=subnet.v4))
        return [key for key in found if key in self._claims]

    def place(self, key: SubnetKey, lease: Lease) -> list[RouteChange]:
        """Take in a claim, or what changed in one; it has an IPv4 network and a usable address.

        `key` is its subnet's.
        """
        claim = self._claims.get(key)
        if claim is not None:
            claim.lease = lease
            return [] if claim.endpoint is None else self._point(claim)
        net = lease.subnet.v4
        assert net is not None
        self._turns += 1
        claim = self._claims[key] = _Claim(lease, net, Subnet(v4=net), self._turns)
        if self._active.first(claim.range) is None:
            return self._activate(key, claim)
        self._waiting.add(claim.range, key)
        self._waiting_count += 1
        return []

    def drop(self, key: SubnetKey) -> list[RouteChange]:
        """Forget the claim `key`, if it is here; its range goes to those who waited for it."""
        claim = self._claims.pop(key, None)
        if claim is None:
            return []
        if claim.endpoint is None:
            self._waiting.remove(claim.range, key)
            self._waiting_count -= 1
            return []
        self._active.remove(claim.range, key)
        del self._routes[claim.net]
        return [RouteChange(claim.lease, claim.endpoint, None), *self._promote(claim.range)]

    def _promote(self, free: Subnet) -> list[RouteChange]:
        """Give the range to those that wait for it, in turn; of one network only the first can."""
        heads = [(self._claims[key].turn, key) for key in self._waiting.heads(free)]
        changes: list[RouteChange] = []
        for _, key in sorted(heads):
            claim = self._claims[key]
            if self._active.first(claim.range) is None:
                self._waiting.remove(claim.range, key)
                self._waiting_count -= 1
                changes += self._activate(key, claim)
        return changes

    def _activate(self, key: SubnetKey, claim: _Claim) -> list[RouteChange]:
        self._active.add(claim.range, key)
        return self._point(claim)

    def _point(self, claim: _Claim) -> list[RouteChange]:
        before, after = claim.endpoint, self._route(claim.lease)
        if before == after:
            return []
        claim.endpoint = self._routes[claim.net] = after
        return [RouteChange(claim.lease, before, claim.endpoint)]
