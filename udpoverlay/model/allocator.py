"""Which subnets are free, and picking one (flannel pkg/subnet/etcd/local_manager.go).

Owns: the walk from SubnetMin to SubnetMax and the random choice. Must not know: who asks, how a
subnet is claimed. Its cost is one sort of the taken ranges: it does not grow with the network.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import OutOfSubnets
from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import NetConf

__all__ = ["CANDIDATES", "Random", "free_addresses", "pick_subnet"]

CANDIDATES = 100
"""Free subnets collected before one is drawn, so that hosts starting together differ."""


NAMED = 4
"""How many wide leases an error names."""


class Random(Protocol):
    """What is needed of `random.Random`."""

    def randrange(self, stop: int, /) -> int:
        """Return an integer from 0 to `stop` - 1, each equally likely."""


def free_addresses(
    low: int, high: int, step: int, taken: Iterable[tuple[int, int]], most: int = CANDIDATES
) -> list[int]:
    """Return the first addresses of up to `most` free subnets of `step` addresses, lowest first.

    Candidates are low, low + step, … up to and including `high`; one is free when it shares no
    address with any (first, last) range in `taken`.
    """
    ranges = sorted(taken)
    free: list[int] = []
    at, next_range, blocked_to = low, 0, -1
    while at <= high and len(free) < most:
        while next_range < len(ranges) and ranges[next_range][0] < at + step:
            blocked_to = max(blocked_to, ranges[next_range][1])
            next_range += 1
        if blocked_to < at:
            free.append(at)
            at += step
        else:
            at = low + ((blocked_to - low) // step + 1) * step
    return free


def _range(net: IPNetwork, width: int) -> tuple[int, int]:
    first: int = net.value
    return first, first | ((1 << (width - net.prefixlen)) - 1)


def _pick(
    low: IPAddress,
    high: IPAddress,
    length: int,
    taken: Iterable[IPNetwork | None],
    rng: Random,
) -> IPNetwork:
    width = 32 if low.version == 4 else 128
    nets = [net for net in taken if net is not None]
    ranges = [_range(net, width) for net in nets]
    free = free_addresses(low.value, high.value, 1 << (width - length), ranges)
    if not free:
        raise _full(low, high, length, [net for net in nets if net.prefixlen < length], len(nets))
    return IPNetwork((free[rng.randrange(len(free))], length), version=low.version)


def _full(
    low: IPAddress, high: IPAddress, length: int, wide: list[IPNetwork], leases: int
) -> OutOfSubnets:
    what = f"no free /{length} between {low} and {high} ({leases} leases"
    if not wide:
        return OutOfSubnets(
            f"{what})",
            fix="delete leases of hosts that are gone, or enlarge the range in the network"
            " configuration",
        )
    wide.sort(key=lambda net: net.prefixlen)
    named = ", ".join(map(str, wide[:NAMED])) + (", …" if len(wide) > NAMED else "")
    return OutOfSubnets(
        f"{what}, {len(wide)} of them wider than /{length}: {named})",
        fix="delete those that no host holds: they are left from another SubnetLen, or a mistake",
    )


def pick_subnet(conf: NetConf, taken: Iterable[Subnet], rng: Random) -> Subnet:
    """Draw a free subnet of every enabled family; each family is drawn on its own.

    `conf` is validated and has IPv4 enabled. A candidate is free when it overlaps no subnet in
    `taken`, of whatever length. Raises OutOfSubnets.
    """
    subnets = list(taken)
    v4 = _pick(
        conf.subnet_min, conf.subnet_max, conf.subnet_len, (subnet.v4 for subnet in subnets), rng
    )
    if not conf.enable_ipv6:
        return Subnet(v4)
    v6 = _pick(
        conf.ipv6_subnet_min,
        conf.ipv6_subnet_max,
        conf.ipv6_subnet_len,
        (subnet.v6 for subnet in subnets),
        rng,
    )
    return Subnet(v4, v6)
