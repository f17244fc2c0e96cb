"""`udpoverlay explain` beside real daemons: one thing is broken at a time, and named."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import PREFIX, Cluster, Node, wait_until
from tests.support.wire import ping

pytestmark = [
    pytest.mark.root,
    pytest.mark.etcd,
    pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on PATH"),
]


class Pair:
    """Two hosts that hear each other."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.n1, self.n2 = cluster.start("n1"), cluster.start("n2")
        cluster.wait_for_peers(self.n1, self.n2)
        self.hear()

    def hear(self) -> None:
        """A packet in each direction."""
        assert ping(self.n1.host, self.n1.address, self.n2.address) is not None

    def explain(self, address: str = "") -> dict[str, Any]:
        """What n1 says of the way to n2."""
        words = ["explain", address or self.n2.address, "--json"]
        _, text = self.n1.host.run([sys.executable, "-m", "udpoverlay.cli", *words])
        found: dict[str, Any] = json.loads(text)
        return found

    def wait_for(self, answer: str) -> None:
        """n1 comes to say this; a packet is sent now and then."""

        def says() -> bool:
            ping(self.n1.host, self.n1.address, self.n2.address, seconds=0.2)
            return answer in self.explain()["answer"]

        wait_until(says, answer)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Cluster("n1", "n2") as cluster:
        yield Pair(cluster)


@pytest.fixture(autouse=True)
def healthy(pair: Pair) -> Iterator[None]:
    """Each test begins and ends with a way on which nothing is wrong."""
    assert pair.explain()["answer"].startswith("nothing is wrong on this host")
    yield
    pair.wait_for("nothing is wrong on this host")


def run(node: Node, *argv: str) -> None:
    status, text = node.host.run(list(argv))
    assert status == 0, text


def test_route_in_the_way_is_named(pair: Pair) -> None:
    route = [f"{pair.n2.address}/32", "dev", "eth0"]
    run(pair.n1, "ip", "route", "add", *route)
    try:
        answer = pair.explain()["answer"]
        assert answer.startswith("stops at the kernel route")
        assert "the kernel sends it to eth0" in answer
    finally:
        run(pair.n1, "ip", "route", "del", *route)


def test_underlay_that_is_routed_into_the_tunnel_is_named(pair: Pair) -> None:
    route = [f"{pair.n2.public_ip}/32", "dev", "flannel0"]
    run(pair.n1, "ip", "route", "add", *route)
    try:
        assert "is routed into the tunnel" in pair.explain()["answer"]
    finally:
        run(pair.n1, "ip", "route", "del", *route)


def test_missing_lease_is_named(pair: Pair) -> None:
    found = pair.explain("10.5.254.7")
    assert found["answer"].startswith("stops at the lease: no host has a lease with 10.5.254.7")


def test_registry_entry_that_is_refused_is_named(pair: Pair) -> None:
    entry = f"{PREFIX}/subnets/10.5.128.0-17"
    pair.cluster.etcd.put(entry, '{"PublicIP": "198.18.0.77"}')
    try:
        wait_until(
            lambda: "gets no route: too wide" in pair.explain("10.5.254.7")["answer"], "it is named"
        )
    finally:
        pair.cluster.etcd.delete(entry)


def test_rules_that_refuse_our_datagrams_are_named(pair: Pair) -> None:
    chain = "chain inet t c { type filter hook input priority 0; }"
    run(pair.n2, "nft", f"add table inet t; add {chain}")
    try:
        rule = "udp dport 8285 reject with icmpx type admin-prohibited"
        run(pair.n2, "nft", f"add rule inet t c {rule}")
        pair.wait_for("a firewall refuses our datagrams")
    finally:
        run(pair.n2, "nft", "delete table inet t")


def test_host_without_a_daemon_is_named(pair: Pair) -> None:
    assert pair.n2.process.stop() == 0
    try:
        pair.wait_for("nothing listens on the peer's UDP port")
    finally:
        pair.n2 = pair.cluster.start("n2")
        pair.cluster.wait_for_peers(pair.n1, pair.n2)
