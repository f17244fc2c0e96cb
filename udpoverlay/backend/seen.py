"""What is seen of a tunnel: counts that go on over rebuilds, and the state of its engine.

Owns: which part answers. Must not know: when a tunnel is rebuilt (network.py), who asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from udpoverlay.backend.totals import Totals
from udpoverlay.dataplane.engine import Engine
from udpoverlay.model.fallback import Fallback
from udpoverlay.model.histogram import Histogram
from udpoverlay.model.impairment import Impairment, ImpairmentState
from udpoverlay.model.report import PathReport
from udpoverlay.model.sender import RefusedSender
from udpoverlay.model.traffic import PeerTraffic, WorkerTimes

__all__ = ["Seen"]


class Seen:
    """The part of backend.base.Network that others look at."""

    _engine: Engine
    _totals: Totals

    def alive(self) -> bool:
        """Whether workers move packets."""
        return self._engine.alive()

    def counters(self) -> dict[str, int]:
        """Verdicts and counters by name since start, whatever was rebuilt."""
        return self._totals.counters(self._engine)

    def histograms(self) -> Mapping[str, Histogram]:
        """Sizes of batches and super-packets, and how long batches take."""
        return self._totals.histograms(self._engine)

    def worker_times(self) -> Sequence[WorkerTimes]:
        """What each worker spent its time on since it began."""
        return self._engine.worker_times()

    def kernel_drops(self) -> dict[str, int]:
        """Packets that the kernel dropped in front of a worker, by direction."""
        return self._totals.kernel_drops(self._engine)

    def sender_counters(self) -> dict[str, int]:
        """What was done to find out from where peers send."""
        return self._totals.sender_counters(self._engine)

    def report_counters(self) -> dict[str, int]:
        """ICMP errors that came back for our datagrams, by kind."""
        return self._totals.report_counters(self._engine)

    def traffic(self) -> Mapping[str, PeerTraffic]:
        """See backend.base; a peer is forgotten with its last route."""
        return self._totals.traffic(self._engine)

    def heard(self, seconds: float | None) -> int:
        """See backend.base."""
        return self._totals.heard(self._engine, seconds)

    def route_count(self) -> int:
        """Routes in the current table."""
        return self._engine.route_count()

    def features(self) -> dict[str, str]:
        """State of each offload."""
        return self._engine.features()

    def fallbacks(self) -> Sequence[Fallback]:
        """Offloads that the kernel refused."""
        return self._engine.fallbacks()

    def path_reports(self) -> Sequence[PathReport]:
        """ICMP errors by peer."""
        return self._engine.path_reports()

    def impairments(self) -> Sequence[ImpairmentState]:
        """See backend.base."""
        return self._engine.impairments.states()

    def impair(self, wanted: Impairment) -> None:
        """See backend.base; what is rebuilt has none any more."""
        self._engine.impairments.set(wanted)

    def end_impairment(self, peer: str) -> bool:
        """See backend.base."""
        return self._engine.impairments.end(peer)

    def refused_senders(self) -> Sequence[RefusedSender]:
        """Who sent what did not pass the source check."""
        return self._engine.refused_senders()

    def proved_senders(self) -> Mapping[str, Sequence[str]]:
        """Public IP of a peer → other addresses that it was proved to send from."""
        return self._engine.proved_senders()
