"""The proof that every pair of nodes can talk through the overlay, and that no byte is changed.

Owns: which tests a pair must pass and when it has. Must not know: how results are shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from udpoverlay.errors import UdpOverlayError
from udpoverlay.lab.cluster import Overlay
from udpoverlay.lab.node import Node
from udpoverlay.lab.traffic import Pair, datagram_trips, icmp_trips, streams

__all__ = ["PairResult", "prove"]

FIRST_PINGS = 2
"""A pair that answers none of them gets no further test: each lost one costs seconds."""
PINGS = 50
PING_PAUSE_SECONDS = 0.002
ICMP_HEADERS = 28
"""IPv4 and ICMP: what an echo request is longer than its payload."""
DATAGRAMS = 2000
DATAGRAM_WINDOW = 16
DATAGRAM_SECONDS = 20.0
DATAGRAM_SIZES = (24, 4000)
"""UDP payload bytes: up to packets that travel in several fragments."""
LOSS_ALLOWED = 0.01
"""IP promises no delivery; more than this is a fault all the same."""


@dataclass(slots=True)
class PairResult:
    """What one node saw of another; ratios are 0 … 1."""

    source: str
    target: str
    rtt_p50_us: float = 0.0
    ping_loss: float = 1.0
    tcp_bytes: int = 0
    tcp_gbit: float = 0.0
    udp_datagrams: int = 0
    udp_loss: float = 1.0
    udp_rtt_p50_us: float = 0.0
    fast_sent: float | None = None
    """Share of the source's packets that left by the fast path, None when it sent none."""
    fast_delivered: float | None = None
    """Share of the target's packets that were delivered by the fast path."""
    failure: str = ""
    """Why the pair did not pass, "" when it did."""

    @property
    def passed(self) -> bool:
        """Whether all tests passed."""
        return not self.failure


def prove(
    overlay: Overlay, *, seconds: float, report: Callable[[str], None] = lambda _: None
) -> list[PairResult]:
    """Test every ordered pair; a TCP stream lasts `seconds`. Failures are in the results."""
    results = []
    for source in overlay.nodes.values():
        for target in overlay.nodes.values():
            if source is target:
                continue
            report(f"{source.name} → {target.name}")
            result = PairResult(source.name, target.name)
            results.append(result)
            before = _counters(overlay, source, target)
            try:
                _test(Pair(source.pod_end, target.pod_end), source.mtu, seconds, result)
            except (UdpOverlayError, OSError) as error:
                result.failure = str(error) or type(error).__name__
            if result.failure:
                result.failure += "".join(_ended(node) for node in (source, target))
            after = _counters(overlay, source, target)
            result.fast_sent = _share("outbound", before[0], after[0])
            result.fast_delivered = _share("inbound", before[1], after[1])
    return results


def _ended(node: Node) -> str:
    status = node.process.poll()
    return "" if status is None else f"; the daemon of {node.name} ended with status {status}"


def _counters(
    overlay: Overlay, source: Node, target: Node
) -> tuple[dict[str, int], dict[str, int]]:
    """Empty for a daemon that cannot be asked, or that is gone."""
    if not overlay.program.has_admin_socket:
        return {}, {}
    try:
        return source.counters(), target.counters()
    except UdpOverlayError:
        return {}, {}


def _share(direction: str, before: dict[str, int], after: dict[str, int]) -> float | None:
    fast, plain = (
        after.get(f"{direction}_{path}_packets", 0) - before.get(f"{direction}_{path}_packets", 0)
        for path in ("fast", "plain")
    )
    return fast / (fast + plain) if fast + plain > 0 else None


def _test(pair: Pair, mtu: int, seconds: float, result: PairResult) -> None:
    """The tests in order; the first that fails says why and ends it."""
    if icmp_trips(pair, size=56, count=FIRST_PINGS, pause=0)["answered"] == 0:
        result.failure = "no answer to ping"
        return
    for size in (56, mtu - ICMP_HEADERS):
        ping = icmp_trips(pair, size=size, count=PINGS, pause=PING_PAUSE_SECONDS)
        if size == 56:
            result.rtt_p50_us = ping["p50"] / 1000
        result.ping_loss = 1 - ping["answered"] / ping["sent"]
        if result.ping_loss > LOSS_ALLOWED:
            lost = ping["sent"] - ping["answered"]
            result.failure = f"{lost} of {ping['sent']} pings of {size} bytes lost"
        if ping["corrupt"]:
            result.failure = f"{ping['corrupt']} ping answers differ from what was sent"
        if result.failure:
            return
    ((sent, received),) = streams(pair, seconds=seconds)
    result.tcp_bytes = received["bytes"]
    result.tcp_gbit = received["bytes"] * 8 / max(received["nanoseconds"], 1)
    if received["corrupt"]:
        result.failure = f"TCP: byte {received['corrupt'] - 1} arrived changed"
    elif received["bytes"] != sent["bytes"]:
        result.failure = f"TCP: {received['bytes']} of {sent['bytes']} bytes arrived"
    if result.failure:
        return
    trips = datagram_trips(
        pair,
        sizes=DATAGRAM_SIZES,
        count=DATAGRAMS,
        window=DATAGRAM_WINDOW,
        seconds=DATAGRAM_SECONDS,
    )
    result.udp_datagrams = trips["answered"]
    result.udp_loss = 1 - trips["answered"] / DATAGRAMS
    result.udp_rtt_p50_us = trips["p50"] / 1000
    if trips["corrupt"]:
        result.failure = f"UDP: {trips['corrupt']} datagrams arrived changed"
    elif result.udp_loss > LOSS_ALLOWED:
        result.failure = f"UDP: {DATAGRAMS - trips['answered']} of {DATAGRAMS} datagrams lost"
