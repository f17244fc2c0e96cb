"""What ICMP says about datagrams to a peer: the value between engine and admin.

Owns: the value type. Must not know: how a report is read, who counts.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PathReport"]


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
