"""A cluster on this machine: a fabric, an etcd, one overlay daemon a host, and pods' addresses.

Owns: when an overlay is ready: each daemon has a subnet, and a route to each other. Must not know:
tests.

    with Cluster("n1", "n2") as cluster:
        n1, n2 = cluster.start("n1"), cluster.start("n2")   one by one, with flags of their own
        cluster.wait_for_peers(n1, n2)

    with Cluster("n1", "n2") as cluster:
        nodes = cluster.overlay(udpoverlayd()).nodes         on every host, with pods' addresses
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, ClassVar

from udpoverlay.errors import KernelError, LabError
from udpoverlay.lab.actions import files, links
from udpoverlay.lab.etcd import Etcd
from udpoverlay.lab.hosts import Fabric, Host
from udpoverlay.lab.node import SUBNET_FILE, Node, Program, udpoverlayd
from udpoverlay.lab.readiness import start
from udpoverlay.lab.traffic import Pair, icmp_trips

__all__ = ["Cluster", "Overlay"]

PREFIX = "/coreos.com/network"
NETWORK = "10.244.0.0/16"
POD_BRIDGE = "cni0"
_READY_SECONDS = 60.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02


class Overlay:
    """A daemon on each of `hosts`, ready when the constructor returns.

    `hosts` are named and come with their public IP; the network lives in `etcd` under `prefix`.
    LabError (with the last lines of the log) when a daemon does
    not get ready. Ends with its hosts, or orderly with `stop`.
    """

    def __init__(  # noqa: PLR0913 - its surroundings are its parameters
        self,
        hosts: Mapping[str, tuple[Host, str]],
        etcd: Etcd,
        program: Program,
        *,
        prefix: str = PREFIX,
        netconf: Mapping[str, Any] | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.program = program
        self.nodes: dict[str, Node] = {}
        etcd.put(f"{prefix}/config", json.dumps(netconf or {"Network": NETWORK}))
        report(f"a {program.name} on each host")
        argv = [*program.argv, f"--etcd-endpoints={etcd.endpoint}"]
        if prefix != PREFIX:
            argv.append(f"--etcd-prefix={prefix}")
        for name, (host, public_ip) in hosts.items():
            process = host.popen(argv, log="daemon.log")
            self.nodes[name] = Node(name, host, process, public_ip)
        report("leases and routes")
        for node in self.nodes.values():
            self._await_subnet(node)
            self._add_pods(node)
        for node in self.nodes.values():
            self._await_routes(node)

    def _await(self, node: Node, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not condition():
            status = node.process.poll()
            if status is not None:
                raise LabError(
                    f"{node.name}: {self.program.name} ended with status {status}",
                    details=node.last_lines(),
                )
            if time.monotonic() > deadline:
                raise LabError(
                    f"{node.name}: no {what} after {_READY_SECONDS:g} s",
                    details=node.last_lines(),
                )
            time.sleep(_POLL_SECONDS)

    def _await_subnet(self, node: Node) -> None:
        self._await(
            node,
            SUBNET_FILE,
            lambda: bool(node.host.call(files.exists, path=SUBNET_FILE)),
        )
        node.read_subnet_file()

    def _add_pods(self, node: Node) -> None:
        """The bridge that a CNI plugin or Docker would make from the subnet file."""
        address, _, length = node.gateway.partition("/")
        node.host.call(links.add_bridge, name=POD_BRIDGE, mtu=node.mtu)
        node.host.call(links.add_address, name=POD_BRIDGE, address=address, prefix_len=int(length))

    def _await_routes(self, node: Node) -> None:
        peers = [other for other in self.nodes.values() if other is not node]
        if self.program.has_admin_socket:
            self._await(node, f"{len(peers)} routes", lambda: self._routes(node) >= len(peers))
            return
        for peer in peers:
            self._await(node, f"answer from {peer.name}", partial(_answers, node, peer))

    @staticmethod
    def _routes(node: Node) -> int:
        try:
            return int(node.status()["dataplane"]["routes"])
        except KernelError:  # the socket is not there yet
            return -1

    def stop(self) -> None:
        """Stop the daemons all at once, as a service manager would; they remove what they made."""
        for node in self.nodes.values():
            node.process.signal(signal.SIGTERM)
        for node in self.nodes.values():
            # A second SIGTERM would end one that is still cleaning up.
            if node.process.wait(_STOP_SECONDS) is None:
                node.process.stop(0)


class Cluster:
    """`names` hosts, a switch and an etcd, ready when the constructor returns; no daemon yet.

    `report` is called with each step in a few words. When one fails, nothing is left.
    """

    daemon: ClassVar[Sequence[str]] = udpoverlayd().argv
    """What `spawn` starts unless another program is named."""

    def __init__(
        self,
        *names: str,
        netconf: Mapping[str, Any] | None = None,
        mtu: int = 1500,
        offload: bool = True,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._netconf = netconf or {"Network": NETWORK}
        self._report = report
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            report("hosts and links")
            self.fabric = self._stack.enter_context(Fabric(names, mtu=mtu, offload=offload))
            report("etcd")
            self.etcd = Etcd(self.fabric.switch, Fabric.GATEWAY)
            self.etcd.put(f"{PREFIX}/config", json.dumps(self._netconf))
            undo.pop_all()

    def overlay(self, program: Program) -> Overlay:
        """Start `program` on every host; see Overlay."""
        hosts = {
            name: (host, self.fabric.address(name)) for name, host in self.fabric.hosts.items()
        }
        return Overlay(hosts, self.etcd, program, netconf=self._netconf, report=self._report)

    # ------------------------------------------------------------------ one by one

    def spawn(
        self, name: str, *flags: str, program: Sequence[str] | None = None, **env: str
    ) -> Node:
        """Start a daemon with etcd's address and `flags`, without waiting for anything."""
        argv = [*(program or self.daemon), f"--etcd-endpoints={self.etcd.endpoint}", *flags]
        host = self.fabric.hosts[name]
        process = host.popen(argv, env=env, log=f"{name}-{time.monotonic_ns()}.log")
        return Node(name, host, process, self.fabric.address(name))

    def start(self, name: str, *flags: str, program: Sequence[str] | None = None) -> Node:
        """Start a daemon and wait until it has told the service manager that it is ready."""
        return start(
            self.fabric.hosts[name],
            lambda notify: self.spawn(name, *flags, program=program, NOTIFY_SOCKET=notify),
        )

    def leases(self) -> dict[str, str]:
        """Keys below <prefix>/subnets/ without that prefix, and their values."""
        prefix = f"{PREFIX}/subnets/"
        return {k.removeprefix(prefix): v for k, v in self.etcd.read(prefix).items()}

    @staticmethod
    def wait_for_peers(*nodes: Node) -> None:
        """Wait until each node's data path has a route to each of the others."""
        deadline = time.monotonic() + _READY_SECONDS
        for node in nodes:
            wanted = {other.subnet for other in nodes if other is not node}
            while not wanted <= node.peers():
                if time.monotonic() > deadline:
                    raise LabError(
                        f"{node.name} does not know {wanted} after {_READY_SECONDS:g} s",
                        details=node.last_lines(),
                    )
                time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """End everything; idempotent."""
        self._stack.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _answers(node: Node, peer: Node) -> bool:
    pair = Pair(node.pod_end, peer.pod_end)
    return icmp_trips(pair, size=56, count=1, pause=0)["answered"] == 1
