"""Where packets for a peer's subnet go: the value between the lease table and the C routes.

Owns: the value type. Must not know: sockets, the registry, how a route table is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from netaddr import IPAddress

__all__ = ["Endpoint", "Way"]


class Way(Enum):
    """Where this host's kernel sends a datagram for some address."""

    UNDERLAY = "out on the underlay, as far as is known"
    TUNNEL = "into our own tunnel device"
    LOCAL = "to this host itself"
    BROADCAST = "to all hosts of a link"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A peer's UDP address.

    Two routes with an equal endpoint share one next hop in C.
    """

    address: IPAddress
    """IPv4 or IPv6 address on the underlay, of the family of our own socket."""
    port: int
    """UDP port in host byte order, 1..65535."""
    mtu: int = 0
    """Longest inner packet in bytes that this peer takes; 0: no limit but our own tunnel's MTU."""
    header: bytes = b""
    """What stands in front of each inner packet to this peer, 24 bytes at most: its backend's
    encapsulation. Empty for udp."""
