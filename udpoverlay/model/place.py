"""Which claims can be a host's subnet at all: the others get no place, so they are in no one's way.

Owns: the rule for ranges. Must not know: who claims, addresses, who holds which range.

A host's subnet lies inside Network. In etcd it is also at least two bits longer than Network and
at most 30 bits long (IPv6: 126), whatever SubnetLen says (flannel pkg/subnet/config.go). SubnetLen,
SubnetMin and SubnetMax themselves are not asked for: a host that runs since before they were
changed keeps its subnet until it restarts. With Kubernetes a podCIDR may have any length (flannel
pkg/subnet/kube/kube.go): only "inside Network" holds.

What is wider, such as a /8 or one half of Network, would keep every host from getting a subnet and
every peer from having a route, as long as its entry stands.
"""

from __future__ import annotations

from dataclasses import dataclass

from netaddr import IPNetwork

from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.refusal import Refusal

__all__ = ["Places"]

SPARE_BITS = 2
"""A network has four subnets at least (flannel pkg/subnet/config.go)."""
LONGEST = {4: 30, 6: 126}
WIDTH = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Places:
    """The ranges that hosts may have under one network configuration."""

    network: IPNetwork | None
    """None: the family is off, so no range of it is a place."""
    ipv6_network: IPNetwork | None
    any_length: bool = False
    """Kubernetes: the length of a podCIDR is its administrator's affair."""

    @classmethod
    def of(cls, conf: NetConf, *, any_length: bool = False) -> Places:
        """The places of a network configuration."""
        return cls(
            conf.network if conf.enable_ipv4 else None,
            conf.ipv6_network if conf.enable_ipv6 else None,
            any_length,
        )

    def refusal(self, net: IPNetwork) -> Refusal | None:
        """Why `net` is no host's subnet; None when it may be one."""
        version, length = net.version, net.prefixlen
        network = self.network if version == 4 else self.ipv6_network
        if network is None:
            return Refusal.OUTSIDE_NETWORK
        outer = network.prefixlen
        if (net.value ^ network.value) >> (WIDTH[version] - min(length, outer)):
            return Refusal.OUTSIDE_NETWORK
        if length < outer + (0 if self.any_length else SPARE_BITS):
            return Refusal.TOO_WIDE
        if length > LONGEST[version] and not self.any_length:
            return Refusal.TOO_NARROW
        return None

    def part(self, subnet: Subnet) -> Subnet | None:
        """What of `subnet` takes a place: both families, one, or nothing (None)."""
        v4, v6 = self._placed(subnet.v4), self._placed(subnet.v6)
        if v4 is subnet.v4 and v6 is subnet.v6:
            return subnet
        return Subnet(v4, v6) if v4 is not None or v6 is not None else None

    def _placed(self, net: IPNetwork | None) -> IPNetwork | None:
        return net if net is not None and self.refusal(net) is None else None
