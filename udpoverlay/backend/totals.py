"""What one engine after another counted: the sums since start, whatever was rebuilt.

Owns: how counts go on over a rebuild. Must not know: when there is one, what is counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Container, Mapping

from udpoverlay.dataplane.engine import Engine
from udpoverlay.model.histogram import Histogram
from udpoverlay.model.legacy import Counts
from udpoverlay.model.traffic import PeerTraffic

__all__ = ["Totals"]

_NONE = PeerTraffic()


class Totals:
    """Sums over engines that ended, to which the present one's counts are added."""

    def __init__(self) -> None:
        self._ended: Engine | None = None
        self._counters: Counter[str] = Counter()
        self._senders: Counter[str] = Counter()
        self._reports: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        """By queues of the kernel that are closed."""
        self._traffic: dict[str, PeerTraffic] = {}
        self._histograms: dict[str, Histogram] = {}
        self.since = time.monotonic()
        """When counting began, on the monotonic clock."""

    def begin(self, counts: Counts, engine: Engine) -> None:
        """Go on from what a former daemon counted; of names that `engine` does not have, nothing.

        The kernel's own counts go on in its queues.
        """
        known = engine.counters()
        self._counters.update({n: count for n, count in counts.counters.items() if n in known})
        known = engine.sender_counters()
        self._senders.update({n: count for n, count in counts.senders.items() if n in known})
        self._reports.update(counts.reports)
        self._dropped.update(counts.dropped)
        self._traffic = dict(counts.traffic)
        sizes = {name: len(each.counts) for name, each in engine.histograms().items()}
        self._histograms = {
            name: each
            for name, each in counts.histograms.items()
            if sizes.get(name) == len(each.counts)
        }
        self.since = min(self.since, counts.since)

    def state(self, engine: Engine) -> Counts:
        """All of it, for the next daemon."""
        return Counts(
            self.since,
            self.counters(engine),
            self.sender_counters(engine),
            self.report_counters(engine),
            dict(self._dropped),
            self.traffic(engine),
            self.histograms(engine),
        )

    def end(self, engine: Engine, routed: Container[str]) -> None:
        """Keep what `engine` counted; it counts no more. Peers not `routed` are forgotten."""
        if engine is self._ended:
            return
        self._ended = engine
        self._counters.update(engine.counters())
        self._senders.update(engine.sender_counters())
        self._reports.update(engine.report_counters())
        self._histograms = _with(self._histograms, engine.histograms())
        traffic = _added(self._traffic, engine.traffic())
        self._traffic = {peer: each for peer, each in traffic.items() if peer in routed}

    def close_queue(self, name: str, drops: int) -> None:
        """One of the kernel's queues is closed that dropped so many packets."""
        self._dropped[name] += drops

    def counters(self, engine: Engine) -> dict[str, int]:
        """Verdicts and counters by name."""
        return self._sum(self._counters, engine, engine.counters())

    def sender_counters(self, engine: Engine) -> dict[str, int]:
        """What was done to find out from where peers send."""
        return self._sum(self._senders, engine, engine.sender_counters())

    def report_counters(self, engine: Engine) -> dict[str, int]:
        """ICMP errors that came back for our datagrams, by kind."""
        return self._sum(self._reports, engine, engine.report_counters())

    def kernel_drops(self, engine: Engine) -> dict[str, int]:
        """Packets that the kernel dropped in front of a worker, by direction."""
        now = engine.kernel_drops()
        return {name: self._dropped[name] + count for name, count in now.items()}

    def traffic(self, engine: Engine) -> Mapping[str, PeerTraffic]:
        """By the peer's public IP."""
        if engine is self._ended:
            return self._traffic
        return _added(self._traffic, engine.traffic())

    def histograms(self, engine: Engine) -> Mapping[str, Histogram]:
        """By name."""
        if engine is self._ended:
            return self._histograms
        return _with(self._histograms, engine.histograms())

    def heard(self, engine: Engine, seconds: float | None) -> int:
        """How many peers sent a datagram in the last `seconds`; None: since start."""
        since = 1 if seconds is None else max(1, time.monotonic_ns() - int(seconds * 1e9))
        if not self._traffic:
            return engine.heard(since)
        return sum(each.heard_ns >= since for each in self.traffic(engine).values())

    def _sum(
        self, before: Mapping[str, int], engine: Engine, now: Mapping[str, int]
    ) -> dict[str, int]:
        if engine is self._ended:
            return dict(before)
        return {name: before.get(name, 0) + now.get(name, 0) for name in {**now, **before}}


def _added(
    before: Mapping[str, PeerTraffic], now: Mapping[str, PeerTraffic]
) -> dict[str, PeerTraffic]:
    return {peer: before.get(peer, _NONE) + now.get(peer, _NONE) for peer in {**before, **now}}


def _with(before: Mapping[str, Histogram], now: Mapping[str, Histogram]) -> dict[str, Histogram]:
    return {name: each + before[name] if name in before else each for name, each in now.items()}
