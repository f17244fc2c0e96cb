"""One flanneld and one udpoverlayd in one etcd: neither can tell what the other is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import PREFIX, SUBNET_FILE, Cluster, Node, links_of, wait_until
from tests.support.wire import captured, ping, transfer, udp_payloads
from udpoverlay.lab.actions import files

pytestmark = [pytest.mark.root, pytest.mark.etcd, pytest.mark.flanneld]

FLANNELD = ["flanneld"]
NO_RULES = "--iptables-forward-rules=false"
FIFTY_MB = 50 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("theirs", "ours") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def theirs(cluster: Cluster) -> Node:
    return cluster.start("theirs", NO_RULES, program=FLANNELD)


@pytest.fixture(scope="module")
def ours(cluster: Cluster, theirs: Node) -> Node:
    ours = cluster.start("ours", NO_RULES)
    wait_until(lambda: ours.status()["dataplane"]["routes"] == 1, "we know flanneld's lease")
    return ours


@pytest.mark.parametrize("size", [0, 56, 1444, 5000])
def test_pings_are_answered_both_ways(theirs: Node, ours: Node, size: int) -> None:
    assert ping(ours.host, ours.address, theirs.address, size) == 62
    assert ping(theirs.host, theirs.address, ours.address, size) == 62


def test_tcp_arrives_as_it_was_sent_both_ways(theirs: Node, ours: Node) -> None:
    for a, b in ((theirs, ours), (ours, theirs)):
        sent, received = transfer(a.end, b.end, FIFTY_MB)
        assert sent == received


def test_no_datagram_of_ours_is_longer_than_theirs_can_take(theirs: Node, ours: Node) -> None:
    with captured(theirs.host) as packets:
        sent, received = transfer(ours.end, theirs.end, 1 << 20)
    assert sent == received
    payloads = udp_payloads(packets)
    assert payloads
    assert {payload[0] for payload in payloads} == {0x45}
    # A capture on a link with offloads may show many datagrams as one: the pieces count.
    assert all(int.from_bytes(payload[2:4], "big") <= 1472 for payload in payloads)


def test_the_registry_and_the_files_look_the_same(
    cluster: Cluster, theirs: Node, ours: Node
) -> None:
    leases = cluster.leases()
    for node in (theirs, ours):
        public_ip = cluster.fabric.address(node.name)
        value = f'{{"PublicIP":"{public_ip}","PublicIPv6":null}}'
        assert leases[node.subnet.replace("/", "-")] == value
    texts = [node.host.call(files.read_text, path=SUBNET_FILE) for node in (theirs, ours)]
    assert texts[0].replace(theirs.env["FLANNEL_SUBNET"], ours.env["FLANNEL_SUBNET"]) == texts[1]


def test_the_devices_look_the_same(theirs: Node, ours: Node) -> None:
    for node in (theirs, ours):
        device = links_of(node.host)["flannel0"]
        assert (device["mtu"], device["addresses"]) == (1472, [f"{node.address}/32"])
    routes = [
        node.host.call(files.read_text, path="/proc/net/route").split("\n")[1:]
        for node in (theirs, ours)
    ]
    mine, others = (
        [line.split() for line in lines if line.startswith("flannel0")] for lines in routes
    )
    assert mine == others


def test_ping_and_traceroute_need_no_daemon_of_ours_there_or_here(theirs: Node, ours: Node) -> None:
    """Each end takes a hop; theirs says nothing of it. From their host no daemon can be asked."""
    for here, there in ((ours, theirs), (theirs, ours)):
        found = _asked(here, "ping", there.address, "-i", "0.02")
        assert found["loss"] == 0
        assert found["size"]["largest"] == 1472
        found = _asked(here, "traceroute", there.address)
        hops = [hop["address"] for hop in found["hops"]]
        ends = {ours.address: ours.address, theirs.address: ""}
        assert hops == [ends[here.address], ends[there.address], there.address]
        assert found["reached"]


def _asked(node: Node, *words: str) -> dict[str, Any]:
    _, text = node.host.run([sys.executable, "-m", "udpoverlay.cli", *words, "--json"])
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_foreign_key_costs_us_no_peer(cluster: Cluster, theirs: Node, ours: Node) -> None:
    cluster.etcd.put(f"{PREFIX}/subnets/nonsense", "{}")
    sound = f"{PREFIX}/subnets/10.5.247.0-24"
    cluster.etcd.put(sound, '{"PublicIP":"198.18.0.77","PublicIPv6":null}')
    wait_until(lambda: ours.status()["dataplane"]["routes"] == 2, "the sound entry is known")
    assert ours.peers() == {theirs.subnet, "10.5.247.0/24"}
    cluster.etcd.delete(f"{PREFIX}/subnets/nonsense")
    cluster.etcd.delete(sound)
    wait_until(lambda: ours.status()["dataplane"]["routes"] == 1, "it is gone again")


def test_either_takes_the_place_of_the_other_on_the_same_host(
    cluster: Cluster, theirs: Node, ours: Node
) -> None:
    assert theirs.process.stop() == 0
    replaced = cluster.start("theirs", NO_RULES)
    assert replaced.subnet == theirs.subnet
    assert ping(ours.host, ours.address, replaced.address) == 62
    assert replaced.process.stop() == 0
    back = cluster.start("theirs", NO_RULES, program=FLANNELD)
    assert back.subnet == theirs.subnet
    assert ping(ours.host, ours.address, back.address) == 62
