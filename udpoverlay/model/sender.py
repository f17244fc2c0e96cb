"""A sender of datagrams that did not pass the source check: the value between engine and admin.

Owns: the value type. Must not know: how a datagram is judged, how senders are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RefusedSender"]


@dataclass(frozen=True, slots=True)
class RefusedSender:
    """An address from which datagrams came that were refused, or would be with enforce."""

    address: str
    """Outer source."""
    reason: str
    """Verdict of the latest, for example inbound_unknown_sender."""
    datagrams: int
    """Since it is remembered."""
    inner_source: str
    inner_destination: str
    """Of the latest; 0.0.0.0 when it held no IPv4 packet."""
    seconds_ago: float
    """When the latest came."""
