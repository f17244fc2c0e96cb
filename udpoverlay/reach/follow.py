"""Where the packets of one flow end: the records of both hosts, put beside each other by packet id.

    host of SRC: tun-in, udp-out ── the same id ── host of DST: udp-in, tun-out

Owns: what the two lists together say. Must not know: how they were got, who reads the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from udpoverlay.decode.ip import checksum_fault

__all__ = ["End", "Stop", "Way", "follow"]

Packet = Mapping[str, Any]
"""As `udpoverlay record dump --json` writes it: docs/reference/trace.md."""


@dataclass(frozen=True, slots=True)
class End:
    """A host, and what it recorded of a flow and of the way back."""

    name: str
    packets: Sequence[Packet] | None
    """None: it could not be asked."""

    def of(self, direction: str, source: str, destination: str) -> list[Packet]:
        """Its packets in a direction, "outbound" or "inbound", of a flow."""
        return [
            packet
            for packet in self.packets or ()
            if (packet["direction"], packet["source"], packet["destination"])
            == (direction, source, destination)
        ]


@dataclass(frozen=True, slots=True)
class Stop:
    """Packets that went no further."""

    host: str
    """Where; "" between the hosts."""
    point: str
    verdict: str
    """"" between the hosts and in the receiver's kernel: no record says."""
    meaning: str
    packets: int


@dataclass(frozen=True, slots=True)
class Way:
    """What became of packets from one host to the other."""

    sender: str
    receiver: str
    seen: int = 0
    """Packets that entered the tunnel; at the receiver, where the sender could not be asked."""
    sent: int = 0
    """Of these, handed to the underlay; their end is unknown where the receiver was not asked."""
    delivered: int = 0
    stops: tuple[Stop, ...] = ()
    """The one with the most packets first."""

    @property
    def stopped(self) -> int:
        """Packets."""
        return sum(stop.packets for stop in self.stops)


def follow(source: str, destination: str, sender: End, receiver: End) -> Way:
    """The way of packets from `source` to `destination`, inner addresses.

    A run of segments has one record, and hosts divide a flow into runs differently: a packet of a
    flow with runs counts as delivered when the receiver delivered packets of that flow, even if
    its own id is not there.
    """
    arrived = receiver.of("inbound", source, destination)
    left = sender.of("outbound", source, destination)
    if not left:  # not asked, or it came past the sender's tunnel
        return _received(arrived, sender, receiver)
    by_id = {packet["id"]: packet for packet in arrived}
    runs = {_ports(packet) for packet in arrived if packet["packets"] > 1}
    delivered_flows = {_ports(packet) for packet in arrived if not packet["dropped"]}
    stops: Counter[tuple[str, str, str, str]] = Counter()
    sent = delivered = 0
    for packet in left:
        weight = packet["packets"]
        if packet["dropped"]:
            stops[_stop(sender.name, packet)] += weight
            continue
        sent += weight
        if receiver.packets is None:
            continue
        found = by_id.get(packet["id"])
        ports = _ports(packet)
        stop = _stop_of(receiver.name, found) if found is not None else None
        if stop is not None:
            stops[stop] += weight
        elif found is not None or ((weight > 1 or ports in runs) and ports in delivered_flows):
            delivered += weight
        else:
            stops["", "udp-out", "", f"sent to {packet['peer']}, and never came in"] += weight
    return Way(sender.name, receiver.name, _sum(left), sent, delivered, _stops(stops))


def _received(arrived: list[Packet], sender: End, receiver: End) -> Way:
    stops: Counter[tuple[str, str, str, str]] = Counter()
    for packet in arrived:
        if stop := _stop_of(receiver.name, packet):
            stops[stop] += packet["packets"]
    seen = _sum(arrived)
    return Way(sender.name, receiver.name, seen, seen, seen - sum(stops.values()), _stops(stops))


def _sum(packets: Iterable[Packet]) -> int:
    return sum(packet["packets"] for packet in packets)


def _ports(packet: Packet) -> tuple[Any, ...]:
    return packet["protocol"], packet["source_port"], packet["destination_port"]


def _stop(host: str, packet: Packet) -> tuple[str, str, str, str]:
    return host, packet["point"], packet["verdict"], packet["meaning"]


def _stop_of(host: str, packet: Packet) -> tuple[str, str, str, str] | None:
    """Where a packet that came in ended; None: it was delivered, and the kernel takes it."""
    if packet["dropped"]:
        return _stop(host, packet)
    if packet["packets"] > 1:
        return None  # the kernel gets them as one, and their checksum is to be made
    if fault := checksum_fault(bytes.fromhex(packet["data"]), packet["length"]):
        return host, "tun-out", "", f"bad inner checksum, the kernel drops it: {fault}"
    return None


def _stops(found: Counter[tuple[str, str, str, str]]) -> tuple[Stop, ...]:
    return tuple(Stop(*key, packets) for key, packets in found.most_common())
