"""A set of networks that answers quickly whether another one shares an address with any of them.

Owns: the index. Must not know: whose the networks are. They may overlap each other, and the same
one may be added several times. Costs grow with the logarithm of their number and with the number of
distinct prefix lengths, which in a real network is one or two.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable

from netaddr import IPNetwork

from udpoverlay.model.lease import Subnet

__all__ = ["Claims"]

_WIDTH = {4: 32, 6: 128}


class Claims:
    """Networks of both families."""

    def __init__(self, subnets: Iterable[Subnet] = ()) -> None:
        # Per family: all first addresses in order; per length, how often each prefix is there.
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._prefixes: dict[int, dict[int, Counter[int]]] = {4: {}, 6: {}}
        for subnet in subnets:
            self.add(subnet)

    def add(self, subnet: Subnet) -> None:
        """Add both networks of `subnet`."""
        for net in _networks(subnet):
            version, length = net.version, net.prefixlen
            insort(self._starts[version], net.value)
            prefixes = self._prefixes[version].setdefault(length, Counter())
            prefixes[net.value >> (_WIDTH[version] - length)] += 1

    def remove(self, subnet: Subnet) -> None:
        """Take out what was added once; KeyError when it was not."""
        for net in _networks(subnet):
            version, length = net.version, net.prefixlen
            prefixes = self._prefixes[version][length]
            prefix = net.value >> (_WIDTH[version] - length)
            if prefixes[prefix] > 1:
                prefixes[prefix] -= 1
            else:
                del prefixes[prefix]
                if not prefixes:
                    del self._prefixes[version][length]
            starts = self._starts[version]
            del starts[bisect_left(starts, net.value)]

    def overlap(self, subnet: Subnet) -> bool:
        """Whether `subnet` shares an address with any network here."""
        return any(self._overlaps(net) for net in _networks(subnet))

    def _overlaps(self, net: IPNetwork) -> bool:
        version = net.version
        width, first = _WIDTH[version], net.value
        last = first | ((1 << (width - net.prefixlen)) - 1)
        starts = self._starts[version]
        at = bisect_left(starts, first)
        if at < len(starts) and starts[at] <= last:
            return True  # one begins inside
        return any(
            length < net.prefixlen and first >> (width - length) in prefixes
            for length, prefixes in self._prefixes[version].items()
        )


def _networks(subnet: Subnet) -> list[IPNetwork]:
    return [net for net in (subnet.v4, subnet.v6) if net is not None]
