"""Pods as a container runtime makes them, on two hosts, in both rule modes.

pod ── cni0 ── n1 flannel0 ══ udp 8285 ══ flannel0 n2 ── cni0 ── pod
                │ eth0                             eth0 │ hostPort 8080
                └────────────── world 198.18.0.1 ───────┘  (no route to the overlay)

udpoverlayd --ip-masq, udpoverlay-cni with the real bridge, host-local and portmap.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import NETCONF, Cluster, Node, wait_until
from udpoverlay.lab.actions import files
from udpoverlay.lab.hosts import Fabric, Host, Process

FOLDER = next(
    (path for path in ("/opt/cni/bin", "/usr/lib/cni") if Path(path, "portmap").exists()), ""
)
pytestmark = [
    pytest.mark.root,
    pytest.mark.etcd,
    pytest.mark.skipif(not FOLDER, reason="no CNI plugins in /opt/cni/bin or /usr/lib/cni"),
    pytest.mark.skipif(shutil.which("iptables") is None, reason="portmap needs iptables"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on PATH"),
]

PORT, HOST_PORT = 7000, 8080
SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print("up", flush=True)
    while True:
        connection, peer = server.accept()
        with connection:
            print("from", peer[0], flush=True)
            connection.sendall(b"hello")
"""
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as connection:
    print(connection.recv(5).decode())
"""
PLUGIN = [sys.executable, "-c", "from udpoverlay.cni.plugin import main; main()"]


class Pod:
    """A network namespace of a node, joined to it by the CNI plugins."""

    def __init__(self, node: Node, name: str) -> None:
        self.node, self.host, self.name = node, node.host, name
        self.host.run(["ip", "netns", "add", name])
        conf = {"cniVersion": "1.0.0", "name": "cbr0"}
        delegate = {"hairpinMode": True, "isDefaultGateway": True}
        ipam = {"dataDir": "/run/cni/networks"}
        flannel = {"type": "flannel", "dataDir": "/run/cni/flannel", "delegate": delegate}
        added = self._call("ADD", PLUGIN, {**conf, **flannel, "ipam": ipam})
        mapping = {"hostPort": HOST_PORT, "containerPort": PORT, "protocol": "tcp"}
        portmap = {
            "type": "portmap",
            "runtimeConfig": {"portMappings": [mapping]},
            "prevResult": added,
        }
        self._call("ADD", [f"{FOLDER}/portmap"], {**conf, **portmap})
        self.address: str = added["ips"][0]["address"].partition("/")[0]
        self.argv = ["ip", "netns", "exec", name]

    def _call(self, command: str, argv: list[str], conf: dict[str, Any]) -> Any:
        self.host.call(files.write_text, path="/run/cni/conf", text=json.dumps(conf))
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.name,
            "CNI_NETNS": f"/run/netns/{self.name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": FOLDER,
        }
        words = [f"{key}={value}" for key, value in variables.items()]
        shell = ["sh", "-c", 'exec "$@" < /run/cni/conf 2> /run/cni/errors', "sh"]
        status, output = self.host.run([*shell, "env", *words, *argv])
        assert status == 0, output + self.host.call(files.read_text, path="/run/cni/errors")
        return json.loads(output)


class Server:
    """A TCP server that notes who comes."""

    def __init__(self, host: Host, address: str, argv: tuple[str, ...] = ()) -> None:
        command = [*argv, sys.executable, "-c", SERVER, address, str(PORT)]
        self.process: Process = host.popen(command, log=f"server-{time.monotonic_ns()}.log")
        wait_until(lambda: "up" in self.process.log(), f"server {address} listens")

    def seen(self) -> list[str]:
        return [line.split()[1] for line in self.process.log().splitlines() if "from " in line]


def reaches(host: Host, address: str, port: int, argv: tuple[str, ...] = ()) -> None:
    command = [*argv, sys.executable, "-c", CLIENT, address, str(port)]
    status, output = host.run(command, 60)
    assert (status, output.strip()) == (0, "hello"), output


@pytest.fixture(scope="module", params=["iptables", "nftables"])
def pods(request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, Pod, Pod]]:
    netconf = {**NETCONF, "EnableNFTables": request.param == "nftables"}
    with Cluster("n1", "n2", netconf=netconf) as cluster:
        nodes = [cluster.start(name, "--ip-masq") for name in ("n1", "n2")]
        cluster.wait_for_peers(*nodes)
        for node in nodes:
            node.host.call(files.write_text, path="/proc/sys/net/ipv4/ip_forward", text="1")
        one, two = (Pod(node, f"pod-{node.name}") for node in nodes)
        yield cluster, one, two


def test_pod_reaches_a_pod_of_the_other_host_and_is_seen_as_itself(
    pods: tuple[Cluster, Pod, Pod],
) -> None:
    _, one, two = pods
    server = Server(two.host, two.address, tuple(two.argv))
    reaches(one.host, two.address, PORT, tuple(one.argv))
    assert server.seen() == [one.address]
    server.process.stop()


def test_pod_reaches_the_world_as_its_node(pods: tuple[Cluster, Pod, Pod]) -> None:
    cluster, one, _ = pods
    server = Server(cluster.fabric.switch, Fabric.GATEWAY)
    reaches(one.host, Fabric.GATEWAY, PORT, tuple(one.argv))
    assert server.seen() == [cluster.fabric.address("n1")]
    server.process.stop()


@pytest.mark.parametrize("name", ["n1", "n2"])
def test_host_port_is_reached_from_the_world_and_from_the_other_hosts_pod(
    pods: tuple[Cluster, Pod, Pod], name: str
) -> None:
    cluster, one, two = pods
    server_pod, other = (one, two) if name == "n1" else (two, one)
    server = Server(server_pod.host, server_pod.address, tuple(server_pod.argv))
    address = cluster.fabric.address(name)
    reaches(cluster.fabric.switch, address, HOST_PORT)
    reaches(other.host, address, HOST_PORT, tuple(other.argv))
    assert server.seen() == [Fabric.GATEWAY, cluster.fabric.address(other.node.name)]
    server.process.stop()


def test_masqueraded_connection_outlives_a_restart_of_the_daemon(
    pods: tuple[Cluster, Pod, Pod],
) -> None:
    """New ones too: no packet of a pod leaves with the pod's address while it starts again."""
    cluster, one, _ = pods
    node = one.node
    server = Server(cluster.fabric.switch, Fabric.GATEWAY)
    asking = [*one.argv, sys.executable, "-c", BUSY, Fabric.GATEWAY, str(PORT)]
    client = one.host.popen(asking, log=f"busy-{time.monotonic_ns()}.log")
    wait_until(lambda: len(server.seen()) > 10, "the pod is served")
    assert node.process.stop() == 0
    one.node = cluster.start(node.name, "--ip-masq")
    before = len(server.seen())
    wait_until(lambda: len(server.seen()) > before + 10, "the pod is served after the restart")
    client.stop()
    assert set(server.seen()) == {cluster.fabric.address(node.name)}
    assert "failed" not in client.log()
    server.process.stop()


def test_connection_outlives_a_restart_and_keeps_its_speed(
    pods: tuple[Cluster, Pod, Pod],
) -> None:
    """One TCP stream from a pod to the world. Without our forward rules it would stand still."""
    cluster, one, two = pods
    node = one.node
    if node.status()["firewall"]["mode"] == "iptables":
        assert one.host.run(["iptables", "-P", "FORWARD", "DROP"])[0] == 0
    sink = cluster.fabric.switch.popen(
        [sys.executable, "-c", SINK, Fabric.GATEWAY, str(PORT)], log=f"sink-{time.monotonic_ns()}"
    )
    wait_until(lambda: "up" in sink.log(), "the sink listens")
    sending = [*one.argv, sys.executable, "-c", SOURCE, Fabric.GATEWAY, str(PORT)]
    source = one.host.popen(sending, log=f"source-{time.monotonic_ns()}.log")

    def lines() -> list[tuple[float, float]]:
        """One a tenth of a second: megabytes a second, the longest pause in seconds."""
        whole = sink.log().rpartition("\n")[0]
        found = [line.split() for line in whole.splitlines() if "MB" in line]
        return [(float(rate), float(pause)) for _, rate, pause in found]

    def fast(since: int) -> float:
        wait_until(lambda: len(lines()) >= since + 10, "a second of the stream")
        return statistics.median(rate for rate, _ in lines()[since:])

    before = fast(len(lines()) + 3)
    stopped, since = time.monotonic(), len(lines())
    assert node.process.stop() == 0
    one.node = cluster.start(node.name, "--ip-masq")
    away = time.monotonic() - stopped
    after = max(fast(len(lines())) for _ in range(5))
    assert max(pause for _, pause in lines()[since:]) < away / 2, (away, lines()[since:])
    assert source.poll() is None, source.log()
    assert [line.split()[1] for line in sink.log().splitlines() if "from " in line] == [
        cluster.fabric.address(node.name)
    ]
    assert after > before / 2, (before, after)
    source.stop()
    sink.stop()
    # Pod to pod too: the overlay itself is back.
    cluster.wait_for_peers(one.node, two.node)
    server = Server(two.host, two.address, tuple(two.argv))
    reaches(one.host, two.address, PORT, tuple(one.argv))
    server.process.stop()
    one.host.run(["iptables", "-P", "FORWARD", "ACCEPT"])


SOURCE = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as connection:
    block = bytes(1 << 16)
    while True:
        connection.sendall(block)
"""
SINK = """
import socket, sys, time
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print("up", flush=True)
    while True:
        connection, peer = server.accept()
        print("from", peer[0], flush=True)
        count, pause, since, last = 0, 0.0, time.monotonic(), time.monotonic()
        while data := connection.recv(1 << 18):
            count += len(data)
            now = time.monotonic()
            pause, last = max(pause, now - last), now
            if now - since > 0.1:
                print("MB", count / 1e6 / (now - since), pause, flush=True)
                count, pause, since = 0, 0.0, now
"""
BUSY = """
import socket, sys, time
for _ in range(100000):
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as connection:
            connection.recv(5)
    except OSError as error:
        print("failed", error, flush=True)
    time.sleep(0.01)
"""
