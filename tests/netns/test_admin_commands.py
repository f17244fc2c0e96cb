"""`udpoverlay status`, `peers` and `routes` beside real daemons, while things break."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.captures import pcap
from tests.support.cluster import Cluster, Node, wait_until
from tests.support.wire import captured, ping, transfer

pytestmark = [pytest.mark.root, pytest.mark.etcd]

FLOW = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((sys.argv[1], 0))
    while True:
        try:
            sock.sendto(bytes(972), (sys.argv[2], 9))
        except OSError:
            pass  # an ICMP error came back
        time.sleep(0.02)
"""
"""Inner packets of 1,000 bytes."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("n1", "n2") as cluster:
        yield cluster


def ask(node: Node, *words: str) -> tuple[int, str]:
    return node.host.run([sys.executable, "-m", "udpoverlay.cli", *words])


def document(node: Node, *words: str) -> dict[str, Any]:
    _, text = ask(node, *words, "--json")
    found: dict[str, Any] = json.loads(text)
    return found


def test_commands_follow_what_happens(cluster: Cluster) -> None:
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)

    code, shown = ask(n1, "status")
    assert code == 0, shown
    assert n1.subnet in shown
    assert "nothing is wrong" in shown
    [peer] = document(n1, "peers", "--no-rtt")["peers"]
    assert peer["subnet"] == n2.subnet
    [route] = document(n1, "routes", n2.address)["routes"]
    assert route["destination"] == n2.subnet
    assert route["device"] == n1.status()["node"]["tun"]

    traffic = peer["traffic"]
    assert traffic["heard_seconds_ago"] is None
    assert "never" in ask(n1, "peers", "--no-rtt")[1]
    for _ in range(3):
        assert ping(n1.host, n1.address, n2.address, size=1000) is not None
    [peer] = document(n1, "peers", "--no-rtt")["peers"]
    traffic = peer["traffic"]
    assert traffic["sent_packets"] >= traffic["delivered_packets"] >= 3
    for way in ("sent", "delivered"):
        assert traffic[f"{way}_bytes"] == 1028 * traffic[f"{way}_packets"]
    assert traffic["heard_seconds_ago"] < 10
    assert traffic["drops"] == {}
    shown = ask(n1, "peers")[1]
    assert re.search(r"\d\.\d+ kB +\d\.\d+ kB", shown)
    assert "0 s ago" in shown

    cluster.etcd.put("/coreos.com/network/subnets/10.5.0.0-17", '{"PublicIP": "198.18.0.77"}')
    wait_until(lambda: ask(n1, "status")[0] == 3, "status sees the lease that is refused")
    assert "no route: too wide" in " ".join(ask(n1, "peers")[1].split())
    cluster.etcd.delete("/coreos.com/network/subnets/10.5.0.0-17")
    wait_until(lambda: ask(n1, "status")[0] == 0, "all is well again")


def test_top_shows_a_flow_and_a_drop_while_they_last() -> None:
    with Cluster("n1", "n2") as cluster:
        n1, n2 = cluster.start("n1"), cluster.start("n2")
        cluster.wait_for_peers(n1, n2)
        flows = [
            node.host.popen([sys.executable, "-c", FLOW, node.address, to], log=f"{to}.log")
            for node, to in ((n1, n2.address), (n2, n1.address), (n1, "10.5.254.1"))
        ]
        try:

            def shows_both() -> bool:
                _, text = ask(n1, "top", "--json", "--interval=0.5", "--samples=1")
                now: dict[str, Any] = json.loads(text)
                [peer] = now["peers"]
                rate = peer["sent_packets_per_second"]
                dropped = {drop["reason"]: drop["per_second"] for drop in now["drops"]}
                return bool(
                    rate > 10
                    and peer["sent_bits_per_second"] > 80_000
                    and peer["delivered_packets_per_second"] > 10
                    and dropped.get("outbound_no_route", 0) > 10
                )

            wait_until(shows_both, "top shows what flows both ways, and what has no route")
        finally:
            for process in flows:
                process.stop()
        wait_until(
            lambda: document(n1, "top", "--samples=1")["outbound"]["packets_per_second"] == 0,
            "nothing flows any more",
        )


def fetch(node: Node, page: str) -> str:
    script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    code, text = node.host.run([sys.executable, "-c", script, f"http://127.0.0.1:8081/{page}"])
    assert code == 0, text
    return text


def statusz(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fetch(node, "statusz"))
    return found


def metrics(node: Node) -> dict[tuple[str, str], float]:
    """By name and labels."""
    return {
        (sample.name, ",".join(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(fetch(node, "metrics"))
        for sample in family.samples
    }


def test_statusz_tells_how_old_the_watch_is_and_who_was_heard() -> None:
    with Cluster("n1", "n2") as cluster:
        n1 = cluster.start("n1", "--healthz-ip=127.0.0.1", "--healthz-port=8081")
        n2 = cluster.start("n2")
        cluster.wait_for_peers(n1, n2)
        found = statusz(n1)
        assert found["ready"]
        assert found["peers_heard"] == {"last_minute": 0, "since_start": 0}
        assert found["registry"]["watch_age_seconds"] < 30
        assert ping(n2.host, n2.address, n1.address) is not None
        assert statusz(n1)["peers_heard"] == {"last_minute": 1, "since_start": 1}
        counters, scraped = n1.counters(), metrics(n1)
        assert (
            scraped["udpoverlay_packets_total", "inbound,delivered"]
            == (counters["inbound_delivered"])
        )
        assert scraped["udpoverlay_peer_packets_total", f"inbound,{n2.public_ip}"] > 0
        assert scraped["udpoverlay_routes", ""] == 1

        cluster.etcd.process.signal(signal.SIGSTOP)
        try:
            wait_until(
                lambda: statusz(n1)["registry"]["watch_age_seconds"] > 2,
                "the age grows while etcd says nothing",
            )
        finally:
            cluster.etcd.process.signal(signal.SIGCONT)
        cluster.etcd.put("/coreos.com/network/subnets/10.5.250.0-24", '{"PublicIP": "198.18.0.77"}')
        wait_until(lambda: statusz(n1)["registry"]["watch_age_seconds"] < 1, "etcd was heard again")
        assert statusz(n1)["peers"] == 2


def test_decode_finds_nothing_wrong_with_our_own_datagrams(tmp_path: Path) -> None:
    capture = tmp_path / "t.pcap"
    with Cluster("n1", "n2") as cluster:
        n1, n2 = cluster.start("n1"), cluster.start("n2")
        cluster.wait_for_peers(n1, n2)
        with captured(n2.host) as frames:
            for size in (10, 1400):
                assert ping(n1.host, n1.address, n2.address, size=size) is not None
            sent, received = transfer(n1.end, n2.end, 1 << 20)
            assert sent == received
            wait_until(lambda: len(frames) > 20, "the capture has it")
        capture.write_bytes(pcap(*frames))

        code, text = ask(n2, "decode", "--registry", "--json", str(capture))
        packets = [json.loads(line) for line in text.splitlines()]
        assert {packet["tunnel"] for packet in packets} == {"udp"}
        inner = [each for packet in packets for each in packet["inner"]]
        assert {each["source"] for each in inner} == {n1.address}
        assert {each["transport"] for each in inner} == {"TCP", "ICMP"}
        wrong = {
            f"{each['where']} {each['word']}" for packet in packets for each in packet["problems"]
        }
        assert wrong <= {"outer offload_checksum"}  # veth: there is no card to finish it
        assert code == (3 if wrong else 0)

        _, text = ask(n2, "decode", f"--lease={n1.subnet}=203.0.113.9", str(capture))
        assert "leased by 203.0.113.9" in " ".join(text.split())
