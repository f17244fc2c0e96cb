"""The daemon as a process: signals at any moment, a log without a reader, few descriptors."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import statistics
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.cluster import (
    ADMIN_SOCKET,
    PREFIX,
    UDPOVERLAYD,
    Cluster,
    Node,
    links_of,
    run_to_end,
    wait_until,
)
from udpoverlay.lab.actions import files
from udpoverlay.lab.hosts import Fabric

pytestmark = [pytest.mark.root, pytest.mark.etcd]

PEER = f"{PREFIX}/subnets/10.5.247.0-24"
"""Past the hundred free subnets that a starting daemon draws from."""
MOMENTS = 30
START_SECONDS = 0.6
"""Longer than a start takes here."""
FEW_DESCRIPTORS = ["sh", "-c", 'ulimit -n 64 && exec "$@"', "sh"]
WITHOUT_NET_ADMIN = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(24, 12, 0, 0, 0) == 0  # PR_CAPBSET_DROP CAP_NET_ADMIN
os.execv(sys.argv[1], sys.argv[1:])
"""
HALF_OPEN = f"""
import socket, time
clients = []
for _ in range(130):
    clients.append(socket.socket(socket.AF_UNIX))
    clients[-1].connect({ADMIN_SOCKET!r})
    clients[-1].send(b"GET /v1/status HTTP/1.1\\r\\n")
print("open", flush=True)
time.sleep(3600)
"""
CHURN = """
import socket, time
from pyroute2 import IPRoute
with IPRoute() as ipr:
    print("churning", flush=True)
    while True:
        ipr.link("add", ifname="a", kind="veth", peer={"ifname": "b"})
        for name in ("a", "b"):
            ipr.link("set", index=socket.if_nametoindex(name), state="up")
        ipr.link("del", index=socket.if_nametoindex("a"))
        time.sleep(1 / 35)
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster("n1") as cluster:
        yield cluster


def add_peer(cluster: Cluster) -> None:
    cluster.etcd.put(PEER, '{"PublicIP":"198.18.0.99","PublicIPv6":null}')


def has_route_to_peer(node: Node) -> bool:
    return bool(node.status()["dataplane"]["routes"] == 1)


def serves(node: Node) -> bool:
    return bool(node.host.call(files.exists, path=ADMIN_SOCKET))


def beside(node: Node, script: str, word: str) -> None:
    """Run a script in the host, until the host ends; returns once it has printed `word`."""
    process = node.host.popen([sys.executable, "-c", script], log="beside.log")
    wait_until(lambda: word in process.log(), f"it says {word}")


def test_unread_log_stops_nothing(cluster: Cluster) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"." * 4096)
    os.set_blocking(writing, True)
    with open(os.devnull, "r+b") as null:
        stdio = (null.fileno(), null.fileno(), writing)
        host = cluster.fabric.hosts["n1"]
        argv = [*UDPOVERLAYD, f"--etcd-endpoints={cluster.etcd.endpoint}", "-v=4"]
        node = Node("n1", host, host.popen(argv, stdio=stdio))
    os.close(writing)
    wait_until(lambda: serves(node), "it serves")
    add_peer(cluster)
    wait_until(lambda: has_route_to_peer(node), "it follows etcd")
    assert node.status()["log_lines_lost"] == 0  # all wait
    node.process.signal(signal.SIGTERM)
    assert run_to_end(node) == 0
    os.close(reading)


def test_log_that_is_read_again_is_whole(cluster: Cluster) -> None:
    reading, writing = os.pipe()
    with open(os.devnull, "r+b") as null:
        host = cluster.fabric.hosts["n1"]
        argv = [*UDPOVERLAYD, f"--etcd-endpoints={cluster.etcd.endpoint}"]
        stdio = (null.fileno(), null.fileno(), writing)
        node = Node("n1", host, host.popen(argv, stdio=stdio))
    os.close(writing)
    wait_until(lambda: serves(node), "it serves")
    assert node.process.stop() == 0
    with open(reading, "rb") as log:
        lines = log.read().decode().splitlines()
    assert "] starting " in lines[0]
    assert sum("] ready subnet=" in line for line in lines) == 1
    assert lines[-1].endswith("] stopped")


def handles_sigterm(node: Node) -> bool:
    status = node.host.call(files.read_text, path=f"/proc/{node.process.pid}/status")
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught & 1 << signal.SIGTERM - 1)


def test_signal_at_random_moments_of_the_start_ends_it_with_0(cluster: Cluster) -> None:
    rng = random.Random(8285)
    for _ in range(MOMENTS):
        node = cluster.spawn("n1")
        while not handles_sigterm(node):  # the interpreter's own first 20 ms
            assert node.process.poll() is None
        time.sleep(rng.uniform(0, START_SECONDS))
        node.process.signal(signal.SIGTERM)
        assert run_to_end(node) == 0, node.process.log()
        assert "flannel0" not in links_of(node.host)
        assert not serves(node)


def test_half_open_admin_requests_starve_nothing(cluster: Cluster) -> None:
    node = cluster.start("n1", program=[*FEW_DESCRIPTORS, *UDPOVERLAYD])
    beside(node, HALF_OPEN, "open")
    assert node.status()["peers"] == 0
    cluster.etcd.stop()
    cluster.etcd.start()
    add_peer(cluster)
    wait_until(lambda: has_route_to_peer(node), "it follows etcd")
    assert node.process.stop() == 0


def test_missing_right_is_told_before_the_registry_is_waited_for(cluster: Cluster) -> None:
    cluster.etcd.stop()
    node = cluster.spawn("n1", program=[sys.executable, "-c", WITHOUT_NET_ADMIN, *UDPOVERLAYD])
    assert run_to_end(node) == 1
    assert node.lines("CAP_NET_ADMIN")


def test_dead_name_server_does_not_delay_the_end(cluster: Cluster) -> None:
    host = cluster.fabric.hosts["n1"]
    host.call(files.write_text, path="/run/resolv.conf", text=f"nameserver {Fabric.GATEWAY}\n")
    assert host.run(["mount", "--bind", "/run/resolv.conf", "/etc/resolv.conf"]) == (0, "")
    with cluster.fabric.switch.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind((Fabric.GATEWAY, 53))
        deaf.settimeout(60)
        node = cluster.spawn("n1", "--etcd-endpoints=http://etcd.example:2379")
        deaf.recv(512)
        began = time.monotonic()
        node.process.signal(signal.SIGTERM)
        assert run_to_end(node) == 0
        assert time.monotonic() - began < 4  # glibc asks for 5 seconds, twice


def test_churn_of_links_leaves_status_quick(cluster: Cluster) -> None:
    node = cluster.start("n1")
    beside(node, CHURN, "churning")
    took = []
    for _ in range(20):
        began = time.monotonic()
        node.status()
        took.append(time.monotonic() - began)
    assert statistics.median(took) < 0.3, took
