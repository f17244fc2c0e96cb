"""A host with an overlay daemon in it, and what the daemon tells of itself.

Owns: which files and sockets a daemon is known by. It is started as an operator would, with
flanneld's flags. Must not know: other nodes, tests.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netaddr import IPNetwork

from udpoverlay.errors import LabError
from udpoverlay.lab.actions import files, web
from udpoverlay.lab.hosts import Host, Process
from udpoverlay.lab.traffic import End

__all__ = ["ADMIN_SOCKET", "SUBNET_FILE", "Node", "Program", "flanneld", "udpoverlayd"]

SUBNET_FILE = "/run/flannel/subnet.env"
ADMIN_SOCKET = "/run/udpoverlay/admin.sock"
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
    """A daemon that runs (or ran) in a host; `env` is known once it is ready."""

    name: str
    host: Host
    process: Process
    public_ip: str = ""
    env: dict[str, str] = field(default_factory=dict)
    """The subnet file's values."""

    def read_subnet_file(self, path: str = SUBNET_FILE) -> None:
        """Take in what the daemon chose."""
        text = self.host.call(files.read_text, path=path)
        self.env = dict(line.split("=", 1) for line in text.splitlines())

    @property
    def gateway(self) -> str:
        """The pods' gateway address with the length of the subnet, for example 10.5.72.1/24."""
        return self.env["FLANNEL_SUBNET"]

    @property
    def subnet(self) -> str:
        """For example 10.5.72.0/24."""
        return str(IPNetwork(self.gateway).cidr)

    @property
    def address(self) -> str:
        """Of the TUN device."""
        return self.subnet.partition("/")[0]

    @property
    def mtu(self) -> int:
        """Of the TUN device, in bytes."""
        return int(self.env["FLANNEL_MTU"])

    @property
    def end(self) -> End:
        """The host's own side of a connection through the overlay."""
        return End(self.host, self.address)

    @property
    def pod_end(self) -> End:
        """A pod's side: the address of the pods' bridge."""
        return End(self.host, self.gateway.partition("/")[0])

    # ------------------------------------------------------------------ what it says

    def ask(self, path: str) -> dict[str, Any]:
        """A document of its admin socket."""
        status, body = self.host.call(web.request, address=ADMIN_SOCKET, method="GET", path=path)
        if status != 200:
            raise LabError(f"{self.name}: admin socket answered {path} with {status}: {body}")
        document: dict[str, Any] = json.loads(body)
        return document

    def status(self) -> dict[str, Any]:
        """What it knows about itself."""
        return self.ask("/v1/status")

    def counters(self) -> dict[str, int]:
        """Verdicts and counters of the data plane."""
        counters: dict[str, int] = self.ask("/v1/counters")["dataplane"]
        return counters

    def peers(self) -> set[str]:
        """The subnets of the other hosts that it knows."""
        return {peer["subnet"] for peer in self.ask("/v1/peers")["peers"]}

    def errors(self) -> list[str]:
        """Lines of its log at level error."""
        return [line for line in self.process.log().splitlines() if line.startswith("E")]

    def lines(self, *words: str) -> list[str]:
        """Lines of its log that hold all `words`."""
        return [
            line for line in self.process.log().splitlines() if all(word in line for word in words)
        ]

    def last_lines(self, count: int = _LOG_LINES) -> str:
        """The end of its log."""
        return "\n".join(self.process.log().splitlines()[-count:])
