"""Whether the hosts that a tunnel joins are those that have the leases.

Owns: the three rules below. Must not know: where leases come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from udpoverlay.decode.problem import Problem, Where, Word
from udpoverlay.decode.tunnel import Dissected

__all__ = ["KnownLease", "lease_problems"]


@dataclass(frozen=True, slots=True)
class KnownLease:
    """Who has a subnet."""

    subnet: IPv4Network | IPv6Network
    public_ip: str
    also_sends_from: tuple[str, ...] = ()


def lease_problems(found: Dissected, leases: Sequence[KnownLease]) -> Iterator[Problem]:
    """What is wrong with the ends of a tunnelled packet, seen from the leases."""
    outer = found.outer
    if outer is None:
        return
    # Segments of one send share their ends, and what is wrong with them.
    for packet in {(each.source, each.destination): each for each in found.inner}.values():
        sender, receiver = _holder(packet.source, leases), _holder(packet.destination, leases)
        for address, holder in ((packet.source, sender), (packet.destination, receiver)):
            if holder is None:
                yield Problem(
                    Where.INNER, Word.UNKNOWN_SUBNET, f"{address} is in the subnet of no lease"
                )
        if sender and outer.source not in {sender.public_ip, *sender.also_sends_from}:
            yield Problem(
                Where.OUTER,
                Word.FOREIGN_SENDER,
                f"{packet.source} is in {sender.subnet}, leased by {sender.public_ip}; "
                f"{outer.source} sent it",
            )
        if receiver and outer.destination != receiver.public_ip:
            yield Problem(
                Where.OUTER,
                Word.WRONG_HOST,
                f"{packet.destination} is in {receiver.subnet}, leased by {receiver.public_ip}; "
                f"it goes to {outer.destination}",
            )


def _holder(address: str, leases: Sequence[KnownLease]) -> KnownLease | None:
    """The longest that holds it."""
    wanted = ip_address(address)
    holding = [lease for lease in leases if wanted in lease.subnet]
    return max(holding, key=lambda lease: lease.subnet.prefixlen, default=None)
