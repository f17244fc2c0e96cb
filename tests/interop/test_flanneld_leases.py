"""Leases of real flannelds that look odd and are not, and one that takes ours for its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import NETCONF, PREFIX, Cluster, Node, wait_until
from tests.support.wire import ping

pytestmark = [pytest.mark.root, pytest.mark.etcd, pytest.mark.flanneld]

FLANNELD = ["flanneld"]
NO_RULES = "--iptables-forward-rules=false"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster("theirs", "ours") as cluster:
        yield cluster


def configure(cluster: Cluster, **changes: Any) -> None:
    cluster.etcd.put(f"{PREFIX}/config", json.dumps({**NETCONF, **changes}))


def both(cluster: Cluster) -> tuple[Node, Node]:
    theirs = cluster.start("theirs", NO_RULES, program=FLANNELD)
    ours = cluster.start("ours", NO_RULES)
    wait_until(lambda: ours.peers() == {theirs.subnet}, "we know flanneld's lease")
    return theirs, ours


def reach_each_other(theirs: Node, ours: Node) -> None:
    assert ours.ask("/v1/peers")["peers"][0]["refused"] == ""
    assert ping(ours.host, ours.address, theirs.address) == 62
    assert ping(theirs.host, theirs.address, ours.address) == 62


def test_flanneld_of_an_earlier_subnet_len_is_a_peer(cluster: Cluster) -> None:
    configure(cluster, SubnetLen=20)
    theirs = cluster.start("theirs", NO_RULES, program=FLANNELD)
    configure(cluster, SubnetLen=26, SubnetMin="10.5.240.0")
    ours = cluster.start("ours", NO_RULES)
    assert (theirs.subnet.split("/")[1], ours.subnet.split("/")[1]) == ("20", "26")
    wait_until(lambda: ours.peers() == {theirs.subnet}, "we know flanneld's lease")
    reach_each_other(theirs, ours)


def test_flanneld_with_the_widest_subnet_of_a_network_is_a_peer(cluster: Cluster) -> None:
    configure(cluster, SubnetLen=18)
    reach_each_other(*both(cluster))


def test_flannelds_host_inside_network_is_a_peer(cluster: Cluster) -> None:
    """As in flannel's own example: Network 10.0.0.0/8 with hosts in 10.240.0.0/16."""
    configure(cluster, Network="198.0.0.0/8", SubnetMin="198.51.0.0", SubnetMax="198.99.0.0")
    reach_each_other(*both(cluster))


def test_flanneld_with_our_public_ip_is_noticed(cluster: Cluster) -> None:
    shared = f"--public-ip={cluster.fabric.address('ours')}"
    ours = cluster.start("ours", NO_RULES)
    theirs = cluster.start("theirs", NO_RULES, "--iface=eth0", shared, program=FLANNELD)
    assert theirs.subnet == ours.subnet, "flanneld takes our lease for its own"
    wait_until(lambda: ours.status()["control"]["foreign_renewals"] > 0, "we notice")
    [line] = ours.lines("another daemon renews our lease")
    assert "--iface or --public-ip" in line


def test_flanneld_left_running_beside_us_is_noticed(cluster: Cluster) -> None:
    ours = cluster.start("ours", NO_RULES)
    beside = cluster.spawn("ours", NO_RULES, "--subnet-file=/run/other.env", program=FLANNELD)
    wait_until(lambda: ours.status()["control"]["foreign_renewals"] > 0, "we notice")
    [line] = ours.lines("another daemon renews our lease")
    assert "stop the other daemon on this host" in line
    beside.process.stop()
    assert ours.process.poll() is None
