"""What a lease is: a host's claim on a subnet, as every part of the program speaks of it.

Owns: the value types. Must not know: how a lease is spelled in a registry (registry/etcd/codec.py
for etcd's keys and values; the Kubernetes annotations live beside their manager).
Addresses and subnets are netaddr values in the control plane; nothing here assumes 4 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from netaddr import IPAddress, IPNetwork

__all__ = ["Lease", "LeaseAttrs", "Subnet", "SubnetKey"]

SubnetKey = tuple[int, int, int, int]
"""First address and length of the IPv4 network, then of the IPv6 one; -1 for a missing one."""


def _overlap(one: IPNetwork | None, other: IPNetwork | None, width: int) -> bool:
    if one is None or other is None:
        return False
    host_bits = width - min(one.prefixlen, other.prefixlen)
    return bool((one.value ^ other.value) >> host_bits == 0)


@dataclass(frozen=True, slots=True)
class Subnet:
    """The range of one host: an IPv4 network, an IPv6 network, or both.

    At least one is set. Both are pure networks (host bits zero).
    """

    v4: IPNetwork | None = None
    v6: IPNetwork | None = None

    def __post_init__(self) -> None:
        if self.v4 is None and self.v6 is None:
            raise ValueError("a subnet needs an IPv4 or an IPv6 network")

    @property
    def key(self) -> SubnetKey:
        """The same subnet as plain numbers: hashing netaddr's values costs ten times as much."""
        v4, v6 = self.v4, self.v6
        return (
            -1 if v4 is None else v4.value,
            -1 if v4 is None else v4.prefixlen,
            -1 if v6 is None else v6.value,
            -1 if v6 is None else v6.prefixlen,
        )

    def overlaps(self, other: Subnet) -> bool:
        """Whether the two share an address of either family."""
        return _overlap(self.v4, other.v4, 32) or _overlap(self.v6, other.v6, 128)

    def __str__(self) -> str:
        return "&".join(str(net) for net in (self.v4, self.v6) if net is not None)


@dataclass(frozen=True, slots=True)
class LeaseAttrs:
    """What a host publishes with its subnet (flannel pkg/lease/lease.go, LeaseAttrs).

    `backend_data` and `backend_v6_data` are the raw JSON text as stored, "" when absent: they
    belong to the backend that wrote them and are kept byte for byte.
    """

    public_ip: IPAddress
    """Where the host receives tunnel traffic; 0.0.0.0 when it has no IPv4 address."""
    public_ipv6: IPAddress | None = None
    backend_type: str = ""
    """"" for flannel's udp and alloc backends."""
    backend_data: str = ""
    backend_v6_data: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """A subnet and who holds it.

    `expires_at` is in seconds of the registry's clock parameter (model/schedule.py), None when it
    never runs out (a reservation) or is not known (other hosts' leases: it is not needed).
    `revision` is the registry's version of this entry, for conditional renewal; 0 when it has none.
    `registry_lease` is etcd's lease id, 0 for a reservation or a registry without lease ids.
    """

    subnet: Subnet
    attrs: LeaseAttrs
    expires_at: float | None = None
    revision: int = field(default=0, compare=False)
    registry_lease: int = field(default=0, compare=False)
