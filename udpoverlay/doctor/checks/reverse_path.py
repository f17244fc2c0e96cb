"""Does reverse path filtering drop what arrives: from the tunnel, or from peers.

Strict filtering (1) takes a packet only by the interface that the way back leads through (RFC 3704;
Documentation/networking/ip-sysctl.rst: the larger of `all` and the interface's own value counts).
"""

from __future__ import annotations

from collections.abc import Sequence

from netaddr import IPAddress

from udpoverlay.doctor.base import Check, Finding, failure, good, skipped
from udpoverlay.doctor.patient import Patient
from udpoverlay.errors import KernelError
from udpoverlay.gocompat.net import parse_ip4
from udpoverlay.host.netlink import Netlink

__all__ = ["CHECK"]

_STRICT = 1
_MOST_PEERS = 50


async def _look(patient: Patient) -> Sequence[Finding]:
    findings = [*await _tunnel(patient), *await _underlay(patient)]
    return findings or [skipped("neither a tunnel device nor an interface is known")]


def _strict(patient: Patient, device: str) -> bool:
    every = patient.sysctl("net/ipv4/conf/all/rp_filter") or "0"
    own = patient.sysctl(f"net/ipv4/conf/{device}/rp_filter") or "0"
    return max(every, own) == str(_STRICT)


def _fix(device: str) -> str:
    return f"sysctl -w net.ipv4.conf.{device}.rp_filter=2, and in /etc/sysctl.d/"


async def _tunnel(patient: Patient) -> list[Finding]:
    """Packets of pods elsewhere come out of the tunnel; their way back must lead into it."""
    device, network = await patient.tunnel(), await patient.network()
    link = (await patient.view()).by_name(device)
    if link is None or network is None:
        return []
    if not _strict(patient, device):
        return [good(f"{device}: not strict")]
    status = await patient.status() or {}
    own = status.get("lease", {}).get("subnet", "")
    some = next((peer["subnet"] for peer in await patient.daemon_peers()), "")
    target = parse_ip4(some.partition("/")[0]) or _outside(network.first, network.last, own)
    if await _device_to(target) == link.index:
        return [good(f"{device}: strict, and the way back leads there")]
    return [
        failure(
            f"{device} is strict, but the way back to {target} is another interface", _fix(device)
        )
    ]


def _outside(first: int, last: int, own: str) -> IPAddress:
    """An address of the network that is not in our own subnet."""
    address = parse_ip4(own.partition("/")[0])
    return IPAddress(
        last - 1 if address is None or int(address) < (first + last) // 2 else first + 1
    )


async def _underlay(patient: Patient) -> list[Finding]:
    """Datagrams of peers arrive at the interface that they send to."""
    choice = await patient.known(patient.choice)
    if choice is None:
        return []
    if not _strict(patient, choice.name):
        return [good(f"{choice.name}: not strict")]
    leases = await patient.known(patient.leases) or ()
    named = [parse_ip4(peer) for peer in patient.peers]
    peers = [lease.attrs.public_ip for lease in leases][:_MOST_PEERS]
    network = await patient.network()
    for peer in (*(each for each in named if each is not None), *peers):
        if peer == choice.public_ip or (network is not None and peer in network):
            continue
        index = await _device_to(peer)
        if index not in {None, choice.index}:
            return [
                failure(
                    f"{choice.name} is strict, but the way to peer {peer} is another interface: "
                    "its datagrams are dropped",
                    _fix(choice.name),
                )
            ]
    return [good(f"{choice.name}: strict, and the way to every peer leads there")]


async def _device_to(address: IPAddress) -> int | None:
    async with Netlink() as netlink:
        try:
            return (await netlink.route_to(address)).index
        except KernelError:
            return None


CHECK = Check("reverse-path", "reverse path filter", _look)
