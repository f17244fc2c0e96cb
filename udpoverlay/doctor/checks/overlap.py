"""Does the overlay's network cover addresses that this host uses otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from netaddr import IPNetwork

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped
from udpoverlay.doctor.patient import Patient
from udpoverlay.host.netlink import host_view

__all__ = ["CHECK"]

_OURS = ("flannel", "cni", "docker", "veth", "lo")
"""Devices that have addresses of the overlay on purpose."""


async def _look(patient: Patient) -> Sequence[Finding]:
    network = None if patient.netconf is None else patient.netconf.network
    if network is None:
        return [skipped("the network configuration is not known")]
    found = [
        (link.name, f"{address.ip}/{address.prefixlen}")
        for link in (await host_view()).links
        if not link.name.startswith(_OURS)
        for address in link.addresses
        if address.ip.version == network.version and _overlaps(network, address)
    ]
    if found:
        device, address = found[0]
        return [
            failure(
                f"Network {network} covers {address} of {device}: this host and its "
                "neighbours become unreachable",
                "choose a Network that no host uses, in the network configuration",
            )
        ]
    return [good(f"no address of this host lies in {network}")]


def _overlaps(network: IPNetwork, address: object) -> bool:
    own = IPNetwork(f"{address.ip}/{address.prefixlen}")  # type: ignore[attr-defined] # host.links.Address
    return bool(own.ip in network or network.ip in own)


CHECK = Check("overlap", "overlapping networks", _look)
