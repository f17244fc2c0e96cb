"""observe/metrics.py: what Prometheus reads, parsed as Prometheus parses it."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from udpoverlay import _fastpath as fp
from udpoverlay._version import VERSION
from udpoverlay.model.fallback import Fallback
from udpoverlay.model.histogram import Histogram
from udpoverlay.model.traffic import PeerTraffic, WorkerTimes
from udpoverlay.observe.metrics import MOST_PEERS, Metrics

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
HEARD = time.monotonic_ns()
TRAFFIC = {
    "192.0.2.1": PeerTraffic(
        3, 300, 2, 200, {"outbound_queue_full": 5, "inbound_too_short": 7}, HEARD
    ),
    "192.0.2.2": PeerTraffic(),
}


def engine(**changes: Any) -> SimpleNamespace:
    facts: dict[str, Any] = {
        "counters": {
            "outbound_sent": 3,
            "outbound_taken": 9,
            "inbound_too_short": 9,
            "inbound_bytes": 200,
            "sleeps": 4,
        },
        "kernel_drops": {"outbound_kernel_dropped": 6, "inbound_kernel_dropped": 0},
        "sender_counters": {"probes_sent": 2},
        "report_counters": {"port_unreachable": 1},
        "traffic": TRAFFIC,
        "features": {"uso": "on", "mmsg": "off (switch)", "udp-segment": "on, fallen back: MTU"},
        "fallbacks": [
            Fallback("udp-segment", "192.0.2.1", "MTU", 2, 4.0, None),
            Fallback("udp-segment", "192.0.2.2", "MTU", 2, None, None),
        ],
        "troubles": {"underlay": 'interface "eth0" is\ndown'},
        "repairs": {"repairs": 1, "rebuilds": 2},
        "route_count": 2,
        "alive": True,
        "impairments": [SimpleNamespace(waiting=4)],
        "histograms": {
            "outbound_batch_packets": Histogram((3, 1, 0, 2), 17.0),
            "inbound_super_packets": Histogram((0, 0, 1), 4.0),
            "inbound_batch_ns": Histogram((0, 5, 1), 0.000021, 1e-6),
        },
        "worker_times": [WorkerTimes(10.0, 6.0, 1.5), WorkerTimes(0.0, 0.0, 0.0)],
        **changes,
    }
    return SimpleNamespace(**{name: (lambda value=value: value) for name, value in facts.items()})


def metrics(made: SimpleNamespace | None = None, **registry: Any) -> Metrics:
    control = SimpleNamespace(
        counters=lambda: {"events": 8, "peers_held": 1, "leases_waiting": 0, "leases_refused": 2},
        expires_in=lambda: registry.get("expires_in", 3600.0),
        peer_count=lambda: 5,
    )
    store = SimpleNamespace(
        counters=lambda: {"requests": 11},
        troubles=lambda: {"etcd-leases": "refused"},
        watch_age=lambda: registry.get("watch_age", 1.5),
    )
    parts: Any = {"registry": store, "control": control, "engine": made or engine()}
    return Metrics(registry_kind="etcd", **parts)


def samples(made: Metrics) -> dict[tuple[str, ...], float]:
    """By name and label values in the order of their names; help and type are there for each."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(made.text().decode()):
        assert family.documentation
        assert family.type in {"counter", "gauge", "histogram"}
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def test_each_fact_has_its_sample() -> None:
    found = samples(metrics())
    expected = {
        ("udpoverlay_impairments",): 1,
        ("udpoverlay_build_info", VERSION): 1,
        ("udpoverlay_workers_alive",): 1,
        ("udpoverlay_packets_total", "outbound", "sent"): 3,
        ("udpoverlay_packets_total", "inbound", "too_short"): 9,
        ("udpoverlay_packets_total", "inbound", "delivered"): 0,
        ("udpoverlay_bytes_total", "inbound"): 200,
        ("udpoverlay_kernel_dropped_packets_total", "outbound"): 6,
        ("udpoverlay_sleeps_total",): 4,
        ("udpoverlay_unaccounted_packets", "outbound"): 9 - 3 - 4,
        ("udpoverlay_unaccounted_packets", "inbound"): 0,
        ("udpoverlay_worker_seconds_total", "working", "0"): 2.5,
        ("udpoverlay_worker_seconds_total", "spinning", "0"): 1.5,
        ("udpoverlay_worker_seconds_total", "asleep", "0"): 6.0,
        ("udpoverlay_worker_seconds_total", "working", "1"): 0.0,
        ("udpoverlay_batch_packets_bucket", "outbound", "1"): 3,
        ("udpoverlay_batch_packets_bucket", "outbound", "2"): 4,
        ("udpoverlay_batch_packets_bucket", "outbound", "+Inf"): 6,
        ("udpoverlay_batch_packets_sum", "outbound"): 17,
        ("udpoverlay_batch_packets_count", "outbound"): 6,
        ("udpoverlay_batch_duration_seconds_bucket", "inbound", "1e-06"): 0,
        ("udpoverlay_batch_duration_seconds_bucket", "inbound", "2e-06"): 5,
        ("udpoverlay_batch_duration_seconds_sum", "inbound"): 0.000021,
        ("udpoverlay_icmp_reports_total", "port_unreachable"): 1,
        ("udpoverlay_sender_verification_total", "probes_sent"): 2,
        ("udpoverlay_peer_packets_total", "outbound", "192.0.2.1"): 3,
        ("udpoverlay_peer_packets_total", "inbound", "192.0.2.1"): 2,
        ("udpoverlay_peer_bytes_total", "outbound", "192.0.2.1"): 300,
        ("udpoverlay_peer_dropped_packets_total", "outbound", "192.0.2.1"): 5,
        ("udpoverlay_peer_dropped_packets_total", "inbound", "192.0.2.1"): 7,
        ("udpoverlay_offload_enabled", "uso"): 1,
        ("udpoverlay_offload_enabled", "mmsg"): 0,
        ("udpoverlay_offload_fallbacks", "udp-segment"): 1,
        ("udpoverlay_trouble", "underlay"): 1,
        ("udpoverlay_trouble", "etcd-leases"): 1,
        ("udpoverlay_network_rebuilds_total",): 2,
        ("udpoverlay_peers",): 5,
        ("udpoverlay_routes",): 2,
        ("udpoverlay_peers_held",): 1,
        ("udpoverlay_leases_refused",): 2,
        ("udpoverlay_control_events_total", "events"): 8,
        ("udpoverlay_registry_events_total", "requests"): 11,
        ("udpoverlay_lease_remaining_seconds",): 3600,
        ("udpoverlay_registry_watch_age_seconds",): 1.5,
    }
    assert {key: found.get(key) for key in expected} == expected
    heard = found["udpoverlay_peer_last_heard_timestamp_seconds", "192.0.2.1"]
    assert heard == pytest.approx(time.time() - (time.monotonic_ns() - HEARD) / 1e9, abs=5)
    assert ("udpoverlay_peer_last_heard_timestamp_seconds", "192.0.2.2") not in found
    assert ("udpoverlay_offload_fallbacks", "uso") in found


def test_every_verdict_and_counter_of_the_data_path_is_there() -> None:
    found = samples(metrics())
    for name, direction, *_ in fp.VERDICTS:
        verdict = name.removeprefix(f"{direction}_")
        assert ("udpoverlay_packets_total", direction, verdict) in found
    names = {name for name, *_ in fp.COUNTERS} - {"outbound_bytes", "inbound_bytes"}
    assert {(f"udpoverlay_{name}_total",) for name in names} <= found.keys()


def test_what_is_not_known_has_no_sample() -> None:
    found = samples(metrics(expires_in=None, watch_age=None))
    assert ("udpoverlay_lease_remaining_seconds",) not in found
    assert ("udpoverlay_registry_watch_age_seconds",) not in found


def test_peers_beyond_the_most_are_added_up() -> None:
    traffic = {f"peer{number}": PeerTraffic(1, number, 2, 0) for number in range(MOST_PEERS + 10)}
    found = samples(metrics(engine(traffic=traffic)))
    series = [key for key in found if key[:2] == ("udpoverlay_peer_bytes_total", "outbound")]
    assert len(series) == MOST_PEERS + 1
    assert found["udpoverlay_peer_bytes_total", "outbound", "other"] == sum(range(10))
    assert found["udpoverlay_peer_packets_total", "outbound", "other"] == 10
    assert found["udpoverlay_peer_packets_total", "inbound", "other"] == 20


def test_names_are_prometheus_names_and_documented() -> None:
    text = DOCS.read_text()
    documented = set(re.findall(r"`(udpoverlay_\w+)", text))
    for family in text_string_to_metric_families(metrics().text().decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert re.fullmatch(r"udpoverlay_[a-z][a-z0-9_]*", name)
        of_data_path = name.removeprefix("udpoverlay_").removesuffix("_total")
        assert name in documented or of_data_path in {counter for counter, *_ in fp.COUNTERS}, name
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(metrics().text().decode())
    }
    assert documented <= names | {"udpoverlay_"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on PATH")
def test_promtool_finds_nothing_in_the_metrics() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=metrics().text(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
