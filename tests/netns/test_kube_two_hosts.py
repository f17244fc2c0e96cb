"""Two hosts with --kube-subnet-mgr: podCIDRs in, annotations out, packets between.

n1 flannel0 ── udpoverlayd ── eth0 ══ UDP 8285 ══ eth0 ── udpoverlayd ── flannel0 n2
                    └─── Kubernetes API (double, real) ──┘
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Node, wait_until
from tests.support.kubecluster import flannel_annotations
from tests.support.kubehosts import KubeHosts
from tests.support.wire import ping, transfer

pytestmark = pytest.mark.root


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.kube)])
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KubeHosts]:
    kube = KubeHosts("n1", "n2", directory=tmp_path, real=request.param == "real")
    try:
        yield kube
    finally:
        kube.fabric.close()


def knows(node: Node, *subnets: str) -> None:
    wait_until(lambda: node.peers() == set(subnets), f"{node.name} knows {subnets}")


def test_two_nodes_talk(hosts: KubeHosts) -> None:
    hosts.register("n1", "10.244.1.0/24")
    hosts.register("n2", "10.244.2.0/24")
    n1, n2 = hosts.start("n1"), hosts.start("n2")
    assert n1.env["FLANNEL_NETWORK"] == "10.244.0.0/16"
    assert n1.env["FLANNEL_SUBNET"] == "10.244.1.1/24"
    knows(n1, "10.244.2.0/24")
    knows(n2, "10.244.1.0/24")
    assert ping(n1.host, n1.address, n2.address) is not None
    assert ping(n2.host, n2.address, n1.address) is not None
    sent, received = transfer(n1.end, n2.end, 10 << 20)
    assert sent == received

    node = hosts.node("n1")
    status = n1.status()
    assert status["registry"]["kind"] == "kube"
    assert flannel_annotations(node) == {
        "backend-data": "null",
        "backend-type": "",
        "kube-subnet-manager": "true",
        "public-ip": status["node"]["public_ip"],
    }

    def works() -> bool:
        conditions = hosts.node("n1")["status"].get("conditions", [])
        return [(c["type"], c["status"]) for c in conditions] == [("NetworkUnavailable", "False")]

    wait_until(works, "the condition is set")


def test_a_node_without_a_pod_cidr_waits_and_says_why(hosts: KubeHosts) -> None:
    hosts.register("n1")
    hosts.register("n2", "10.244.2.0/24")
    n1 = hosts.spawn("n1")
    wait_until(
        lambda: bool(n1.lines("waiting for a lease", "no podCIDR", "kubectl")), "it says why"
    )
    assert n1.process.poll() is None
    hosts.give("n1", "10.244.1.0/24")
    n2 = hosts.start("n2")
    knows(n2, "10.244.1.0/24")
    wait_until(lambda: ping(n2.host, n2.address, "10.244.1.0") is not None, "packets flow")


def test_packets_flow_while_the_api_server_is_away(hosts: KubeHosts) -> None:
    hosts.register("n1", "10.244.1.0/24")
    hosts.register("n2", "10.244.2.0/24")
    n1, n2 = hosts.start("n1"), hosts.start("n2")
    knows(n1, "10.244.2.0/24")
    knows(n2, "10.244.1.0/24")
    hosts.api.stop()
    wait_until(lambda: bool(n1.lines("nodes cannot be followed")), "n1 notices")
    assert hosts.address in n1.status()["registry"]["troubles"]["nodes"]
    assert ping(n1.host, n1.address, n2.address) is not None
    # An empty server in its place: everything that it knew is lost, and no peer is.
    hosts.api = hosts.start_api()
    wait_until(lambda: bool(n1.lines("nodes are followed again")), "n1 follows again")
    wait_until(lambda: bool(n1.lines("lost its history")), "n1 knows what happened")
    assert n1.peers() == {"10.244.2.0/24"}
    assert ping(n1.host, n1.address, n2.address) is not None
    hosts.register("n1", "10.244.1.0/24")
    hosts.register("n2", "10.244.2.0/24")

    def annotated() -> bool:
        return all(flannel_annotations(hosts.node(name)) for name in ("n1", "n2"))

    wait_until(annotated, "both nodes are annotated again")
    wait_until(lambda: n1.status()["registry"]["troubles"] == {}, "no trouble is left")
    assert ping(n2.host, n2.address, n1.address) is not None


def test_pod_cidr_of_any_length_is_a_peer_and_a_shared_address_is_none(hosts: KubeHosts) -> None:
    """flanneld uses no SubnetLen here; on Vagrant all nodes publish 10.0.2.15."""
    hosts.register("n1", "10.244.1.0/24")
    hosts.register("n2", "10.244.128.0/17")
    hosts.register("outside", "10.99.0.0/24", public_ip="198.18.0.77")
    hosts.register("same", "10.244.3.0/24", public_ip=hosts.fabric.address("n1"))
    hosts.register("inside", "10.244.4.0/24", public_ip="10.244.4.5")
    n1, n2 = hosts.start("n1"), hosts.start("n2")
    refused = {"10.99.0.0/24": "outside_network", "10.244.3.0/24": "own_address",
               "10.244.4.0/24": "in_overlay", "10.244.128.0/17": ""}  # fmt: skip

    def reasons() -> dict[str, str]:
        return {peer["subnet"]: peer["refused"] for peer in n1.ask("/v1/peers")["peers"]}

    wait_until(lambda: reasons() == refused, "n1 knows n2 alone")
    assert n1.status()["control"]["leases_refused"] == 3
    [line] = n1.lines("lease refused", "10.244.3.0/24")
    assert line.startswith("E")
    assert "--iface or --public-ip" in line
    assert ping(n1.host, n1.address, n2.address) is not None
    assert ping(n1.host, n1.address, "10.244.4.7", seconds=0.3) is None
    assert n1.counters()["outbound_sent"] < 20
