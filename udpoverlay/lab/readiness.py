"""Stands for the service manager: waits until a daemon says that it is ready (sd_notify(3)).

Owns: the notification socket. Must not know: which daemon.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

from udpoverlay.errors import LabError
from udpoverlay.lab.hosts import Host
from udpoverlay.lab.node import Node

__all__ = ["Readiness", "start"]

_SECONDS = 60.0
_POLL_SECONDS = 0.02


class Readiness:
    """An abstract notification socket inside a host."""

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
        """Close the socket; a daemon that still sends gets an error."""
        self._socket.close()


@contextlib.contextmanager
def _readiness(host: Host) -> Iterator[Readiness]:
    made = Readiness(host, f"notify-{time.monotonic_ns()}")
    try:
        yield made
    finally:
        made.close()


def start(host: Host, spawn: Callable[[str], Node], seconds: float = _SECONDS) -> Node:
    """The node that `spawn(NOTIFY_SOCKET)` began, once it is ready.

    LabError (with its log) when it ends or is not ready in time.
    """
    with _readiness(host) as readiness:
        node = spawn(readiness.address)
        deadline = time.monotonic() + seconds
        while not readiness.come():
            status = node.process.poll()
            if status is not None:
                raise LabError(
                    f"{node.name} ended with status {status}", details=node.process.log()
                )
            if time.monotonic() > deadline:
                raise LabError(
                    f"{node.name} is not ready after {seconds:g} s", details=node.process.log()
                )
            time.sleep(_POLL_SECONDS)
    node.read_subnet_file()
    return node
