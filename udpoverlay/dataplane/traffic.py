"""What the workers counted of each peer.

Owns: the translation from slots' counters (ext/routes/peer_counts.h) to a peer's traffic. Must not
know: who asks.
"""

from __future__ import annotations

import socket

from udpoverlay import _fastpath as fp
from udpoverlay.model.traffic import PeerTraffic

__all__ = ["read_traffic"]

_NAMES = tuple(name for name, *_ in fp.VERDICTS)
_OK = frozenset(name for name, _, kind, _ in fp.VERDICTS if kind == "ok")


def read_traffic(table: fp.RouteTable) -> dict[str, PeerTraffic]:
    """By the peer's address; several ports of one address are added up."""
    found: dict[str, PeerTraffic] = {}
    for address, _, verdicts, sent_bytes, delivered_bytes, heard_ns in table.traffic():
        counts = {_NAMES[number]: count for number, count in verdicts.items()}
        made = PeerTraffic(
            counts.get("outbound_sent", 0),
            sent_bytes,
            counts.get("inbound_delivered", 0),
            delivered_bytes,
            {name: count for name, count in counts.items() if name not in _OK},
            heard_ns,
        )
        peer = socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
        found[peer] = found[peer] + made if peer in found else made
    return found
