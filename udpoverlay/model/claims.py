"""Networks and who claims them, found by overlap: an index whose costs do not grow with its size.

Owns: the index. Must not know: what a claimant is, who may have what. Claims may overlap each
other, and one network may be claimed several times. Two networks overlap when one contains the
other, so an overlap is one of at most 32 (IPv6: 128) wider prefixes, or a run in address order.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from netaddr import IPNetwork

from udpoverlay.model.lease import Subnet

__all__ = ["Claims"]

_WIDTH = {4: 32, 6: 128}

Claimant = TypeVar("Claimant", bound=Hashable)


class _Family(Generic[Claimant]):
    """Networks of one IP version."""

    def __init__(self, width: int) -> None:
        self.width = width
        # Per length: prefix → its claimants, the longest there first (a dict as an ordered set).
        self.prefixes: dict[int, dict[int, dict[Claimant, None]]] = {}
        # Every claimed network once, as (first address, length), in order.
        self.order: list[tuple[int, int]] = []

    def add(self, net: IPNetwork, claimant: Claimant) -> None:
        value, length = net.value, net.prefixlen
        prefixes = self.prefixes.setdefault(length, {})
        claimants = prefixes.get(value >> (self.width - length))
        if claimants is None:
            prefixes[value >> (self.width - length)] = {claimant: None}
            insort(self.order, (value, length))
        else:
            claimants[claimant] = None

    def remove(self, net: IPNetwork, claimant: Claimant) -> None:
        value, length = net.value, net.prefixlen
        prefixes = self.prefixes[length]
        claimants = prefixes[value >> (self.width - length)]
        del claimants[claimant]
        if claimants:
            return
        del prefixes[value >> (self.width - length)]
        if not prefixes:
            del self.prefixes[length]
        del self.order[bisect_left(self.order, (value, length))]

    def overlapping(self, net: IPNetwork) -> Iterator[dict[Claimant, None]]:
        """The claimants of each network that shares an address with `net`."""
        value, length = net.value, net.prefixlen
        for shorter, prefixes in self.prefixes.items():
            if shorter <= length:
                claimants = prefixes.get(value >> (self.width - shorter))
                if claimants is not None:
                    yield claimants
        # After the wider ones that begin at the same address; what begins later is narrower.
        last = value | ((1 << (self.width - length)) - 1)
        order = self.order
        for at in range(bisect_left(order, (value, length + 1)), len(order)):
            start, longer = order[at]
            if start > last:
                return
            yield self.prefixes[longer][start >> (self.width - longer)]


class Claims(Generic[Claimant]):
    """Networks of both families. A claimant may claim several networks, each once."""

    def __init__(self) -> None:
        self._families: dict[int, _Family[Claimant]] = {
            version: _Family(width) for version, width in _WIDTH.items()
        }

    def add(self, subnet: Subnet, claimant: Claimant) -> None:
        """Let `claimant` claim both networks of `subnet`."""
        for net in _networks(subnet):
            self._families[net.version].add(net, claimant)

    def remove(self, subnet: Subnet, claimant: Claimant) -> None:
        """Take out what was added once; KeyError when it was not."""
        for net in _networks(subnet):
            self._families[net.version].remove(net, claimant)

    def first(self, subnet: Subnet) -> Claimant | None:
        """Some claimant of a network that shares an address with `subnet`; None: it is free."""
        return next(self.heads(subnet), None)

    def heads(self, subnet: Subnet) -> Iterator[Claimant]:
        """For each network that shares an address with `subnet`, its longest claimant.

        Of several claims for one network the later ones are in the same position as the first.
        """
        for net in _networks(subnet):
            for claimants in self._families[net.version].overlapping(net):
                yield next(iter(claimants))


def _networks(subnet: Subnet) -> list[IPNetwork]:
    return [net for net in (subnet.v4, subnet.v6) if net is not None]
