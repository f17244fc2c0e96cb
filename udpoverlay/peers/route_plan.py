"""Which peer gets the packets of which network, when everything that leases say is taken together.

Owns: the one mapping that is published, and the rule for claims that overlap: who came first keeps
its addresses. A later lease for the same, a wider or a narrower range cannot take traffic from a
working peer or from us (longest prefix would prefer the narrower one); it waits until the range is
free. Must not know: registries, C, how a table is built.

The mapping is one dict for the life of the plan, and its keys stay the same objects while a route
stands: a publisher may remember what it made of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netaddr import IPNetwork

from udpoverlay.model.claims import Claims
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.lease import Lease, Subnet
from udpoverlay.peers.lease_table import Change, PeerRemoved

__all__ = ["RoutePlan"]


class RoutePlan:
    """IPv4 routes to peers, as flannel's udp backend carries them."""

    def __init__(self, own: Subnet, port: int) -> None:
        """`own` is never given away; every peer listens on `port`."""
        self._port = port
        self._routes: dict[IPNetwork, Endpoint] = {}
        self._active: dict[tuple[int, int], tuple[IPNetwork, Lease]] = {}
        self._waiting: dict[Subnet, Lease] = {}
        self._claims = Claims([Subnet(v4=own.v4)] if own.v4 is not None else [])

    @property
    def routes(self) -> Mapping[IPNetwork, Endpoint]:
        """What to publish, whole."""
        return self._routes

    def waiting(self) -> list[Lease]:
        """Leases without a route because their range belongs to somebody already."""
        return list(self._waiting.values())

    def apply(self, changes: Iterable[Change]) -> bool:
        """Take changes in; return whether `routes` differs from before."""
        changed = False
        for change in changes:
            if isinstance(change, PeerRemoved):
                changed |= self._remove(change.lease)
            elif change.is_news:
                changed |= self._add(change.lease)
        return changed

    def holder(self, lease: Lease) -> Lease | None:
        """The peer whose range `lease` overlaps; None when it is our own range."""
        return next(
            (held for _, held in self._active.values() if held.subnet.overlaps(lease.subnet)), None
        )

    def _add(self, lease: Lease) -> bool:
        net = lease.subnet.v4
        if net is None:
            return False
        key = (net.value, net.prefixlen)
        active = self._active.get(key)
        if active is not None and active[1].subnet == lease.subnet:
            if not _reachable(lease):
                return self._remove(lease)
            return self._point(active[0], lease)
        if not _reachable(lease):
            return False
        if self._claims.overlap(Subnet(v4=net)):
            self._waiting[lease.subnet] = lease
            return False
        self._waiting.pop(lease.subnet, None)
        self._claims.add(Subnet(v4=net))
        return self._point(net, lease)

    def _point(self, net: IPNetwork, lease: Lease) -> bool:
        self._active[net.value, net.prefixlen] = (net, lease)
        endpoint = Endpoint(lease.attrs.public_ip, self._port)
        if self._routes.get(net) == endpoint:
            return False
        self._routes[net] = endpoint
        return True

    def _remove(self, lease: Lease) -> bool:
        net = lease.subnet.v4
        if net is None:
            return False
        key = (net.value, net.prefixlen)
        active = self._active.get(key)
        if active is None or active[1].subnet != lease.subnet:
            self._waiting.pop(lease.subnet, None)
            return False
        del self._active[key]
        del self._routes[active[0]]
        self._claims.remove(Subnet(v4=active[0]))
        for waiting in list(self._waiting.values()):
            self._add(waiting)
        return True


def _reachable(lease: Lease) -> bool:
    """A host without an IPv4 address publishes 0.0.0.0."""
    return bool(lease.attrs.public_ip.value)
