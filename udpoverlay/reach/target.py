"""Whom a word on the command line names: the inner address, the lease, the tunnel from here.

    10.244.3.7 · 10.244.3.0/24 · 192.0.2.12 (a lease's public IP) ──► Target

Owns: how a word is read, which are refused. Must not know: how the documents were got.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from netaddr import AddrFormatError, IPAddress, IPNetwork

from udpoverlay.errors import OperatorError

__all__ = ["Target", "alone", "find"]

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and what is known of the way."""

    address: str
    """The inner address."""
    peer: str = ""
    """Public IP of the host whose lease has it; "": none is known."""
    subnet: str = ""
    """That lease."""
    source: str = ""
    """Our own tunnel address; "": the kernel chooses."""
    device: str = ""
    """The tunnel device; "": not known."""
    mtu: int = 0
    """The tunnel's, in bytes of the inner packet; 0: not known."""

    @property
    def is_tunnel(self) -> bool:
        """Whether it is the peer's tunnel address, the first of its subnet."""
        return bool(self.subnet) and self.address == str(IPNetwork(self.subnet).ip)


def alone(word: str) -> Target:
    """With no daemon to ask: an address as it is, of a subnet its first. Raises OperatorError."""
    return Target(str(_read(word).ip))


def find(word: str, status: Document, peers: Document) -> Target:
    """By the documents of our daemon. Raises OperatorError for what no packet can be sent to."""
    node, wanted = status["node"], _read(word)
    leases = [peer for peer in peers["peers"] if IPNetwork(peer["subnet"]).version == 4]
    chosen = _named(word, wanted, leases)
    inner = IPNetwork(chosen["subnet"]).ip if chosen and _by_host(wanted, chosen) else wanted.ip
    if str(inner) == node["public_ip"]:
        raise OperatorError(
            f"{inner} is this host: packets to it do not go through the tunnel",
            fix="name another host's address; udpoverlay peers has them",
        )
    if inner in IPNetwork(status["lease"]["subnet"]):
        raise OperatorError(
            f"{inner} is in this host's own subnet: packets to it do not go through the tunnel",
            fix="name another host's address; udpoverlay peers has them",
        )
    if chosen is None and inner not in IPNetwork(node["network"]):
        raise OperatorError(
            f"{inner} is neither in the overlay {node['network']} nor the public IP of a lease",
            fix="udpoverlay peers has the addresses of all hosts",
        )
    if chosen is None:
        raise OperatorError(
            f"no host has a lease with {inner}", fix="does its daemon run? udpoverlay peers"
        )
    if chosen["refused"]:
        reason = chosen["refused"].replace("_", " ")
        raise OperatorError(
            f"the lease {chosen['subnet']} of {chosen['public_ip']} gets no route: {reason}",
            fix=f"udpoverlay explain {inner}",
        )
    return Target(
        str(inner),
        chosen["public_ip"],
        chosen["subnet"],
        node["tun_address"],
        node["tun"],
        node["mtu"],
    )


def _read(word: str) -> IPNetwork:
    try:
        found = IPNetwork(word) if "/" in word else IPNetwork(IPAddress(word))
    except (AddrFormatError, ValueError) as error:
        raise OperatorError(
            f"{word!r} is no address, no subnet and no node",
            fix="name a peer's public IP, its subnet, or an address in it such as 10.244.3.7",
        ) from error
    if found.version != 4:
        raise OperatorError(f"{word} is IPv6: the tunnel carries IPv4", fix="name an IPv4 address")
    return found


def _by_host(wanted: IPNetwork, lease: Document) -> bool:
    """Whether the host was named, not an address of its subnet."""
    return bool(wanted.prefixlen == 32 and str(wanted.ip) == lease["public_ip"])


def _named(word: str, wanted: IPNetwork, leases: Iterable[Document]) -> Document | None:
    """The lease that is meant; one with a route before one that is refused, the longest first."""
    found = [
        lease
        for lease in leases
        if (
            wanted.cidr == IPNetwork(lease["subnet"]).cidr
            if "/" in word
            else wanted.ip in IPNetwork(lease["subnet"]) or _by_host(wanted, lease)
        )
    ]
    found.sort(key=lambda lease: (bool(lease["refused"]), -IPNetwork(lease["subnet"]).prefixlen))
    return found[0] if found else None
