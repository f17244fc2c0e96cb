"""The lab's cluster as tests use it: daemons from this tree, and the facts that are asked of them.

with Cluster("n1", "n2") as cluster:
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)
    assert ping(n1.host, n1.address, n2.address)
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.support.patience import DEADLINE
from udpoverlay.lab import cluster
from udpoverlay.lab.actions import links
from udpoverlay.lab.cluster import PREFIX
from udpoverlay.lab.hosts import Host
from udpoverlay.lab.node import ADMIN_SOCKET, SUBNET_FILE, Node
from udpoverlay.lab.readiness import Readiness, start

__all__ = [
    "ADMIN_SOCKET",
    "NETCONF",
    "PREFIX",
    "SUBNET_FILE",
    "UDPOVERLAYD",
    "Cluster",
    "Node",
    "Readiness",
    "links_of",
    "run_to_end",
    "start",
    "wait_until",
]

UDPOVERLAYD = [
    sys.executable,
    "-c",
    "import sys; from udpoverlay.cli.entry import udpoverlayd; sys.exit(udpoverlayd())",
]
"""From the working directory: an installed command would be another tree's, in a mutant's."""
NETCONF = {"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}


def wait_until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Poll `condition` until it holds; fails with `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


class Cluster(cluster.Cluster):
    """Hosts joined by one switch, an etcd in it, and the daemons that were started."""

    daemon = UDPOVERLAYD

    def __init__(self, *names: str, netconf: dict[str, Any] | None = None, mtu: int = 1500) -> None:
        super().__init__(*names, netconf=netconf or NETCONF, mtu=mtu)

    def __enter__(self) -> Cluster:
        return self


def links_of(host: Host) -> dict[str, dict[str, Any]]:
    """The host's links by name."""
    return {link["name"]: link for link in host.call(links.links)}


def run_to_end(node: Node, seconds: float = DEADLINE) -> int:
    """Exit status of a daemon that ends by itself."""
    status = node.process.wait(seconds)
    if status is None:
        node.process.signal(signal.SIGKILL)
        raise AssertionError(f"{node.name} still runs after {seconds} s:\n{node.process.log()}")
    return status
