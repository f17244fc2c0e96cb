"""What a host does next to get its subnet, given what the registry holds: a value, no request.

Owns: the order of flannel pkg/subnet/etcd/local_manager.go, tryAcquireLease:
our own lease if it fits the configuration → the previous subnet if it is free → a free one.
Must not know: requests, retries. The registry carries one decision out as one conditional
transaction, lists again and asks again until it has a lease:

    Reuse   put our attributes on this entry, if it has not changed since the listing
    Delete  remove these entries of ours, each if it has not changed; then list again
    Create  put this entry, if no such key exists; when the race is lost, list again
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from netaddr import IPNetwork

from udpoverlay.errors import OperatorError
from udpoverlay.model.allocator import Random, pick_subnet
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.place import Places

__all__ = [
    "RACE_RETRIES",
    "Create",
    "Decision",
    "Delete",
    "Listing",
    "Reuse",
    "compatible",
    "decide",
]

RACE_RETRIES = 10
"""How often a lost race is tried again before giving up."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the registry holds."""

    leases: tuple[Lease, ...]
    """In the registry's order (etcd: by key)."""
    occupied: tuple[Subnet, ...] = ()
    """Subnets whose entries cannot be read: they may be in use, so they are not free."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """`lease` is ours and fits."""

    lease: Lease
    """As listed, with its revision."""
    reservation: bool
    """It hangs on no registry lease: an administrator pinned it, so it must not get a term."""


@dataclass(frozen=True, slots=True)
class Delete:
    """`leases` are ours, have a term and do not fit the configuration any more: all there are."""

    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class Create:
    """Claim `subnet`."""

    subnet: Subnet
    previous: bool
    """It is the subnet that this host had before, not a random one."""
    note: str = ""
    """Why the previous subnet was passed over, for the log; "" when it was not."""


Decision = Reuse | Delete | Create


def _fits(net: IPNetwork, low: Any, high: Any, length: int) -> bool:
    return bool(low.value <= net.value <= high.value and net.prefixlen == length)


def compatible(conf: NetConf, subnet: Subnet) -> bool:
    """Whether `subnet` is one that the validated `conf` could hand out."""
    if subnet.v4 is None or not _fits(subnet.v4, conf.subnet_min, conf.subnet_max, conf.subnet_len):
        return False
    if not conf.enable_ipv6:
        return subnet.v6 is None
    return subnet.v6 is not None and _fits(
        subnet.v6, conf.ipv6_subnet_min, conf.ipv6_subnet_max, conf.ipv6_subnet_len
    )


def _holder(subnet: Subnet, others: Iterable[Subnet]) -> Subnet | None:
    return next((other for other in others if subnet.overlaps(other)), None)


def decide(
    listing: Listing, attrs: LeaseAttrs, previous: Subnet | None, conf: NetConf, rng: Random
) -> Decision:
    """Choose the next step for a host that publishes `attrs` and once had `previous`.

    An entry is ours when its PublicIP is. An entry of ours that does not fit and is a reservation
    is left alone: an administrator wrote it. A claim that can be no host's subnet (model/place.py)
    takes no range from anyone. `conf` is validated.
    Raises OutOfSubnets; OperatorError when leases cannot be distinguished (no IPv4).
    """
    if not conf.enable_ipv4:
        raise OperatorError(
            "network configuration: EnableIPv4 false cannot work with etcd: leases of hosts"
            " without an IPv4 address all look like one host's",
            fix="set EnableIPv4 true, or use --kube-subnet-mgr",
        )
    if attrs.public_ip.value == 0:
        raise OperatorError(
            "this host has no public IPv4 address to put on its lease", fix="set --public-ip"
        )
    public_ip = attrs.public_ip.value
    ours = [lease for lease in listing.leases if lease.attrs.public_ip.value == public_ip]
    for lease in ours:
        if compatible(conf, lease.subnet):
            return Reuse(lease, reservation=lease.registry_lease == 0)
    stale = tuple(lease for lease in ours if lease.registry_lease)
    if stale:
        return Delete(stale)
    claimed = (*(lease.subnet for lease in listing.leases), *listing.occupied)
    places = Places.of(conf)
    taken = [part for subnet in claimed if (part := places.part(subnet)) is not None]
    note = ""
    if previous is not None:
        if not compatible(conf, previous):
            note = f"{previous} does not fit the network configuration"
        elif (holder := _holder(previous, taken)) is not None:
            note = f"{previous} is taken by {holder}"
        else:
            return Create(previous, previous=True)
    return Create(pick_subnet(conf, taken, rng), previous=False, note=note)
