"""One packet's way through the four points, from the records of all hosts that are asked: pure.

    sender: tun-in, udp-out ── the same packet id ── receiver: udp-in, tun-out

Owns: what can be said of each point, also where one host was not asked. Must not know: how records
are got.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from udpoverlay.decode.ip import checksum_fault
from udpoverlay.model.packet_record import POINTS, PacketRecord
from udpoverlay.trace.identity import packet_id
from udpoverlay.trace.pcapng import MEANINGS

__all__ = ["Step", "way"]

Records = Mapping[str, Sequence[PacketRecord]]
"""By the public IP of the host that recorded; a host that was not asked is not in it."""


@dataclass(frozen=True, slots=True)
class Step:
    """What became of the packet at one point."""

    point: str
    host: str
    """Public IP; "" where it is not known."""
    state: str
    """passed, stopped, not reached, or unknown."""
    text: str


def way(record: PacketRecord, recorder: str, found: Records) -> list[Step]:
    """The four points in order; `recorder`: public IP of the host that has `record`."""
    here, there = _half(record, recorder), record.remote
    other = _counterpart(record, found.get(there, ()))
    if record.outbound:
        if record.dropped:
            return here + [Step(point, there, "not reached", "") for point in POINTS[2:]]
        if other is not None:
            return here + _half(other, there)
        return here + _unknown(POINTS[2:], there, found, "it did not come in, or is one of a run")
    if other is not None:
        return _half(other, there) + here
    return _unknown(POINTS[:2], there, found, "no record is left, or it is one of a run") + here


def _half(record: PacketRecord, host: str) -> list[Step]:
    """The two points of the host that recorded it."""
    points = POINTS[:2] if record.outbound else POINTS[2:]
    steps = []
    for point in points:
        if POINTS.index(point) < POINTS.index(record.point):
            steps.append(Step(point, host, "passed", ""))
        elif point == record.point:
            steps.append(_end(point, host, record))
        else:
            steps.append(Step(point, host, "not reached", ""))
    return steps


def _end(point: str, host: str, record: PacketRecord) -> Step:
    if record.dropped:
        return Step(point, host, "stopped", _words(record))
    # Of a run the checksums are made later, by the kernel or a card.
    fault = checksum_fault(record.data, record.length) if record.packets == 1 else ""
    if fault and not record.outbound:
        return Step(point, host, "stopped", f"bad inner checksum, the kernel drops it: {fault}")
    return Step(point, host, "passed", _words(record))


def _words(record: PacketRecord) -> str:
    name = record.verdict.partition("_")[2].replace("_", " ")
    return f"{name}: {MEANINGS.get(record.verdict, 'a reason of another version')}"


def _counterpart(record: PacketRecord, others: Sequence[PacketRecord]) -> PacketRecord | None:
    """The same packet on the other host; of several that are equal byte for byte, the nearest."""
    wanted = packet_id(record.data)
    same = [
        other
        for other in others
        if other.outbound != record.outbound and packet_id(other.data) == wanted
    ]
    return min(same, key=lambda other: abs(other.time_ns - record.time_ns), default=None)


def _unknown(points: Sequence[str], host: str, found: Records, why: str) -> list[Step]:
    if host not in found:
        why = "its host is not asked: name its admin socket with --also" if host else ""
    return [Step(point, host, "unknown", why) for point in points]
