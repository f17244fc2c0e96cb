"""Whether a datagram may be what it says it is (ext/worker/source_check.c), slow and obvious."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

__all__ = ["World"]

NEVER = [
    IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")
]
Peer = tuple[str, int]


@dataclass
class World:
    """What a node knows."""

    subnet: IPv4Network
    own: Iterable[str]
    routes: Mapping[IPv4Network, Peer]
    aliases: Iterable[tuple[str, str]] = field(default_factory=list)

    def peers_at(self, outer: str) -> set[Peer]:
        """Whose datagrams come from this address."""
        addresses = {outer} | {of for alias, of in self.aliases if alias == outer}
        return {peer for peer in self.routes.values() if peer[0] in addresses}

    def holder(self, address: IPv4Address) -> Peer | None:
        """The peer of the longest prefix."""
        fitting = [network for network in self.routes if address in network]
        return self.routes[max(fitting, key=lambda net: net.prefixlen)] if fitting else None

    def verdict(self, outer: str, source: str, destination: str) -> str:
        """With source-check enforce."""
        peers = self.peers_at(outer)
        from_, to = IPv4Address(source), IPv4Address(destination)
        if not peers:
            return "inbound_unknown_sender"
        if any(to in net for net in NEVER) or to == self.subnet.broadcast_address:
            return "inbound_martian_destination"
        if any(from_ in net for net in NEVER) or from_ in self.subnet or source in self.own:
            return "inbound_martian_source"
        if to not in self.subnet:
            return "inbound_foreign_destination"
        if self.holder(from_) in peers or source == outer or source in {peer[0] for peer in peers}:
            return "inbound_delivered"
        return "inbound_foreign_source"
