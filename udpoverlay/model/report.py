"""What ICMP says about datagrams to a peer: the value between engine and admin.

Owns: the value type, and what its kinds mean. Must not know: how a report is read, who counts.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MEANINGS", "PathReport"]

MEANINGS = {
    "port_unreachable": "nothing listens on the peer's UDP port: is its daemon running?",
    "host_unreachable": "no host answers at the peer's address: is it up, is the address right?",
    "net_unreachable": "a router has no route to the peer's address",
    "prohibited": "a firewall refuses our datagrams to the peer",
    "protocol_unreachable": "the peer's host takes no UDP",
}
"""Kinds that say why packets do not arrive, and how each reads."""


@dataclass(frozen=True, slots=True)
class PathReport:
    """One kind of ICMP error that came back for our datagrams to one peer."""

    peer: str
    """Where the datagrams went."""
    kind: str
    """For example port_unreachable: the peer's host lives, but nothing listens on the port."""
    count: int
    reporter: str
    """Who sent the latest: the peer, a router, or this host itself."""
    seconds_ago: float
    """When the latest came."""
