"""Turns subnets and endpoints into the flat routes that the C table is built from.

Owns: the translation from the control plane's values, and the way back: whose lease an address is
in. Must not know: where they come from, how a table is built or swapped (ext/routes/routes.h).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from netaddr import IPNetwork

from udpoverlay import _fastpath as fp
from udpoverlay.model.endpoint import Endpoint

__all__ = ["Publisher"]

Flat = tuple[bytes, int, bytes, int, int, bytes]


class Publisher:
    """Publishes mappings to one table.

    One route of thousands changes at a time, and translating them costs ten times what building the
    table does. So what was made of a pair is kept as long as the very same two objects come again:
    comparing netaddr values would cost as much as translating them.
    """

    def __init__(self, table: fp.RouteTable) -> None:
        self._table = table
        self._made: dict[int, tuple[IPNetwork, Endpoint, Flat]] = {}
        self._aliases: Collection[tuple[bytes, bytes]] = ()
        self._index: _Index | None = None

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
        self._table.publish([flat for _, _, flat in made.values()], self._aliases)
        self._made = made
        self._index = None

    def publish_aliases(self, aliases: Collection[tuple[bytes, bytes]]) -> None:
        """Publish the same routes, with other (address, public IP) that peers send from, too.

        Raises MemoryError; the next publication tries again.
        """
        self._aliases = aliases
        self._table.publish([flat for _, _, flat in self._made.values()], aliases)

    def holder(self, address: bytes) -> tuple[IPNetwork, bytes] | None:
        """The subnet that has this IPv4 address (4 bytes) and the public IP of its holder."""
        value = int.from_bytes(address, "big")
        for length, networks in self._lookup().items():
            held = networks.get(value >> (32 - length))
            if held is not None:
                return held[0], held[1].address.packed
        return None

    def holds(self, subnet: IPNetwork, public_ip: bytes) -> bool:
        """Whether `subnet` is routed to the host of that public IP."""
        return self.holder(subnet.ip.packed) == (subnet, public_ip)

    def port(self, subnet: IPNetwork) -> int:
        """UDP port of the holder of `subnet`, 0 without one."""
        held = self._lookup().get(subnet.prefixlen, {}).get(_prefix(subnet))
        return 0 if held is None else held[1].port

    def _lookup(self) -> _Index:
        """IPv4 subnets by length, the longest first; made when it is asked for, which is seldom."""
        if self._index is None:
            index: _Index = {}
            for network, endpoint, _ in self._made.values():
                if network.version == 4:
                    of_length = index.setdefault(network.prefixlen, {})
                    of_length[_prefix(network)] = network, endpoint
            self._index = dict(sorted(index.items(), reverse=True))
        return self._index


_Index = dict[int, dict[int, tuple[IPNetwork, Endpoint]]]


def _prefix(network: IPNetwork) -> int:
    value, length = int(network.value), int(network.prefixlen)
    return value >> (32 - length)


def _flat(network: IPNetwork, endpoint: Endpoint) -> Flat:
    return (
        network.ip.packed,
        network.prefixlen,
        endpoint.address.packed,
        endpoint.port,
        endpoint.mtu,
        endpoint.header,
    )
