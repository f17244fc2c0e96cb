"""Short ways to write leases in tests."""

from __future__ import annotations

from typing import Any

from netaddr import IPAddress, IPNetwork

from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.place import Places
from udpoverlay.peers.admission import Admission
from udpoverlay.peers.peers import Peers

PORT = 8285


def subnet(v4: str | None = None, v6: str | None = None) -> Subnet:
    return Subnet(IPNetwork(v4) if v4 else None, IPNetwork(v6) if v6 else None)


def attrs(public_ip: str, **more: Any) -> LeaseAttrs:
    return LeaseAttrs(IPAddress(public_ip), **more)


def lease(v4: str, public_ip: str, *, v6: str | None = None, **more: Any) -> Lease:
    return Lease(subnet(v4, v6), attrs(public_ip), **more)


def endpoint(public_ip: str, port: int = PORT) -> Endpoint:
    return Endpoint(IPAddress(public_ip), port)


def route(peer: Lease) -> Endpoint:
    """As the udp backend's."""
    return Endpoint(peer.attrs.public_ip, PORT)


def peers_for(
    own: Lease, network: str = "10.5.0.0/16", *, hold: float = 86400.0, **admission: Any
) -> Peers:
    """The table of a host with an etcd of that Network; no kernel is asked."""
    conf = NetConf(network=IPNetwork(network)).validated()
    return Peers(own, Admission(Places.of(conf), own, **admission), route=route, hold_seconds=hold)


class Sink:
    """A route sink that remembers what was published, as text."""

    def __init__(self) -> None:
        self.routes: dict[str, str] = {}
        self.publications = 0
        self.fail: list[BaseException] = []
        """Errors to raise, one a call."""

    def replace(self, routes: Any) -> None:
        if self.fail:
            raise self.fail.pop(0)
        self.routes = {str(net): str(endpoint.address) for net, endpoint in routes.items()}
        self.publications += 1
