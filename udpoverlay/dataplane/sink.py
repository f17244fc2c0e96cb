"""Turns subnets and endpoints into the flat routes that the C table is built from.

Owns: the translation from the control plane's values. Must not know: where they come from, how a
table is built or swapped (ext/routes/routes.h).
"""

from __future__ import annotations

from collections.abc import Mapping

from netaddr import IPNetwork

from udpoverlay import _fastpath as fp
from udpoverlay.model.endpoint import Endpoint

__all__ = ["Publisher"]

Flat = tuple[bytes, int, bytes, int, int]


class Publisher:
    """Publishes mappings to one table.

    One route of thousands changes at a time, and translating them costs ten times what building the
    table does. So what was made of a pair is kept as long as the very same two objects come again:
    comparing netaddr values would cost as much as translating them.
    """

    def __init__(self, table: fp.RouteTable) -> None:
        self._table = table
        self._made: dict[int, tuple[IPNetwork, Endpoint, Flat]] = {}

    def publish(self, routes: Mapping[IPNetwork, Endpoint]) -> None:
        """Make `routes` the whole of what is known; a table that cannot be built leaves the old.

        Raises MemoryError, also when the table would take more than 256 MiB.
        """
        before, made = self._made, {}
        for network, endpoint in routes.items():
            known = before.get(id(network))
            # The entry holds both objects, so an id in it cannot belong to another one.
            if known is None or known[1] is not endpoint:
                known = (network, endpoint, _flat(network, endpoint))
            made[id(network)] = known
        self._table.publish([flat for _, _, flat in made.values()])
        self._made = made


def _flat(network: IPNetwork, endpoint: Endpoint) -> Flat:
    return (
        network.ip.packed,
        network.prefixlen,
        endpoint.address.packed,
        endpoint.port,
        endpoint.mtu,
    )
