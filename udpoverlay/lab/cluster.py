"""A cluster on this machine: a fabric, an etcd, one overlay daemon a host, and pods' addresses.

Owns: which files and flags tell that a daemon is ready. The daemon is started as anybody would,
with flanneld's flags, and known only by its files and its admin socket. Must not know: tests.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from udpoverlay.errors import KernelError, LabError
from udpoverlay.lab.actions import files, links, web
from udpoverlay.lab.etcd import Etcd
from udpoverlay.lab.hosts import Fabric, Host, Process
from udpoverlay.lab.traffic import End, Pair, icmp_trips

__all__ = ["Cluster", "Node", "Overlay", "Program", "flanneld", "udpoverlayd"]

PREFIX = "/coreos.com/network"
NETWORK = "10.244.0.0/16"
SUBNET_FILE = "/run/flannel/subnet.env"
ADMIN_SOCKET = "/run/udpoverlay/admin.sock"
POD_BRIDGE = "cni0"
_READY_SECONDS = 60.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02
_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Program:
    """An overlay daemon that takes flanneld's flags."""

    name: str
    argv: tuple[str, ...]
    has_admin_socket: bool


def udpoverlayd(*flags: str) -> Program:
    """Our daemon: the installed command, or this very package where it is not installed."""
    installed = Path(sys.executable).parent / "udpoverlayd"
    if installed.exists():
        return Program("udpoverlayd", (str(installed), *flags), True)
    return Program("udpoverlayd", (sys.executable, "-m", "udpoverlay.cli", "daemon", *flags), True)


def flanneld(*flags: str) -> Program | None:
    """The original, None where it is not on PATH."""
    found = shutil.which("flanneld")
    return None if found is None else Program("flanneld", (found, *flags), False)


@dataclass(slots=True)
class Node:
    """A host with its daemon; what the daemon chose is known once it is ready."""

    name: str
    host: Host
    public_ip: str
    daemon: Process
    subnet: str = ""
    """FLANNEL_SUBNET: the pods' gateway address with the length of the subnet."""
    mtu: int = 0

    @property
    def end(self) -> End:
        """A pod's side of a test."""
        return End(self.host, self.subnet.partition("/")[0])

    def admin(self, path: str) -> dict[str, Any]:
        """A document of the admin socket."""
        status, body = self.host.call(web.request, address=ADMIN_SOCKET, method="GET", path=path)
        if status != 200:
            raise LabError(f"{self.name}: admin socket answered {path} with {status}: {body}")
        document: dict[str, Any] = json.loads(body)
        return document

    def counters(self) -> dict[str, int]:
        """Verdicts and counters of the data plane."""
        counters: dict[str, int] = self.admin("/v1/counters")["dataplane"]
        return counters

    def last_lines(self, count: int = _LOG_LINES) -> str:
        """The end of the daemon's log."""
        return "\n".join(self.daemon.log().splitlines()[-count:])


class Overlay:
    """A daemon on each of `hosts`, ready when the constructor returns.

    `hosts` are named and come with their public IP; the network lives in `etcd` under `prefix`.
    LabError (with the last lines of the log) when a daemon does
    not get ready. Ends with its hosts, or orderly with `stop`.
    """

    def __init__(
        self,
        hosts: Mapping[str, tuple[Host, str]],
        etcd: Etcd,
        program: Program,
        *,
        prefix: str = PREFIX,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.program = program
        self.nodes: dict[str, Node] = {}
        etcd.put(f"{prefix}/config", json.dumps({"Network": NETWORK}))
        report(f"a {program.name} on each host")
        argv = [*program.argv, f"--etcd-endpoints={etcd.endpoint}"]
        if prefix != PREFIX:
            argv.append(f"--etcd-prefix={prefix}")
        for name, (host, public_ip) in hosts.items():
            daemon = host.popen(argv, log="daemon.log")
            self.nodes[name] = Node(name, host, public_ip, daemon)
        report("leases and routes")
        for node in self.nodes.values():
            self._await_subnet(node)
            self._add_pods(node)
        for node in self.nodes.values():
            self._await_routes(node)

    def _await(self, node: Node, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not condition():
            status = node.daemon.poll()
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
        text: str = node.host.call(files.read_text, path=SUBNET_FILE)
        values = dict(line.split("=", 1) for line in text.splitlines())
        node.subnet = values["FLANNEL_SUBNET"]
        node.mtu = int(values["FLANNEL_MTU"])

    def _add_pods(self, node: Node) -> None:
        """The bridge that a CNI plugin or Docker would make from the subnet file."""
        address, _, length = node.subnet.partition("/")
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
            return int(node.admin("/v1/status")["dataplane"]["routes"])
        except KernelError:  # the socket is not there yet
            return -1

    def stop(self) -> None:
        """Stop the daemons all at once, as a service manager would; they remove what they made."""
        for node in self.nodes.values():
            node.daemon.signal(signal.SIGTERM)
        for node in self.nodes.values():
            # A second SIGTERM would end one that is still cleaning up.
            if node.daemon.wait(_STOP_SECONDS) is None:
                node.daemon.stop(0)


class Cluster:
    """`names` hosts, a switch, an etcd and an overlay, ready when the constructor returns.

    `report` is called with each step in a few words. When one fails, nothing is left.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        program: Program,
        offload: bool = True,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            report("hosts and links")
            self.fabric = self._stack.enter_context(Fabric(names, offload=offload))
            report("etcd")
            self.etcd = Etcd(self.fabric.switch, Fabric.GATEWAY)
            hosts = {
                name: (host, self.fabric.address(name)) for name, host in self.fabric.hosts.items()
            }
            self.overlay = Overlay(hosts, self.etcd, program, report=report)
            undo.pop_all()

    @property
    def program(self) -> Program:
        """The daemon that runs on every host."""
        return self.overlay.program

    @property
    def nodes(self) -> dict[str, Node]:
        """The hosts with what their daemons chose."""
        return self.overlay.nodes

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
    pair = Pair(node.end, peer.end)
    return icmp_trips(pair, size=56, count=1, pause=0)["answered"] == 1
