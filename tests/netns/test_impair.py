"""`udpoverlay impair` between two real daemons: what it does, and that all is as before."""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, Node, wait_until
from tests.support.twin.impair import LOSS, chosen
from tests.support.wire import ping, transfer
from udpoverlay import _fastpath as fp

pytestmark = [pytest.mark.root, pytest.mark.etcd]

PACKETS = 250
"""As many as a socket's buffer takes, should they all come at once (277)."""
PORT = 7000


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Node, Node]]:
    with Cluster("n1", "n2") as cluster:
        nodes = cluster.start("n1", "--allow-impair"), cluster.start("n2")
        cluster.wait_for_peers(*nodes)
        yield nodes


@pytest.fixture
def n1(nodes: tuple[Node, Node]) -> Iterator[Node]:
    node, peer = nodes
    yield node
    impair(node, peer.public_ip, "off")


@pytest.fixture
def n2(nodes: tuple[Node, Node]) -> Node:
    return nodes[1]


def impair(node: Node, *words: str) -> tuple[int, str]:
    return node.host.run([sys.executable, "-m", "udpoverlay.cli", "impair", *words])


def flow(n1: Node, n2: Node, packets: int = PACKETS) -> list[int]:
    """Numbered datagrams from n1 to n2: which arrived within a moment, as they came."""
    found = []
    with (
        n1.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
        n2.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
    ):
        source.bind((n1.address, 0))
        sink.bind((n2.address, PORT))
        for number in range(packets):
            source.sendto(number.to_bytes(4, "big"), (n2.address, PORT))
            while select.select([sink], [], [], 0.3 if number == packets - 1 else 0)[0]:
                found.append(int.from_bytes(sink.recv(100), "big"))
    return found


def checksum_errors(node: Node) -> int:
    code, text = node.host.run(["cat", "/proc/net/snmp"])
    assert code == 0
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    return int(values[names.index("InCsumErrors")])


def unaccounted(n1: Node, n2: Node) -> int:
    one, two = n1.counters(), n2.counters()
    came = sum(two[name] for name, of, *_ in fp.VERDICTS if of == "inbound")
    return one["outbound_sent"] - two["inbound_kernel_dropped"] - came


def test_loss_is_the_seeds_and_in_the_end_full_speed_is_back(n1: Node, n2: Node) -> None:
    before = n1.counters()
    code, text = impair(n1, n2.address, "loss", "10%", "--seed=7")
    assert code == 0, text
    assert "loss 10 %" in text
    came = flow(n1, n2)
    lost = chosen(7, LOSS, 100_000, PACKETS)
    assert came == [number for number in range(PACKETS) if not lost[number]]
    after = n1.counters()
    assert after["outbound_impaired"] - before["outbound_impaired"] == sum(lost)
    assert after["outbound_sent"] - before["outbound_sent"] == len(came)
    wait_until(lambda: unaccounted(n1, n2) == 0, "each packet has its reason")
    [peer] = n1.ask("/v1/peers")["peers"]
    assert peer["impaired"] == "loss 10 %"
    assert peer["traffic"]["drops"]["outbound_impaired"] == after["outbound_impaired"]
    code, text = n1.host.run([sys.executable, "-m", "udpoverlay.cli", "status"])
    assert code == 3
    assert "made worse on purpose: loss 10 %" in " ".join(text.split())

    assert impair(n1, n2.public_ip, "loss", "100%", "--for=500ms")[0] == 0
    wait_until(
        lambda: bool(n1.lines("impairment ended", "why=replaced", f"lost={sum(lost)} ")),
        "the log says what the first one did",
    )
    wait_until(lambda: n1.status()["dataplane"]["impairments"] == [], "its time is over")
    assert flow(n1, n2) == list(range(PACKETS))
    began = time.monotonic()
    went, arrived = transfer(n1.end, n2.end, 100_000_000)  # and full speed is back
    assert went == arrived
    assert time.monotonic() - began < 10, "80 Mbit/s is far below what any machine carries"
    wait_until(lambda: unaccounted(n1, n2) == 0, "each packet has its reason")
    wait_until(
        lambda: bool(n1.lines("impairment ended", "its time is over")),
        "the log says that it is over",
    )
    assert n1.lines("impairment starts", "loss 10 %")


def test_delay_is_what_was_asked_for_until_it_is_ended(n1: Node, n2: Node) -> None:
    def seconds() -> float:
        began = time.monotonic()
        assert ping(n1.host, n1.address, n2.address) is not None
        return time.monotonic() - began

    seconds()
    assert impair(n1, n2.public_ip, "delay", "60ms")[0] == 0
    assert min(seconds() for _ in range(5)) >= 0.06
    assert impair(n1, n2.public_ip, "off")[0] == 0
    wait_until(lambda: seconds() < 0.06, "as before")


def test_corrupted_packets_are_found_by_the_receivers_kernel(n1: Node, n2: Node) -> None:
    before = checksum_errors(n2)
    assert impair(n1, n2.public_ip, "corrupt", "100%", "duplicate", "100%", "--seed=7")[0] == 0
    # Those with a wrong port are for another socket, and as wrong there.
    assert flow(n1, n2, 100) == []
    [state] = json.loads(impair(n1, "list", "--json")[1])["impairments"]
    assert (state["packets"], state["corrupted"], state["duplicated"]) == (100, 100, 100)
    assert checksum_errors(n2) - before > 100
    wait_until(lambda: unaccounted(n1, n2) == 0, "each packet has its reason")


def test_duplicates_arrive_and_are_counted(n1: Node, n2: Node) -> None:
    before = n1.counters()["outbound_duplicates"]
    assert impair(n1, n2.public_ip, "duplicate", "100%")[0] == 0
    assert flow(n1, n2, 50) == [number for number in range(50) for _ in range(2)]
    assert n1.counters()["outbound_duplicates"] - before == 50


def test_tcp_gets_through_all_of_it_at_once(n1: Node, n2: Node) -> None:
    words = "loss 0.5% duplicate 1% corrupt 0.5% reorder 1% by 2ms delay 2ms jitter 1ms rate 1gbit"
    assert impair(n1, n2.public_ip, *words.split(), "--seed=7")[0] == 0
    went, arrived = transfer(n1.end, n2.end, 1_000_000)
    assert went == arrived
    [state] = json.loads(impair(n1, "list", "--json")[1])["impairments"]
    assert state["packets"] > 500
    assert state["overflowed"] == 0
    assert state["duplicated"] > 0


def test_a_daemon_that_was_not_told_to_allow_it_refuses(n1: Node, n2: Node) -> None:
    code, text = impair(n2, n1.public_ip, "loss", "5%")
    assert code == 1
    assert "start it with --allow-impair" in text
    assert n2.status()["dataplane"]["impairments"] == []


def test_an_unknown_peer_is_answered_with_those_there_are(n1: Node, n2: Node) -> None:
    code, text = impair(n1, "203.0.113.9", "loss", "5%")
    assert code == 1
    assert f"the peers are {n2.public_ip} ({n2.subnet})" in text


def test_a_tunnel_that_is_rebuilt_has_none_any_more_and_the_log_says_so(n1: Node, n2: Node) -> None:
    assert impair(n1, n2.public_ip, "loss", "100%")[0] == 0
    code, text = n1.host.run(["ip", "link", "del", n1.status()["node"]["tun"]])
    assert code == 0, text
    wait_until(
        lambda: bool(n1.lines("impairment ended", "the tunnel stopped")), "the tunnel is rebuilt"
    )
    wait_until(lambda: n1.status()["network"]["rebuilds"] == 1, "packets can flow again")
    assert n1.status()["dataplane"]["impairments"] == []
    assert ping(n1.host, n1.address, n2.address) is not None
