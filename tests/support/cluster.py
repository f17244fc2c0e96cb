"""Hosts in namespaces with a real etcd and real daemons, and the facts that tests ask of them.

with Cluster("n1", "n2") as cluster:
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)
    assert ping(n1.host, n1.address, n2.address)
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

from netaddr import IPNetwork

from tests.support.patience import DEADLINE
from udpoverlay.lab.actions import files, links, web
from udpoverlay.lab.etcd import Etcd
from udpoverlay.lab.hosts import Fabric, Host, Process

UDPOVERLAYD = [
    sys.executable,
    "-c",
    "import sys; from udpoverlay.cli.entry import udpoverlayd; sys.exit(udpoverlayd())",
]
PREFIX = "/coreos.com/network"
SUBNET_FILE = "/run/flannel/subnet.env"
ADMIN_SOCKET = "/run/udpoverlay/admin.sock"
NETCONF = {"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}


def wait_until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Poll `condition` until it holds; fails with `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


class Readiness:
    """Stands for the service manager: an abstract notification socket inside a host."""

    def __init__(self, host: Host, name: str) -> None:
        self.address = f"@{name}"
        self._socket = host.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name)
        self._socket.setblocking(False)
        self.messages: list[bytes] = []

    def come(self) -> bool:
        """Whether READY=1 has come."""
        try:
            while True:
                self.messages += self._socket.recv(4096).split(b"\n")
        except BlockingIOError:
            return b"READY=1" in self.messages

    def close(self) -> None:
        self._socket.close()


@dataclass
class Node:
    """A daemon that runs (or ran) in a host."""

    name: str
    host: Host
    process: Process
    env: dict[str, str] = field(default_factory=dict)

    def status(self) -> dict[str, Any]:
        """What its admin socket says of it."""
        return self.ask("/v1/status")

    def ask(self, path: str) -> dict[str, Any]:
        """A document of its admin socket."""
        code, body = self.host.call(web.request, address=ADMIN_SOCKET, method="GET", path=path)
        assert code == 200, body
        document: dict[str, Any] = json.loads(body)
        return document

    def counters(self) -> dict[str, int]:
        """Counters of its data path."""
        counters: dict[str, int] = self.status()["dataplane"]["counters"]
        return counters

    @property
    def subnet(self) -> str:
        """As CIDR, e.g. 10.5.72.0/24."""
        return str(IPNetwork(self.env["FLANNEL_SUBNET"]).cidr)

    @property
    def address(self) -> str:
        """Address of the TUN device."""
        return self.subnet.partition("/")[0]

    @property
    def end(self) -> tuple[Host, str]:
        """Where a connection through the overlay begins or ends."""
        return self.host, self.address

    def errors(self) -> list[str]:
        """Lines of its log at level error."""
        return [line for line in self.process.log().splitlines() if line.startswith("E")]

    def lines(self, *words: str) -> list[str]:
        """Lines of its log that hold all `words`."""
        return [
            line for line in self.process.log().splitlines() if all(word in line for word in words)
        ]


class Cluster:
    """Hosts joined by one switch, an etcd in it, and the daemons that were started."""

    def __init__(self, *names: str, netconf: dict[str, Any] | None = None, mtu: int = 1500) -> None:
        self.fabric = Fabric(names, mtu=mtu)
        try:
            self.etcd = Etcd(self.fabric.switch, Fabric.GATEWAY)
            self.etcd.put(f"{PREFIX}/config", json.dumps(netconf or NETCONF))
        except BaseException:
            self.fabric.close()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.fabric.close()

    def spawn(self, name: str, *flags: str, program: list[str] | None = None, **env: str) -> Node:
        """Start a daemon with etcd's address and `flags`, without waiting for anything."""
        argv = [*(program or UDPOVERLAYD), f"--etcd-endpoints={self.etcd.endpoint}", *flags]
        host = self.fabric.hosts[name]
        return Node(name, host, host.popen(argv, env=env, log=f"{name}-{time.monotonic_ns()}.log"))

    def start(self, name: str, *flags: str, program: list[str] | None = None) -> Node:
        """Start a daemon and wait until it has told the service manager that it is ready."""
        readiness = Readiness(self.fabric.hosts[name], f"notify-{time.monotonic_ns()}")
        try:
            node = self.spawn(name, *flags, program=program, NOTIFY_SOCKET=readiness.address)

            def come() -> bool:
                if readiness.come():
                    return True
                status = node.process.poll()
                assert status is None, f"{name} ended with {status}:\n{node.process.log()}"
                return False

            wait_until(come, f"{name} is ready; its log:\n{node.process.log()}")
        finally:
            readiness.close()
        text = node.host.call(files.read_text, path=SUBNET_FILE)
        node.env = dict(line.split("=", 1) for line in text.splitlines())
        return node

    def leases(self) -> dict[str, str]:
        """Keys below <prefix>/subnets/ without that prefix, and their values."""
        prefix = f"{PREFIX}/subnets/"
        return {k.removeprefix(prefix): v for k, v in self.etcd.read(prefix).items()}

    def wait_for_peers(self, *nodes: Node) -> None:
        """Wait until each node's data path has a route to each of the others."""
        for node in nodes:
            wanted = {other.subnet for other in nodes if other is not node}
            wait_until(partial(_knows, node, wanted), f"{node.name} knows {wanted}")


def _knows(node: Node, subnets: set[str]) -> bool:
    return subnets <= peers_of(node)


def peers_of(node: Node) -> set[str]:
    """The subnets that a daemon sends to."""
    return {peer["subnet"] for peer in node.ask("/v1/peers")["peers"]}


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
