"""Prometheus' view of the daemon: the text of `/metrics`.

Owns: names, types, help texts and labels of metrics (docs/reference/metrics.md), and how many peers
have series of their own. Must not know: where counts come from, more of their owners than these
protocols. prometheus_client writes the format (docs/adr/0023); it is loaded with the first scrape.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from udpoverlay import _fastpath as fp
from udpoverlay._version import VERSION
from udpoverlay.log import lines_lost
from udpoverlay.model.fallback import Fallback
from udpoverlay.model.histogram import Histogram
from udpoverlay.model.impairment import ImpairmentState
from udpoverlay.model.traffic import PeerTraffic, WorkerTimes
from udpoverlay.observe.accounts import unaccounted

if TYPE_CHECKING:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    Family = CounterMetricFamily | GaugeMetricFamily

__all__ = ["CONTENT_TYPE", "MOST_PEERS", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format; every Prometheus since 2014 reads it."""
MOST_PEERS = 256
"""Peers with series of their own: those with the most bytes. The others are added up as OTHERS."""
OTHERS = "other"
_BYTES = {"outbound_bytes", "inbound_bytes"}
_HISTOGRAMS = {
    "batch_packets": ("batch_packets", "Packets taken at once from the TUN, from the socket"),
    "super_packets": (
        "super_packet_packets",
        "Packets in a super-packet read from the TUN, written to it",
    ),
    "batch_ns": (
        "batch_duration_seconds",
        "From the first packet of a batch taken until all are sent, written: no packet of it "
        "takes longer",
    ),
}
"""Name in C without its direction → name and help."""
_CONTROL_GAUGES = {
    "peers_held": "Peers that a registry without its history forgot and that keep their routes",
    "leases_waiting": "Leases without a route because another lease has their subnet",
    "leases_refused": "Leases without a route for another reason",
}


class _Engine(Protocol):
    def counters(self) -> dict[str, int]: ...

    def kernel_drops(self) -> dict[str, int]: ...

    def histograms(self) -> Mapping[str, Histogram]: ...

    def worker_times(self) -> Sequence[WorkerTimes]: ...

    def sender_counters(self) -> dict[str, int]: ...

    def report_counters(self) -> dict[str, int]: ...

    def traffic(self) -> Mapping[str, PeerTraffic]: ...

    def features(self) -> dict[str, str]: ...

    def fallbacks(self) -> Sequence[Fallback]: ...

    def troubles(self) -> dict[str, str]: ...

    def repairs(self) -> dict[str, int]: ...

    def route_count(self) -> int: ...

    def alive(self) -> bool: ...

    def impairments(self) -> Sequence[ImpairmentState]: ...


class _Control(Protocol):
    def counters(self) -> dict[str, int]: ...

    def expires_in(self) -> float | None: ...

    def peer_count(self) -> int: ...


class _Registry(Protocol):
    def counters(self) -> dict[str, int]: ...

    def troubles(self) -> dict[str, str]: ...

    def watch_age(self) -> float | None: ...


class Metrics:
    """The metrics of one running daemon."""

    def __init__(
        self, *, registry_kind: str, registry: _Registry, control: _Control, engine: _Engine
    ) -> None:
        self._kind = registry_kind
        self._registry = registry
        self._control = control
        self._engine = engine
        self._started = time.time()

    def text(self) -> bytes:
        """One scrape."""
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - 2 MB that a host without Prometheus does not pay

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Family | HistogramMetricFamily]:
        """What prometheus_client asks a collector for."""
        yield from self._program()
        yield from self._packets()
        yield from self._work()
        yield from self._peers()
        yield from self._offloads()
        yield from self._registry_and_leases()

    # ------------------------------------------------------------------ the parts

    def _program(self) -> Iterator[Family]:
        yield _gauge("build_info", "Version of the daemon", {("version", VERSION): 1})
        yield _gauge("start_time_seconds", "When the daemon started, Unix time", self._started)
        yield _gauge("workers_alive", "Whether packets can flow", float(self._engine.alive()))
        yield _counter("log_lines_lost", "Log lines that standard error did not take", lines_lost())
        yield _gauge(
            "impairments",
            "Peers whose packets are made worse on purpose right now: `udpoverlay impair`",
            len(self._engine.impairments()),
        )
        troubles = {**self._engine.troubles(), **self._registry.troubles()}
        yield _gauge(
            "trouble",
            "What does not work right now, by part; `udpoverlay status` has the sentence",
            {("part", part): 1 for part in troubles},
            label="part",
        )
        for name, count in self._engine.repairs().items():
            yield _counter(f"network_{name}", f"{name.capitalize()} of the tunnel device", count)

    def _packets(self) -> Iterator[Family]:
        counters = self._engine.counters()
        packets = _family("counter", "packets", "Packets by verdict", ["direction", "verdict"])
        for name, direction, _, _ in fp.VERDICTS:
            verdict = name.removeprefix(f"{direction}_")
            packets.add_metric([direction, verdict], counters.get(name, 0))
        yield packets
        size = _family("counter", "bytes", "Bytes of inner packets sent, delivered", ["direction"])
        dropped = _family(
            "counter",
            "kernel_dropped_packets",
            "Packets that the kernel dropped in front of us: the TUN's queue, the socket's buffer",
            ["direction"],
        )
        drops = self._engine.kernel_drops()
        for direction in ("outbound", "inbound"):
            size.add_metric([direction], counters.get(f"{direction}_bytes", 0))
            dropped.add_metric([direction], drops.get(f"{direction}_kernel_dropped", 0))
        yield from (size, dropped)
        held_back = sum(each.waiting for each in self._engine.impairments())
        yield _gauge(
            "unaccounted_packets",
            "Packets taken that have no verdict: a defect of the daemon unless it is 0",
            {
                ("direction", direction): count
                for direction, count in unaccounted(counters, held_back).items()
            },
        )
        for name, _, _, text in fp.COUNTERS:
            if name not in _BYTES:
                yield _counter(name, text[0].upper() + text[1:], counters.get(name, 0))
        yield _labelled(
            "icmp_reports",
            "ICMP errors that came back for our datagrams",
            "kind",
            self._engine.report_counters(),
        )
        yield _labelled(
            "sender_verification",
            "What was done to find out from where peers send",
            "event",
            self._engine.sender_counters(),
        )

    def _work(self) -> Iterator[Family | HistogramMetricFamily]:
        seconds = _family(
            "counter", "worker_seconds", "What a worker spent its time on", ["worker", "state"]
        )
        for number, times in enumerate(self._engine.worker_times()):
            for state in ("working", "spinning", "asleep"):
                seconds.add_metric([str(number), state], getattr(times, state))
        yield seconds
        made: dict[str, HistogramMetricFamily] = {}
        measured = self._engine.histograms()
        for name, direction, _, _ in fp.HISTOGRAMS:
            if name not in measured:
                continue
            what = name.removeprefix(f"{direction}_")
            if what not in made:
                made[what] = _histogram(*_HISTOGRAMS[what])
            made[what].add_metric([direction], measured[name].bounds(), measured[name].total)
        yield from made.values()

    def _peers(self) -> Iterator[Family]:
        def size(peer: str) -> int:
            return traffic[peer].sent_bytes + traffic[peer].delivered_bytes

        traffic = self._engine.traffic()
        chosen = set(sorted(traffic, key=size, reverse=True)[:MOST_PEERS])
        shown = {peer: each for peer, each in traffic.items() if peer in chosen}
        for peer, more in traffic.items():
            if peer not in chosen:
                shown[OTHERS] = shown.get(OTHERS, PeerTraffic()) + more
        both = ["peer", "direction"]
        packets = _family("counter", "peer_packets", "Packets sent to, delivered from a peer", both)
        data = _family("counter", "peer_bytes", "Bytes of these inner packets", both)
        drops = _family(
            "counter", "peer_dropped_packets", "Packets to and from a peer that were dropped", both
        )
        heard = _family(
            "gauge",
            "peer_last_heard_timestamp_seconds",
            "When a datagram of the peer came last, Unix time; absent: never",
            ["peer"],
        )
        offset = time.time() - time.monotonic()
        for peer, each in shown.items():
            packets.add_metric([peer, "outbound"], each.sent_packets)
            packets.add_metric([peer, "inbound"], each.delivered_packets)
            data.add_metric([peer, "outbound"], each.sent_bytes)
            data.add_metric([peer, "inbound"], each.delivered_bytes)
            for direction in ("outbound", "inbound"):
                count = sum(n for name, n in each.drops.items() if name.startswith(direction))
                drops.add_metric([peer, direction], count)
            if each.heard_ns and peer != OTHERS:
                heard.add_metric([peer], each.heard_ns / 1e9 + offset)
        yield from (packets, data, drops, heard)

    def _offloads(self) -> Iterator[Family]:
        states = self._engine.features()
        on = {("offload", name): float(text.startswith("on")) for name, text in states.items()}
        yield _gauge("offload_enabled", "Whether an offload is in use", on, label="offload")
        away = dict.fromkeys(states, 0)
        for each in self._engine.fallbacks():
            if each.retry_seconds is not None and each.offload in away:
                away[each.offload] += 1
        yield _gauge(
            "offload_fallbacks",
            "Peers (or our own device) for which the kernel refuses an offload right now",
            {("offload", name): float(count) for name, count in away.items()},
            label="offload",
        )

    def _registry_and_leases(self) -> Iterator[Family]:
        control = self._control.counters()
        yield _gauge("peers", "Leases of other hosts that are known", self._control.peer_count())
        yield _gauge("routes", "Routes in the current table", self._engine.route_count())
        for name, text in _CONTROL_GAUGES.items():
            yield _gauge(name, text, control.get(name, 0))
        yield _labelled(
            "control_events",
            "What was made of the registry's events: publications, renewals",
            "event",
            {name: count for name, count in control.items() if name not in _CONTROL_GAUGES},
        )
        yield _labelled(
            "registry_events",
            f"Requests, failures, reconnects of {self._kind}",
            "event",
            self._registry.counters(),
        )
        for name, text, value in (
            ("lease_remaining_seconds", "Until our lease runs out", self._control.expires_in()),
            (
                "registry_watch_age_seconds",
                "Since the registry last said something on the watch of all leases",
                self._registry.watch_age(),
            ),
        ):
            if value is not None:
                yield _gauge(name, text, value)


# --- families ------------------------------------------------------------------------------------


def _family(kind: str, name: str, text: str, labels: Sequence[str]) -> Family:
    from prometheus_client import core  # noqa: PLC0415 - see Metrics.text

    make = core.CounterMetricFamily if kind == "counter" else core.GaugeMetricFamily
    return make(f"udpoverlay_{name}", text, labels=labels)


def _histogram(name: str, text: str) -> HistogramMetricFamily:
    from prometheus_client import core  # noqa: PLC0415 - see Metrics.text

    return core.HistogramMetricFamily(f"udpoverlay_{name}", text, labels=["direction"])


def _counter(name: str, text: str, value: float) -> Family:
    family = _family("counter", name, text, [])
    family.add_metric([], value)
    return family


def _gauge(
    name: str, text: str, value: float | Mapping[tuple[str, str], float], label: str = ""
) -> Family:
    """One value, or one for each (label, its value)."""
    if not isinstance(value, Mapping):
        family = _family("gauge", name, text, [])
        family.add_metric([], value)
        return family
    family = _family("gauge", name, text, [label or next(iter(value))[0]])
    for (_, of), number in value.items():
        family.add_metric([of], number)
    return family


def _labelled(name: str, text: str, label: str, counts: Mapping[str, int]) -> Family:
    family = _family("counter", name, text, [label])
    for of, count in counts.items():
        family.add_metric([of], count)
    return family
