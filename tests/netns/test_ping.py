"""`udpoverlay ping` and `traceroute` beside real daemons: what answers, and what is in the way.

n1 ── switch ── n2 ── pod      the pod's link takes 1,300 bytes
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.cluster import Cluster, Node, wait_until
from tests.support.wire import ping as one_ping
from udpoverlay.lab.actions import files, links
from udpoverlay.lab.hosts import Host

pytestmark = [
    pytest.mark.root,
    pytest.mark.etcd,
    pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on PATH"),
]

POD_MTU = 1300
QUICK = ("-c", "3", "-i", "0.02", "-W", "0.3")


class World:
    """Two nodes, and a pod behind the second."""

    def __init__(self, cluster: Cluster, pod: Host) -> None:
        self.cluster = cluster
        self.n1, self.n2 = cluster.start("n1"), cluster.start("n2")
        cluster.wait_for_peers(self.n1, self.n2)
        begin = self.n2.address.rpartition(".")[0]
        self.pod = f"{begin}.7"
        self.n2.host.add_veth("pod0", pod, "eth0", POD_MTU)
        self.n2.host.call(links.add_address, name="pod0", address=f"{begin}.1", prefix_len=24)
        pod.call(links.add_address, name="eth0", address=self.pod, prefix_len=24)
        pod.call(links.add_route, destination="default", via=f"{begin}.1")
        self.n2.host.call(files.write_text, path="/proc/sys/net/ipv4/ip_forward", text="1")
        assert one_ping(self.n1.host, self.n1.address, self.pod) is not None

    def ask(self, *words: str) -> tuple[int, str]:
        """On n1; runs of spaces are one."""
        argv = [sys.executable, "-m", "udpoverlay.cli", *words]
        status, text = self.n1.host.run(argv, 60)
        return status, " ".join(text.split())

    def json(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask(*words, "--json")[1])
        return found


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Cluster("n1", "n2") as cluster, Host("pod") as pod:
        yield World(cluster, pod)


@contextmanager
def rule(node: Node, hook: str, words: str) -> Iterator[None]:
    chain = f"add table inet t; add chain inet t c {{ type filter hook {hook} priority 0; }}"
    status, text = node.host.run(["nft", f"{chain}; add rule inet t c {words}"])
    assert status == 0, text
    try:
        yield
    finally:
        node.host.run(["nft", "delete table inet t"])


@pytest.mark.parametrize("by", ["public_ip", "subnet", "address"])
def test_peer_is_pinged_at_its_tunnel_address(world: World, by: str) -> None:
    found = world.json("ping", getattr(world.n2, by), *QUICK)
    assert (found["sent"], found["answered"], found["loss"]) == (3, 3, 0)
    assert (found["address"], found["peer"]) == (world.n2.address, world.n2.public_ip)
    assert (found["source"], found["device"]) == (world.n1.address, "flannel0")
    assert 0 < found["rtt_ms"]["min"] <= found["rtt_ms"]["p50"] <= found["rtt_ms"]["max"] < 1000
    assert found["size"]["largest"] == found["size"]["asked"] == 1472
    assert found["findings"] == found["notes"] == []


def test_firewall_of_the_peer_is_a_loss_of_all_and_exit_1(world: World) -> None:
    with rule(world.n2, "input", "udp dport 8285 drop"):
        status, text = world.ask("ping", world.n2.public_ip, *QUICK)
    assert status == 1
    assert "answered 0 of 3, loss 100 %" in text
    assert f"3 packets left this host for {world.n2.public_ip} UDP 8285" in text
    assert f"udpoverlay explain {world.n2.address}" in text


def test_firewall_of_this_host_is_named(world: World) -> None:
    with rule(world.n1, "output", "udp dport 8285 drop"):
        status, text = world.ask("ping", world.n2.public_ip, *QUICK)
    assert status == 1
    assert "3 dropped here, outbound forbidden: a firewall rule of this host" in text


def test_black_hole_of_the_underlay_is_found_to_the_byte(world: World) -> None:
    """A switch says nothing of a frame that is too long for a port."""
    switch = world.cluster.fabric.switch
    switch.call(links.set_link, name="port1", mtu=1400)
    try:
        status, text = world.ask("ping", world.n2.public_ip, *QUICK)
    finally:
        switch.call(links.set_link, name="port1", mtu=1500)
    assert "answered 3 of 3, loss 0 %" in text
    assert f"{1400 - 28:,} bytes pass, of 1,472" in text
    assert "lost in silence: a black hole" in text
    assert "ip link set eth0 mtu 1400" in text
    assert status == 3


def test_router_that_reports_a_smaller_mtu_is_named(world: World) -> None:
    found = world.json("ping", world.pod, *QUICK)
    assert found["size"]["largest"] == found["size"]["reported_mtu"] == POD_MTU
    assert found["size"]["limit"] == "icmp"
    assert "says fragmentation needed" in found["findings"][0]["fact"]


def test_way_to_a_pod_shows_every_hop(world: World) -> None:
    found = world.json("traceroute", world.pod)
    assert [hop["address"] for hop in found["hops"]] == [
        world.n1.address,
        world.n2.address,
        world.n2.address,
        world.pod,
    ]
    assert [hop["name"].split()[0] for hop in found["hops"]] == [
        "this",
        "daemon",
        "kernel",
        "target,",
    ]
    assert all(None not in hop["rtt_ms"] for hop in found["hops"])
    assert found["reached"]


def test_address_that_nothing_has_is_not_reached(world: World) -> None:
    words = ("-m", "3", "-q", "1", "-W", "0.1")
    status, text = world.ask("traceroute", f"{world.pod}7", *words)
    assert status == 1
    assert f"no answer from {world.pod}7" in text


def test_host_without_a_daemon_is_named(world: World) -> None:
    assert world.n2.process.stop() == 0
    try:

        def named() -> bool:
            return "reports port unreachable" in world.ask("ping", world.n2.public_ip, *QUICK)[1]

        wait_until(named, "ping names the closed port")
    finally:
        world.n2 = world.cluster.start("n2")
        world.cluster.wait_for_peers(world.n1, world.n2)
