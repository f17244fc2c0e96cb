"""Assembles the admin socket's documents from the parts that know.

Owns: which part answers for which key of the schema. Must not know: more of them than
these protocols.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from udpoverlay._version import VERSION
from udpoverlay.errors import OperatorError
from udpoverlay.log import lines_lost
from udpoverlay.model.fallback import Fallback
from udpoverlay.model.impairment import Impairment, ImpairmentState
from udpoverlay.model.lease import Lease
from udpoverlay.model.refusal import Refusal
from udpoverlay.model.report import PathReport
from udpoverlay.model.sender import RefusedSender
from udpoverlay.model.traffic import PeerTraffic, WorkerTimes
from udpoverlay.observe.accounts import unaccounted
from udpoverlay.observe.status import (
    DataplaneFacts,
    FallbackFacts,
    LeaseFacts,
    NetworkFacts,
    NodeFacts,
    PeerFacts,
    RegistryFacts,
    ReportFacts,
    RouteFacts,
    Status,
    TrafficFacts,
    WorkerFacts,
    counters_document,
    impairments_document,
    peers_document,
    routes_document,
    status_document,
)

__all__ = ["Documents"]


class _Counts(Protocol):
    def counters(self) -> dict[str, int]: ...


class _Registry(_Counts, Protocol):
    def troubles(self) -> dict[str, str]: ...

    def watch_age(self) -> float | None: ...


class _Engine(_Counts, Protocol):
    def features(self) -> dict[str, str]: ...

    def fallbacks(self) -> Sequence[Fallback]: ...

    def route_count(self) -> int: ...

    def kernel_drops(self) -> dict[str, int]: ...

    def sender_counters(self) -> dict[str, int]: ...

    def report_counters(self) -> dict[str, int]: ...

    def traffic(self) -> Mapping[str, PeerTraffic]: ...

    def heard(self, seconds: float | None) -> int: ...

    def path_reports(self) -> Sequence[PathReport]: ...

    def refused_senders(self) -> Sequence[RefusedSender]: ...

    def proved_senders(self) -> Mapping[str, Sequence[str]]: ...

    def alive(self) -> bool: ...

    def troubles(self) -> dict[str, str]: ...

    def repairs(self) -> dict[str, int]: ...

    def worker_times(self) -> Sequence[WorkerTimes]: ...

    def impairments(self) -> Sequence[ImpairmentState]: ...

    def impair(self, wanted: Impairment) -> None: ...

    def end_impairment(self, peer: str) -> bool: ...


class _Facts(Protocol):
    def facts(self) -> dict[str, object]: ...


class _Control(_Counts, Protocol):
    @property
    def lease(self) -> Lease: ...

    def expires_in(self) -> float | None: ...

    def peers(self) -> Iterable[tuple[Lease, Refusal | None]]: ...

    def peer_count(self) -> int: ...


class Documents:
    """The documents of one running daemon."""

    def __init__(  # noqa: PLR0913 - the parts of a daemon
        self,
        node: Callable[[], NodeFacts],
        *,
        registry_kind: str,
        registry: _Registry,
        control: _Control,
        engine: _Engine,
        firewall: _Facts,
        privileges: _Facts,
        since: float | None = None,
    ) -> None:
        """`since`: when counting began, on the monotonic clock; None: now."""
        self._node = node
        self._registry_kind = registry_kind
        self._registry = registry
        self._control = control
        self._engine = engine
        self._firewall = firewall
        self._privileges = privileges
        self._since = time.monotonic() if since is None else since

    def by_path(self) -> dict[str, Callable[[], dict[str, object]]]:
        """Each document under the path that it is asked for by."""
        return {
            "/v1/status": self.status,
            "/v1/peers": self.peers,
            "/v1/routes": self.routes,
            "/v1/counters": self.counters,
            "/v1/impair": self.impairments,
        }

    def actions(self) -> dict[str, Callable[[object], dict[str, object]]]:
        """What can be asked for, under its path: from a JSON value to what is so then."""
        return {"/v1/impair": self.impair, "/v1/impair/off": self.end_impairment}

    def status(self) -> dict[str, object]:
        """`GET /v1/status`."""
        control, engine = self._control, self._engine
        impairments, packets = engine.impairments(), self._packets()
        return status_document(
            Status(
                version=VERSION,
                pid=os.getpid(),
                uptime_seconds=round(time.monotonic() - self._since, 3),
                node=self._node(),
                network=NetworkFacts(engine.troubles(), **engine.repairs()),
                lease=LeaseFacts(str(control.lease.subnet), control.expires_in()),
                registry=RegistryFacts(
                    self._registry_kind,
                    self._registry.counters(),
                    self._registry.troubles(),
                    _rounded(self._registry.watch_age()),
                ),
                control=control.counters(),
                dataplane=DataplaneFacts(
                    engine.features(),
                    engine.route_count(),
                    packets,
                    engine.sender_counters(),
                    self._fallbacks().get("", ()),
                    engine.report_counters(),
                    tuple(each.as_json() for each in impairments),
                    unaccounted(packets, sum(each.waiting for each in impairments)),
                    tuple(WorkerFacts.of(times) for times in engine.worker_times()),
                ),
                peers=control.peer_count(),
                firewall=self._firewall.facts(),
                log_lines_lost=lines_lost(),
                privileges=self._privileges.facts(),
            )
        )

    def _packets(self) -> dict[str, int]:
        """Ours, and those that the kernel dropped before we saw them."""
        return {**self._engine.counters(), **self._engine.kernel_drops()}

    def peers(self) -> dict[str, object]:
        """`GET /v1/peers`."""
        fallbacks, mtu = self._fallbacks(), self._node().mtu
        proved = self._engine.proved_senders()
        reports = self._reports()
        traffic = self._traffic()
        impaired = {
            each.impairment.peer: each.impairment.what() for each in self._engine.impairments()
        }
        return peers_document(
            (
                PeerFacts(
                    str(lease.subnet),
                    str(lease.attrs.public_ip),
                    "" if refusal is None else refusal.value,
                    fallbacks.get(str(lease.attrs.public_ip), ()),
                    tuple(proved.get(str(lease.attrs.public_ip), ())),
                    reports.get(str(lease.attrs.public_ip), ()),
                    traffic.get(str(lease.attrs.public_ip), TrafficFacts()),
                    impaired.get(str(lease.attrs.public_ip), ""),
                    mtu if refusal is None else 0,
                )
                for lease, refusal in self._control.peers()
            ),
            self._engine.refused_senders(),
        )

    def routes(self) -> dict[str, object]:
        """`GET /v1/routes`."""
        node = self._node()
        return routes_document(
            node.network,
            (
                RouteFacts(str(lease.subnet), f"{lease.attrs.public_ip}:{node.port}", node.tun)
                for lease, refusal in self._control.peers()
                if refusal is None
            ),
        )

    def impairments(self) -> dict[str, object]:
        """`GET /v1/impair`."""
        return impairments_document(self._engine.impairments())

    def impair(self, request: object) -> dict[str, object]:
        """`POST /v1/impair`. Raises OperatorError."""
        wanted = Impairment.from_json(request)
        routed = {
            str(lease.attrs.public_ip)
            for lease, refusal in self._control.peers()
            if refusal is None
        }
        if wanted.peer not in routed:
            raise OperatorError(
                f"no route leads to a peer {wanted.peer}", fix="udpoverlay peers lists them"
            )
        self._engine.impair(wanted)
        return self.impairments()

    def end_impairment(self, request: object) -> dict[str, object]:
        """`POST /v1/impair/off`. Raises OperatorError."""
        peer = request.get("peer") if isinstance(request, dict) and len(request) == 1 else None
        if not isinstance(peer, str):
            raise OperatorError('what is to end is {"peer": its public IP}')
        if not self._engine.end_impairment(peer):
            raise OperatorError(
                f"packets to {peer[:60]} are not impaired", fix="udpoverlay impair list"
            )
        return self.impairments()

    def _fallbacks(self) -> dict[str, tuple[FallbackFacts, ...]]:
        """By peer; "" has those of our own device."""
        found: dict[str, tuple[FallbackFacts, ...]] = {}
        for each in self._engine.fallbacks():
            facts = FallbackFacts(
                each.offload,
                each.cause,
                each.count,
                _rounded(each.retry_seconds),
                _rounded(each.past_mtu_seconds),
            )
            found[each.peer] = (*found.get(each.peer, ()), facts)
        return found

    def _reports(self) -> dict[str, tuple[ReportFacts, ...]]:
        """By peer, the latest first."""
        found: dict[str, tuple[ReportFacts, ...]] = {}
        for each in self._engine.path_reports():
            facts = ReportFacts(each.kind, each.count, each.reporter, each.seconds_ago)
            found[each.peer] = (*found.get(each.peer, ()), facts)
        return found

    def _traffic(self) -> dict[str, TrafficFacts]:
        """By peer."""
        now = time.monotonic_ns()
        return {
            peer: TrafficFacts(
                each.sent_packets,
                each.sent_bytes,
                each.delivered_packets,
                each.delivered_bytes,
                each.drops,
                # The workers' clock is that of the last tick.
                _rounded(max(0, now - each.heard_ns) / 1e9) if each.heard_ns else None,
            )
            for peer, each in self._engine.traffic().items()
        }

    def health(self) -> dict[str, object]:
        """`/statusz`: what a person who watches over many hosts wants to see of each."""
        control, engine = self._control, self._engine
        return {
            "version": VERSION,
            "uptime_seconds": round(time.monotonic() - self._since, 3),
            "subnet": str(control.lease.subnet),
            "lease_expires_in_seconds": control.expires_in(),
            "peers": control.peer_count(),
            "peers_heard": {"last_minute": engine.heard(60), "since_start": engine.heard(None)},
            "routes": engine.route_count(),
            "workers_alive": engine.alive(),
            "network": {"troubles": engine.troubles(), **engine.repairs()},
            "firewall": self._firewall.facts(),
            "registry": {
                "kind": self._registry_kind,
                "watch_age_seconds": _rounded(self._registry.watch_age()),
                "troubles": self._registry.troubles(),
            },
        }

    def counters(self) -> dict[str, object]:
        """`GET /v1/counters`."""
        return counters_document(
            dataplane=self._packets(),
            senders=self._engine.sender_counters(),
            reports=self._engine.report_counters(),
            control=self._control.counters(),
            registry=self._registry.counters(),
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
