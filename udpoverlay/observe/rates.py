"""What a daemon does in a second: the difference of two looks at its documents.

Owns: how rates are made, also over a restart, and the document that `udpoverlay top --json` prints
(docs/reference/admin.md). Must not know: how the documents were got, or how rates are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from udpoverlay import _fastpath as fp
from udpoverlay.model.kernel_drops import KERNEL_DROPS
from udpoverlay.observe.status import SCHEMA_VERSION

__all__ = ["DROPS", "Look", "rates"]

DROPS: dict[str, str] = {
    **{name: text for name, _, kind, text in fp.VERDICTS if kind == "drop"},
    **KERNEL_DROPS,
}
"""Every counter of dropped packets and its meaning."""
_DIRECTIONS = {"outbound": "outbound_sent", "inbound": "inbound_delivered"}
"""Direction → the counter of packets that reached their end."""


@dataclass(frozen=True, slots=True)
class Look:
    """What `/v1/status` and `/v1/peers` told at one moment."""

    uptime: float = 0.0
    """Seconds since the daemon's start, by its own clock."""
    counters: Mapping[str, int] = field(default_factory=dict)
    peers: tuple[Mapping[str, Any], ...] = ()
    """As in the document."""

    @classmethod
    def at(cls, status: Mapping[str, Any], peers: Mapping[str, Any]) -> Look:
        """From the two documents."""
        return cls(status["uptime_seconds"], status["dataplane"]["counters"], tuple(peers["peers"]))


def rates(before: Look, after: Look) -> dict[str, Any]:
    """The document of what happened between two looks, `after` the later one.

    A daemon that was started again in between counts from zero: its rates are those since then.
    """
    if after.uptime <= before.uptime:
        before = Look()
    seconds = max(after.uptime - before.uptime, 0.001)

    def rate(name: str) -> float:
        return _rate(before.counters, after.counters, name, seconds)

    document: dict[str, Any] = {"schema": SCHEMA_VERSION, "seconds": round(seconds, 3)}
    for direction, arrived in _DIRECTIONS.items():
        drops = (rate(name) for name in DROPS if name.startswith(direction))
        document[direction] = {
            "packets_per_second": rate(arrived),
            "bits_per_second": round(8 * rate(f"{direction}_bytes"), 1),
            "drops_per_second": round(sum(drops), 1),
        }
    document["drops"] = [
        {"reason": name, "per_second": rate(name), "since_start": total}
        for name in DROPS
        if (total := after.counters.get(name, 0))
    ]
    document["drops"].sort(key=lambda drop: (-drop["per_second"], -drop["since_start"]))
    document["peers"] = sorted(
        _peers(before, after, seconds),
        key=lambda peer: (
            -peer["sent_bits_per_second"] - peer["delivered_bits_per_second"],
            -peer["drops_per_second"],
        ),
    )
    return document


def _peers(before: Look, after: Look, seconds: float) -> Iterator[dict[str, Any]]:
    """One for each host: its leases share one address, and one traffic."""
    earlier = {peer["public_ip"]: peer["traffic"] for peer in before.peers}
    subnets: dict[str, list[str]] = {}
    traffic = {}
    for peer in after.peers:
        subnets.setdefault(peer["public_ip"], []).append(peer["subnet"])
        traffic[peer["public_ip"]] = peer["traffic"]
    for public_ip, now in traffic.items():
        then = earlier.get(public_ip, {})
        drops = now["drops"]
        yield {
            "public_ip": public_ip,
            "subnets": subnets[public_ip],
            **{
                f"{way}_packets_per_second": _rate(then, now, f"{way}_packets", seconds)
                for way in ("sent", "delivered")
            },
            **{
                f"{way}_bits_per_second": round(8 * _rate(then, now, f"{way}_bytes", seconds), 1)
                for way in ("sent", "delivered")
            },
            "drops_per_second": round(
                sum(_rate(then.get("drops", {}), drops, name, seconds) for name in drops), 1
            ),
            "heard_seconds_ago": now["heard_seconds_ago"],
        }


def _rate(before: Mapping[str, int], after: Mapping[str, int], name: str, seconds: float) -> float:
    """Never negative: a peer that went and came back counts from zero."""
    now, then = after.get(name, 0), before.get(name, 0)
    return round((now - then if now >= then else now) / seconds, 1)
