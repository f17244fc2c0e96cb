"""Does the overlay's network cover addresses or routes that this host uses otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netaddr import IPAddress, IPNetwork

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped, warning
from udpoverlay.doctor.patient import Patient
from udpoverlay.host.links import HostView, Route
from udpoverlay.host.netlink import Netlink

__all__ = ["CHECK"]

_OURS = ("flannel", "cni", "docker", "br-", "veth")
"""Beginnings of the names of devices that have addresses of the overlay on purpose."""
_CHOOSE = "choose a Network that no host uses, in the network configuration"


async def _look(patient: Patient) -> Sequence[Finding]:
    network = await patient.network()
    if network is None:
        return [skipped("the overlay's network is not known, see registry")]
    view = await patient.view()
    async with Netlink() as netlink:
        routes = await netlink.routes(4)
    findings = [*_addresses(network, view), *_routes(network, view, routes)]
    return findings or [good(f"no address and no route of this host lies in {network}")]


def _foreign(name: str) -> bool:
    return name != "lo" and not name.startswith(_OURS)


def _addresses(network: IPNetwork, view: HostView) -> list[Finding]:
    return [
        failure(
            f"Network {network} covers {address.ip}/{address.prefixlen} of {link.name}: this host "
            "and its neighbours become unreachable",
            _CHOOSE,
        )
        for link in view.links
        if _foreign(link.name)
        for address in link.addresses
        if address.ip.version == 4 and _share(network, address.ip, address.prefixlen)
    ]


def _routes(network: IPNetwork, view: HostView, routes: Sequence[Route]) -> list[Finding]:
    findings = []
    for route in routes:
        link = view.by_index(route.index)
        if link is None or not _foreign(link.name) or not route.network.prefixlen:
            continue
        if any(route.network == _net(address) for address in link.addresses):
            continue  # an address's own route: reported above
        if route.network in network:
            findings.append(
                failure(
                    f"the route {route.network} by {link.name} takes packets of the overlay away",
                    f"ip route del {route.network} dev {link.name} (a backend that is gone left "
                    "it?)",
                )
            )
        elif network in route.network:
            findings.append(
                warning(
                    f"Network {network} lies in {route.network}, which is reached by {link.name}: "
                    "hosts there with addresses of Network are not reached any more",
                    _CHOOSE,
                )
            )
    return findings


def _net(address: Any) -> IPNetwork:
    return IPNetwork(f"{address.ip}/{address.prefixlen}").cidr


def _share(network: IPNetwork, address: IPAddress, length: int) -> bool:
    link = IPNetwork(f"{address}/{length}").cidr
    return bool(link in network or network in link)


CHECK = Check("overlap", "overlapping networks", _look)
