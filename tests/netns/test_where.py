"""`udpoverlay where` beside real daemons: one thing is broken at a time, and named from both ends.

Each test ends on a way that is whole again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.cluster import PREFIX, Cluster, Node, wait_until
from tests.support.stranger import inner
from tests.support.stranger import send as stranger_send
from udpoverlay.cli.admin import where
from udpoverlay.cli.admin.ends import Asked
from udpoverlay.lab.actions import links

pytestmark = [
    pytest.mark.root,
    pytest.mark.etcd,
    pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on PATH"),
]

LAB = ("n1", "n2", "--lab")
FOREIGN = "10.5.253.9"
WHOLE = "delivered at n2: tun-out, and answers at n1"
DATAGRAM = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 0))
sock.sendto(bytes(10), (sys.argv[2], 7001))
"""


class Flow:
    """Of two hosts, and `where` that reaches both."""

    def __init__(
        self,
        cluster: Cluster,
        n1: Node,
        n2: Node,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.cluster, self.n1, self.n2, self._capsys = cluster, n1, n2, capsys

        def run(end: Asked, words: tuple[str, ...]) -> tuple[int, str, str]:
            """The same command, run by the host's agent in place of the lab's keeper."""
            node = n1 if "n1" in end.what else n2
            argv = [sys.executable, "-m", "udpoverlay.cli", *words, "--json"]
            code, text = node.host.run(argv)
            return code, text, text

        monkeypatch.setattr(Asked, "_run", run)

    def where(self, *words: str, ends: Sequence[str] = LAB) -> tuple[int, dict[str, Any]]:
        """The exit status, and what it says of packets from n1 to n2."""
        parser = argparse.ArgumentParser()
        where.configure(parser)
        args = parser.parse_intermixed_args([*ends, "--json", *words])
        self._capsys.readouterr()
        code = where.run(args)
        found: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return code, found

    def wait_for(self, answer: str, *words: str, ends: Sequence[str] = LAB) -> dict[str, Any]:
        """It comes to say this, with the status of a flow that stops."""
        last: list[dict[str, Any]] = []

        def says() -> bool:
            code, found = self.where(*words, ends=ends)
            last[:] = [found]
            return answer in found["answer"] and code == (0 if answer == WHOLE else 3)

        try:
            wait_until(says, answer)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {last}") from None
        return last[0]


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Cluster, Node, Node]]:
    with Cluster("n1", "n2") as cluster:
        n1, n2 = cluster.start("n1"), cluster.start("n2")
        cluster.wait_for_peers(n1, n2)
        yield cluster, n1, n2


@pytest.fixture
def flow(
    hosts: tuple[Cluster, Node, Node],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Flow]:
    made = Flow(*hosts, capsys, monkeypatch)
    yield made
    made.wait_for(WHOLE)


def run(node: Node, *argv: str) -> None:
    status, text = node.host.run(list(argv))
    assert status == 0, text


@contextmanager
def rule(node: Node, words: str) -> Iterator[None]:
    """A packet rule in the host's input chain, for a while."""
    run(node, "nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    try:
        run(node, "nft", f"add rule inet t c {words}")
        yield
    finally:
        run(node, "nft", "delete table inet t")


def test_route_in_the_way_is_named(flow: Flow) -> None:
    route = [f"{flow.n2.address}/32", "dev", "eth0"]
    run(flow.n1, "ip", "route", "add", *route)
    try:
        answer = flow.wait_for("stopped at n1: before tun-in")["answer"]
        assert "the kernel sends it to eth0" in answer
    finally:
        run(flow.n1, "ip", "route", "del", *route)


def test_datagrams_that_a_firewall_drops_are_lost_between_the_hosts(flow: Flow) -> None:
    with rule(flow.n2, "udp dport 8285 drop"):
        found = flow.wait_for("stopped between n1 and n2: sent to")
        assert [stop["packets"] for stop in found["there"]["stops"]] == [3]
        assert found["there"]["delivered"] == 0


def test_answers_that_a_firewall_drops_are_lost_on_the_way_back(flow: Flow) -> None:
    with rule(flow.n1, "udp dport 8285 drop"):
        answer = flow.wait_for("the way back: stopped between n2 and n1")["answer"]
        assert answer.startswith("delivered at n2: tun-out")


def test_host_that_drops_what_was_delivered_is_named(flow: Flow) -> None:
    with rule(flow.n2, "ip protocol icmp drop"):
        flow.wait_for("delivered at n2: tun-out; its host answers nothing")


def test_packet_that_is_too_long_for_the_device_is_named(flow: Flow) -> None:
    answer = flow.wait_for("stopped at n1: before tun-in", "--size=2000")["answer"]
    assert "2,000 bytes are too big here" in answer


def test_registry_entry_that_is_refused_is_named(flow: Flow) -> None:
    entry = f"{PREFIX}/subnets/10.5.128.0-17"
    ends = (flow.n1.address, "10.5.254.7", "--src-via=to n1", "--dst-via=to n2")
    flow.wait_for("stops at the lease: no host has a lease with 10.5.254.7", ends=ends)
    flow.cluster.etcd.put(entry, '{"PublicIP": "198.18.0.77"}')
    try:
        flow.wait_for("gets no route: too wide", ends=ends)
    finally:
        flow.cluster.etcd.delete(entry)


def test_foreign_sender_is_named_by_the_verdict_of_the_receiver(flow: Flow) -> None:
    flow.n1.host.call(links.add_address, name="lo", address=FOREIGN, prefix_len=32)
    run(flow.n1, sys.executable, "-c", DATAGRAM, FOREIGN, flow.n2.address)
    ends = (FOREIGN, flow.n2.address, "--src-via=to n1", "--dst-via=to n2")
    found = flow.wait_for(f"stopped at {flow.n2.public_ip}: udp-in, foreign source", ends=ends)
    assert found["answer"].endswith("from an address outside the sender's subnet")


def test_bad_inner_checksum_is_named_though_the_tunnel_delivers_it(flow: Flow) -> None:
    packet = bytearray(inner(flow.n1.address, flow.n2.address, bytes(20), port=7002))
    packet[26:28] = b"\x12\x34"  # of UDP; 0 would be none
    stranger_send(flow.n1.host, flow.n2.public_ip, bytes(packet))
    found = flow.wait_for("bad inner checksum, the kernel drops it: UDP checksum", "port", "7002")
    [stop] = found["there"]["stops"]
    assert (stop["host"], stop["point"]) == ("n2", "tun-out")
