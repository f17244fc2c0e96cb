"""Two hosts with --kube-subnet-mgr: podCIDRs in, annotations out, packets between.

n1 flannel0 ── udpoverlayd ── eth0 ══ UDP 8285 ══ eth0 ── udpoverlayd ── flannel0 n2
                    └──── Kubernetes API (a double) ─────┘
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import UDPOVERLAYD, Node, Readiness, peers_of, wait_until
from tests.support.kubecluster import PREFIX, flannel_annotations
from tests.support.wire import ping, transfer
from udpoverlay.errors import KernelError
from udpoverlay.lab.actions import files, web
from udpoverlay.lab.hosts import Fabric, Process

pytestmark = pytest.mark.root

SUBNET_FILE = "/run/flannel/subnet.env"
PORT = 6443
NODES = "/api/v1/nodes"


class KubeHosts:
    """Hosts joined by one switch, a Kubernetes API in it, and the daemons that were started."""

    def __init__(self, *names: str, directory: Path) -> None:
        self.fabric = Fabric(names, mtu=1500)
        self.address = f"{Fabric.GATEWAY}:{PORT}"
        kubeconfig = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://{self.address}"}}],
            "users": [{"name": "u", "user": {"token": "daemon"}}],
        }
        self.kubeconfig = directory / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(kubeconfig))
        self.net_conf = directory / "net-conf.json"
        self.net_conf.write_text('{"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}}')
        try:
            self.api = self.start_api()
        except BaseException:
            self.fabric.close()
            raise

    def start_api(self) -> Process:
        argv = [sys.executable, "-m", "tests.support.kubeapi", self.address]
        process = self.fabric.switch.popen(argv)

        def answers() -> bool:
            assert process.poll() is None, process.log()
            try:
                return self.ask("GET", "/readyz")[0] == 200
            except KernelError:
                return False

        wait_until(answers, "the API answers")
        return process

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        options: dict[str, Any] = {} if body is None else {"body": json.dumps(body)}
        code, text = self.fabric.switch.call(
            web.request, address=self.address, method=method, path=path, **options
        )
        return code, text

    def node(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("GET", f"{NODES}/{name}")[1])
        return found

    def register(self, name: str, pod_cidr: str = "", public_ip: str = "") -> None:
        """A Node; with `public_ip` it looks as a daemon leaves it that runs elsewhere."""
        spec = {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]} if pod_cidr else {}
        metadata: dict[str, Any] = {"name": name}
        if public_ip:
            metadata["annotations"] = {
                f"{PREFIX}kube-subnet-manager": "true",
                f"{PREFIX}backend-type": "",
                f"{PREFIX}backend-data": "null",
                f"{PREFIX}public-ip": public_ip,
            }
        code, text = self.ask("POST", NODES, {"metadata": metadata, "spec": spec})
        assert code == 201, text

    def give(self, name: str, pod_cidr: str) -> None:
        node = self.node(name)
        node["spec"] |= {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]}
        code, text = self.ask("PUT", f"{NODES}/{name}", node)
        assert code == 200, text

    def spawn(self, name: str, **env: str) -> Node:
        argv = [
            *UDPOVERLAYD,
            "--kube-subnet-mgr",
            f"--kubeconfig-file={self.kubeconfig}",
            f"--net-config-path={self.net_conf}",
        ]
        host = self.fabric.hosts[name]
        log = f"{name}-{time.monotonic_ns()}.log"
        return Node(name, host, host.popen(argv, env={"NODE_NAME": name, **env}, log=log))

    def start(self, name: str) -> Node:
        readiness = Readiness(self.fabric.hosts[name], f"notify-{time.monotonic_ns()}")
        try:
            node = self.spawn(name, NOTIFY_SOCKET=readiness.address)

            def come() -> bool:
                assert node.process.poll() is None or readiness.come(), node.process.log()
                return readiness.come()

            wait_until(come, f"{name} is ready")
        finally:
            readiness.close()
        text = node.host.call(files.read_text, path=SUBNET_FILE)
        node.env = dict(line.split("=", 1) for line in text.splitlines())
        return node


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[KubeHosts]:
    kube = KubeHosts("n1", "n2", directory=tmp_path)
    try:
        yield kube
    finally:
        kube.fabric.close()


def knows(node: Node, *subnets: str) -> None:
    wait_until(lambda: peers_of(node) == set(subnets), f"{node.name} knows {subnets}")


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
    assert ping(n1.host, n1.address, n2.address) is not None
    # An empty server in its place: everything that it knew is lost, and no peer is.
    hosts.api = hosts.start_api()
    wait_until(lambda: bool(n1.lines("nodes are followed again")), "n1 follows again")
    wait_until(lambda: bool(n1.lines("lost its history")), "n1 knows what happened")
    assert peers_of(n1) == {"10.244.2.0/24"}
    assert ping(n1.host, n1.address, n2.address) is not None
    hosts.register("n1", "10.244.1.0/24")
    hosts.register("n2", "10.244.2.0/24")

    def annotated() -> bool:
        return all(flannel_annotations(hosts.node(name)) for name in ("n1", "n2"))

    wait_until(annotated, "both nodes are annotated again")
    assert ping(n2.host, n2.address, n1.address) is not None


def test_pod_cidr_of_any_length_is_a_peer_and_a_shared_address_is_none(hosts: KubeHosts) -> None:
    """flanneld uses no SubnetLen here; on Vagrant all nodes publish 10.0.2.15."""
    hosts.register("n1", "10.244.1.0/24")
    hosts.register("n2", "10.244.128.0/17")
    hosts.register("outside", "10.99.0.0/24", "198.18.0.77")
    hosts.register("same", "10.244.3.0/24", hosts.fabric.address("n1"))
    hosts.register("inside", "10.244.4.0/24", "10.244.4.5")
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
