"""The bench itself: which tests are run on which paths, in which order, and what comes out.

    for each round:  for each test:  for each path:  one run        A B C A B C A B C …

Neighbouring runs compare the same test on different paths, so that a slow minute of the machine
hits all alike. Owns: tests, metrics, the order, the samples. Must not know: how a path is set up,
how results are shown.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from udpoverlay.errors import UdpOverlayError
from udpoverlay.lab.bench.stats import median, ratio, spread
from udpoverlay.lab.bench.testbed import Ready
from udpoverlay.lab.cpus import sides
from udpoverlay.lab.traffic import Pair, datagrams, stream_trips, streams

__all__ = ["METRICS", "TESTS", "Metric", "Plan", "Row", "Runner"]

PING_PONG_BYTES = 64
OVERHEAD_SECONDS = 0.25
"""What a run costs beside its own time: connecting, ending, waiting for the last datagrams."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that a test yields."""

    test: str
    title: str
    unit: str
    higher_is_better: bool


METRICS: dict[str, Metric] = {
    "tcp_gbit": Metric("tcp", "TCP, 1 stream", "Gbit/s", True),
    "tcp_cpu": Metric("tcp", "daemons' CPU, TCP", "s/GB", False),
    "tcp_n_gbit": Metric("tcpn", "TCP, N streams", "Gbit/s", True),
    "udp64_kpps": Metric("udp64", "UDP 64 B received", "kpps", True),
    "udp64_loss": Metric("udp64", "UDP 64 B lost", "%", False),
    "udp1400_kpps": Metric("udp1400", "UDP 1,400 B received", "kpps", True),
    "udp1400_loss": Metric("udp1400", "UDP 1,400 B lost", "%", False),
    "rr_p50": Metric("rr", "TCP ping-pong p50", "µs", False),
    "rr_p99": Metric("rr", "TCP ping-pong p99", "µs", False),
}
"""Key → metric, in the order of the table."""

TESTS = tuple(dict.fromkeys(metric.test for metric in METRICS.values()))


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    tests: tuple[str, ...] = TESTS
    rounds: int = 5
    seconds: float = 1.0
    """Of each run."""
    streams: int = 4
    """Of the test with N streams."""
    congestion: str = ""
    """TCP's congestion control, "" for the machine's own."""

    @staticmethod
    def within(budget: float, runs_a_round: int, rounds: int) -> float:
        """Seconds of a run so that all fit into `budget` seconds, between 0.3 and 2."""
        each = budget / (runs_a_round * rounds) - OVERHEAD_SECONDS
        return math.floor(min(2.0, max(0.3, each)) * 100) / 100


@dataclass(slots=True)
class Row:
    """All samples of one metric on one path, by round."""

    path: str
    metric: str
    samples: dict[int, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The figure."""
        return median(self.samples.values())

    @property
    def spread(self) -> float:
        """Half the range as a share of the median."""
        return spread(list(self.samples.values()))


def _pair(ready: Ready, plan: Plan) -> Pair:
    return replace(ready.pair, congestion=plan.congestion)


def _tcp(ready: Ready, plan: Plan) -> dict[str, float]:
    before = sum(daemon.cpu_seconds() for daemon in ready.daemons)
    ((_, received),) = streams(_pair(ready, plan), seconds=plan.seconds, compare=False)
    used = sum(daemon.cpu_seconds() for daemon in ready.daemons) - before
    figures = {"tcp_gbit": received["bytes"] * 8 / max(1, received["nanoseconds"])}
    if ready.daemons:
        figures["tcp_cpu"] = used / (max(1, received["bytes"]) / 1e9)
    return figures


def _tcpn(ready: Ready, plan: Plan) -> dict[str, float]:
    done = streams(_pair(ready, plan), seconds=plan.seconds, count=plan.streams, compare=False)
    total = sum(received["bytes"] for _, received in done)
    longest = max(received["nanoseconds"] for _, received in done)
    return {"tcp_n_gbit": total * 8 / max(1, longest)}


def _udp(size: int) -> Callable[[Ready, Plan], dict[str, float]]:
    def run(ready: Ready, plan: Plan) -> dict[str, float]:
        sent, received = datagrams(ready.pair, size=size, seconds=plan.seconds)
        return {
            f"udp{size}_kpps": received["datagrams"] * 1e6 / max(1, received["nanoseconds"]),
            f"udp{size}_loss": 100 * (1 - received["datagrams"] / max(1, sent["datagrams"])),
        }

    return run


@contextlib.contextmanager
def _at_their_ends(ready: Ready) -> Iterator[None]:
    """Daemons run on the CPUs of their host's end, as on two machines.

    Otherwise it is chance whether a daemon shares a CPU with its own application or with the other
    host's, and a round trip takes one of two times, one twice as long as the other.
    """
    client, server = sides()
    for daemon in ready.daemons:
        daemon.run_on(client if daemon.host is ready.pair.client.host else server)
    try:
        yield
    finally:
        for daemon in ready.daemons:
            daemon.run_on(client | server)


def _rr(ready: Ready, plan: Plan) -> dict[str, float]:
    with _at_their_ends(ready):
        trips = stream_trips(_pair(ready, plan), size=PING_PONG_BYTES, seconds=plan.seconds)
    return {"rr_p50": trips["p50"] / 1000, "rr_p99": trips["p99"] / 1000}


_RUNS: dict[str, Callable[[Ready, Plan], dict[str, float]]] = {
    "tcp": _tcp,
    "tcpn": _tcpn,
    "udp64": _udp(64),
    "udp1400": _udp(1400),
    "rr": _rr,
}


class Runner:
    """Runs a plan over paths that are ready, and holds what came out.

    `outside` are measurements by programs of others on the way of `direct`: name → test → run.
    """

    def __init__(
        self,
        plan: Plan,
        paths: Mapping[str, Ready],
        outside: Mapping[str, Mapping[str, Callable[[Plan], dict[str, float]]]] | None = None,
    ) -> None:
        self.plan = plan
        self._paths = paths
        self._outside = outside or {}
        self.rows: dict[tuple[str, str], Row] = {}
        self.failures: dict[tuple[str, str], str] = {}
        """(path, test) → why its last failed run failed."""

    def schedule(self) -> list[tuple[int, str, str]]:
        """(round, test, path) of every run, in order."""
        return [
            (number, test, path)
            for number in range(self.plan.rounds)
            for test in self.plan.tests
            for path in [
                *self._paths,
                *(name for name, has in self._outside.items() if test in has),
            ]
        ]

    def run(self, report: Callable[[str], None] = lambda _: None) -> None:
        """Do all runs; one that fails is noted, and the others go on."""
        for number, test, path in self.schedule():
            report(f"round {number + 1} of {self.plan.rounds}: {test} on {path}")
            try:
                if path in self._paths:
                    figures = _RUNS[test](self._paths[path], self.plan)
                else:
                    figures = self._outside[path][test](self.plan)
            except (UdpOverlayError, OSError) as error:
                self.failures[path, test] = str(error) or type(error).__name__
                continue
            for metric, value in figures.items():
                row = self.rows.setdefault((path, metric), Row(path, metric))
                row.samples[number] = value

    def names(self) -> Sequence[str]:
        """All paths, also those outside, in order."""
        return [*self._paths, *self._outside]

    def ratio(self, path: str, reference: str, metric: str) -> float | None:
        """How a path compares with another, None where either has no samples."""
        ours, theirs = self.rows.get((path, metric)), self.rows.get((reference, metric))
        if ours is None or theirs is None:
            return None
        return ratio(ours.samples, theirs.samples)
