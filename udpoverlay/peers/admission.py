"""Whether a lease is one that packets can be sent to: a host's subnet, and a host's address.

Owns: the order of the questions. Must not know: which ranges are in use (route_plan.py), how the
kernel is asked. What is refused here can be no lease that a correct host of the same network holds,
or no packet for it would arrive: the kernel would hand it back to us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from netaddr import IPAddress, IPNetwork

from udpoverlay.model.endpoint import Way
from udpoverlay.model.lease import Lease
from udpoverlay.model.place import Places
from udpoverlay.model.public_address import unreachable
from udpoverlay.model.refusal import Refusal

__all__ = ["Admission"]

_BY_WAY = {
    Way.TUNNEL: Refusal.IN_OVERLAY,
    Way.LOCAL: Refusal.OWN_ADDRESS,
    Way.BROADCAST: Refusal.NOT_A_HOST,
}


class Admission:
    """The judge of one host; asks nothing about other leases."""

    def __init__(
        self,
        places: Places,
        own: Lease,
        *,
        own_addresses: Iterable[IPAddress] = (),
        rejects: Callable[[Lease], Refusal | None] = lambda _: None,
        way: Callable[[IPAddress], Way] | None = None,
    ) -> None:
        """`own` is our lease, `own_addresses` the addresses of ours that it does not name.

        `rejects` is the backend's word on what a lease tells. `way` asks the kernel where it sends
        a datagram for an address. Without it, every address inside Network counts as routed into
        the tunnel, as it is unless a narrower route exists.
        """
        self._places = places
        self._own = own.subnet
        ours = (own.attrs.public_ip, *own_addresses)
        self._own_addresses = {address.value for address in ours if address.value}
        self._rejects = rejects
        self._way = self._by_network if way is None else way

    def move(self, own_addresses: Iterable[IPAddress]) -> None:
        """Take these addresses of ours instead, from the next question on."""
        self._own_addresses = {address.value for address in own_addresses if address.value}

    def refusal(self, lease: Lease) -> Refusal | None:
        """Why no packet can be sent to `lease`; None when it can."""
        net = lease.subnet.v4
        if net is None:
            return Refusal.NO_IPV4_SUBNET
        return self._places.refusal(net) or self._rejects(lease) or self._address_refusal(lease)

    def may_change(self, lease: Lease, refusal: Refusal | None) -> bool:
        """Whether that answer depends on routes and addresses of this host, which may change."""
        if refusal is None:
            return self._by_network(lease.attrs.public_ip) is Way.TUNNEL
        return refusal in _BY_WAY.values()

    def _address_refusal(self, lease: Lease) -> Refusal | None:
        address = lease.attrs.public_ip
        value = address.value
        if value == 0:
            return Refusal.NO_ADDRESS
        if unreachable(address):
            return Refusal.NOT_A_HOST
        if value in self._own_addresses:
            return Refusal.OWN_ADDRESS
        for subnet in (lease.subnet, self._own):
            if subnet.v4 is not None and _holds(subnet.v4, value):
                return Refusal.IN_OVERLAY
        return _BY_WAY.get(self._way(address))

    def _by_network(self, address: IPAddress) -> Way:
        network = self._places.network
        if network is not None and _holds(network, address.value):
            return Way.TUNNEL
        return Way.UNDERLAY


def _holds(net: IPNetwork, address: int) -> bool:
    # netaddr's `in` makes an object of each side.
    return bool((address ^ net.value) >> (32 - net.prefixlen) == 0)
