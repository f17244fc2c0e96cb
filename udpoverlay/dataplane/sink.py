"""Turns subnets and endpoints into the flat routes that the C table is built from.

Owns: the translation from the control plane's values. Must not know: where they come from, how a
table is built or swapped (ext/routes.h).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netaddr import IPNetwork

from udpoverlay import _fastpath as fp
from udpoverlay.model.endpoint import Endpoint

__all__ = ["publish"]

Flat = tuple[bytes, int, bytes, int, int]


def publish(table: fp.RouteTable, routes: Mapping[IPNetwork, Endpoint]) -> None:
    """Make `routes` the whole of what is known; a table that cannot be built leaves the old one.

    Raises MemoryError; OSError (E2BIG) when the table would take more than 1 GiB.
    """
    table.publish(list(_flat(routes)))


def _flat(routes: Mapping[IPNetwork, Endpoint]) -> Iterator[Flat]:
    peers: dict[Endpoint, tuple[bytes, int, int]] = {}  # many subnets may share a peer
    for network, endpoint in routes.items():
        peer = peers.get(endpoint)
        if peer is None:
            peer = (endpoint.address.packed, endpoint.port, endpoint.mtu)
            peers[endpoint] = peer
        yield (network.ip.packed, network.prefixlen, *peer)
