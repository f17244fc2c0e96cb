"""Is our public address ours alone, and is our subnet.

The usual cause of two hosts with one address: VirtualBox gives the first interface of every virtual
machine 10.0.2.15 (flannel issues 51 and 98). In etcd such hosts share one lease, in Kubernetes two
Nodes publish one address; both ways packets for one arrive at the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped, warning
from udpoverlay.doctor.patient import Patient
from udpoverlay.model.lease import Lease, Subnet

__all__ = ["CHECK"]

_EVERY_VM = "10.0.2.15"
_FIX = "give each host its own: --iface=NAME of the network between the hosts, or --public-ip"


async def _look(patient: Patient) -> Sequence[Finding]:
    choice = await patient.known(patient.choice)
    if choice is None or choice.public_ip is None:
        return [skipped("no public IPv4 address is known, see interface")]
    public = str(choice.public_ip)
    findings = []
    if public == _EVERY_VM:
        findings.append(
            failure(f"{public} is the address that VirtualBox gives every virtual machine", _FIX)
        )
    leases = await patient.known(patient.leases)
    if leases is None:
        return [*findings, skipped("the leases are not known, see registry")]
    holders: dict[str, list[Subnet]] = defaultdict(list)
    for lease in leases:
        holders[str(lease.attrs.public_ip)].append(lease.subnet)
    findings += [
        *_shared(public, holders),
        *await _renewed_by_others(patient, public),
        *await _remembered(patient, public, leases),
    ]
    return findings or [good(f"{public} is no other lease's")]


def _shared(public: str, holders: dict[str, list[Subnet]]) -> list[Finding]:
    findings = []
    for address, subnets in sorted(holders.items()):
        if len(subnets) > 1:
            level = failure if address == public else warning
            names = ", ".join(map(str, subnets[:4]))
            findings.append(level(f"{len(subnets)} leases have {address}: {names}", _FIX))
    return findings


async def _renewed_by_others(patient: Patient, public: str) -> list[Finding]:
    status = await patient.status() or {}
    count = status.get("control", {}).get("foreign_renewals", 0)
    if not count:
        return []
    return [failure(f"another daemon with {public} renewed our lease {count} times", _FIX)]


async def _remembered(patient: Patient, public: str, leases: Sequence[Lease]) -> list[Finding]:
    """What the subnet file says of us against what the registry does."""
    ours, path = patient.remembered(), patient.config.subnet_file
    if ours is None:
        return []
    for lease in leases:
        holder = str(lease.attrs.public_ip)
        if lease.subnet.v4 == ours.v4 and holder != public:
            return [
                failure(
                    f"{lease.subnet}, ours by {path}, is leased by {holder}",
                    "restart udpoverlayd, then the containers of this host: they get a new subnet",
                )
            ]
    held = [lease.subnet for lease in leases if str(lease.attrs.public_ip) == public]
    if held and all(subnet.v4 != ours.v4 for subnet in held) and await patient.status() is None:
        return [
            warning(
                f"the lease of {public} is {held[0]}, but this host had {ours} ({path})",
                f"if another host has {public}: {_FIX}",
            )
        ]
    return []


CHECK = Check("public-ip", "public address and lease", _look)
