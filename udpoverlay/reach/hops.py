"""The hops to an inner address, and what each of them is.

    10.5.72.0   this host's daemon       TTL 1: each end of the tunnel takes one, as flannel's does
    10.5.73.0   the peer's daemon        TTL 2
    10.5.73.0   the peer's kernel        TTL 3: it answers, or forwards to a container
    10.5.73.7   the container            TTL 4

flanneld takes its hop, too, and sends no "time exceeded" (pkg/backend/udp/proxy_amd64.c): its end
of the tunnel is silent.

Owns: names of hops. Must not know: how they were found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netaddr import IPAddress, IPNetwork

from udpoverlay.reach.echo import Event, Kind
from udpoverlay.reach.target import Target

__all__ = ["Hop", "name", "silence"]


@dataclass(frozen=True, slots=True)
class Hop:
    """What was seen with one TTL."""

    ttl: int
    trips: Sequence[float | None]
    """In seconds; None: no answer to that one."""
    events: Sequence[Event] = field(default_factory=tuple)
    """Of the requests that were answered, in order."""

    @property
    def senders(self) -> list[str]:
        """Who answered, each once."""
        return list(dict.fromkeys(event.sender for event in self.events))

    @property
    def is_last(self) -> bool:
        """Whether there is no way further: the target answered, or a hop refuses."""
        return any(event.kind is not Kind.TIME_EXCEEDED for event in self.events)

    @property
    def reached(self) -> bool:
        """Whether the target answered."""
        return any(event.kind is Kind.ANSWER for event in self.events)


_ENDS = {1: "this end of the tunnel", 2: "the peer's end of the tunnel"}


def silence(hop: Hop) -> str:
    """What a hop may be that did not answer."""
    end = _ENDS.get(hop.ttl)
    return f"{end}: flanneld's is silent" if end else ""


def name(address: str, hop: Hop, target: Target, leases: Iterable[Mapping[str, Any]]) -> str:
    """What `address` is, for people; "" when it is not known."""
    known = _known(address, hop, target, leases)
    if hop.reached and address == target.address:
        return f"target, {known}" if known else "target"
    words = [event.words for event in hop.events if event.kind is not Kind.TIME_EXCEEDED]
    return ", ".join([known, *words[:1]]) if known else "".join(words[:1])


def _known(address: str, hop: Hop, target: Target, leases: Iterable[Mapping[str, Any]]) -> str:
    if not address:
        return "this host"
    if address == target.source:
        return "this host's daemon" if hop.ttl == 1 else "this host"
    for lease in leases:
        subnet, public = IPNetwork(lease["subnet"]), lease["public_ip"]
        if address == public:
            return f"the host of {subnet}"
        if IPAddress(address) not in subnet or lease["refused"]:
            continue
        if address != str(subnet.ip):
            return f"in {subnet} of {public}"
        part = {2: "daemon", 3: "kernel"}.get(hop.ttl, "tunnel")
        return f"{part} of {public}, lease {subnet}"
    return ""
