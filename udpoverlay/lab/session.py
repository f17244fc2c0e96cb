"""A lab that stays: the process that holds it, and how another one talks to it.

    udpoverlay lab --keep          parent ── fork ── keeper: runs the lab, then serves
    udpoverlay lab exec n1 CMD     {"exec": "n1", "argv": […]} + stdin, stdout, stderr
                                   {"signal": 2} …                ← {"status": 0}
    udpoverlay lab down            {"down": true}                 ← end of the connection
    udpoverlay web --lab           {"folder": "/run/…"}           ← {"nodes": […]} and descriptors

The meeting point is an abstract Unix socket: no file to leave behind, and it goes with the keeper.
Both ends check that the other belongs to the same user. Owns: this protocol. Must not know: what
the lab proved.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from udpoverlay.errors import LabError, OperatorError, UdpOverlayError
from udpoverlay.lab.hosts import Host, Process

__all__ = ["Keeper", "bring_down", "detached", "execute", "folders"]

_MESSAGE = 1 << 16
_UCRED = struct.Struct("iII")
_POLL_SECONDS = 0.5
_MOST_NODES = 100


def _address(uid: int) -> str:
    return f"\0udpoverlay-lab-{uid}"


def _check_owner(connection: socket.socket) -> None:
    """The user id of the other end must be ours, both as our user namespace sees them."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(raw)
    if uid != os.geteuid():
        raise OperatorError("the kept lab belongs to another user")


def detached(work: Callable[[Callable[[int], None]], None]) -> int:
    """Do `work` in a process that stays behind; returns the status that it reports.

    `work` gets a function to be called once with that status; from then on it has no terminal.
    An interrupt before then is passed on and ends it.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child != 0:
        os.close(writer)
        with os.fdopen(reader, "rb") as report:
            while True:
                try:
                    said = report.read(1)
                    break
                except KeyboardInterrupt:
                    os.kill(child, signal.SIGINT)
        return said[0] if said else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def done(status: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.close(nothing)
        os.write(writer, bytes([status]))
        os.close(writer)

    os.close(reader)
    os.setsid()
    status = 1
    try:
        work(done)
        status = 0
    except KeyboardInterrupt:
        status = 130
    except UdpOverlayError as error:
        sys.stderr.write(f"{error}\n")
    finally:
        sys.stderr.flush()
        # Never back into the caller: that is the other process's.
        os._exit(status)


class Keeper:
    """Holds the meeting point; made before the lab, so that a second one is refused early.

    `uid`: the user as the machine sees him, also when we are in a user namespace.
    """

    def __init__(self, uid: int) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._listener.bind(_address(uid))
        except OSError as error:
            self._listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
            raise OperatorError("a lab is being kept already", fix="udpoverlay lab down") from None

    def serve(self, hosts: Mapping[str, Host]) -> None:
        """Answer until asked to bring the lab down."""
        down = threading.Event()
        self._listener.listen()
        threading.Thread(target=self._accept, args=(hosts, down), daemon=True).start()
        down.wait()

    def _accept(self, hosts: Mapping[str, Host], down: threading.Event) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(
                target=self._answer, args=(connection, hosts, down), daemon=True
            ).start()

    @staticmethod
    def _answer(
        connection: socket.socket, hosts: Mapping[str, Host], down: threading.Event
    ) -> None:
        # The connection of `down` is not closed here but by our end: that tells the other side.
        try:
            _check_owner(connection)
            data, stdio, _, _ = socket.recv_fds(connection, _MESSAGE, 3)
            request: dict[str, Any] = json.loads(data)
            if "down" in request:
                down.set()
                return
            if "folder" in request:
                _open(connection, hosts, request["folder"])
                connection.close()
                return
            status = _run(connection, hosts, request, stdio)
            connection.send(json.dumps({"status": status}).encode())
        except (OSError, UdpOverlayError, ValueError) as error:
            with contextlib.suppress(OSError):
                connection.send(json.dumps({"error": str(error)}).encode())
        connection.close()


def _open(connection: socket.socket, hosts: Mapping[str, Host], folder: str) -> None:
    """Send a descriptor of that folder in each node: it leads there from any namespace."""
    found: dict[str, int] = {}
    try:
        for name, host in hosts.items():
            found[name] = host.folder(folder)
        reply = json.dumps({"nodes": list(found)}).encode()
        socket.send_fds(connection, [reply], list(found.values()))
    finally:
        for descriptor in found.values():
            os.close(descriptor)


def _run(
    connection: socket.socket,
    hosts: Mapping[str, Host],
    request: Mapping[str, Any],
    stdio: Sequence[int],
) -> int:
    """Run one command to its end; signals are passed on, and a caller that is gone ends it."""
    try:
        host = hosts.get(request["exec"])
        if host is None:
            raise OperatorError(
                f"no node {request['exec']!r} in this lab", fix=f"one of {', '.join(hosts)}"
            )
        process = host.popen(
            request["argv"], stdio=(stdio[0], stdio[1], stdio[2]), cwd=request["cwd"]
        )
    finally:
        for descriptor in stdio:
            os.close(descriptor)
    threading.Thread(target=_pass_signals, args=(connection, process), daemon=True).start()
    while True:
        status = process.wait(_POLL_SECONDS)
        if status is not None:
            return status


def _pass_signals(connection: socket.socket, process: Process) -> None:
    while True:
        try:
            data = connection.recv(_MESSAGE)
        except OSError:
            data = b""
        with contextlib.suppress(LabError):
            process.signal(json.loads(data)["signal"] if data else signal.SIGHUP)
        if not data:
            return


def _connect() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(_address(os.geteuid()))
        _check_owner(connection)
    except ConnectionRefusedError:
        connection.close()
        raise OperatorError("no lab is being kept", fix="udpoverlay lab --keep") from None
    except BaseException:
        connection.close()
        raise
    return connection


def execute(node: str, argv: Sequence[str]) -> int:
    """Run a command in a node of the kept lab on our own stdio; returns its exit status."""
    with _connect() as connection:
        request = {"exec": node, "argv": list(argv), "cwd": str(Path.cwd())}
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        while True:
            try:
                data = connection.recv(_MESSAGE)
                break
            except KeyboardInterrupt:
                connection.send(json.dumps({"signal": signal.SIGINT}).encode())
    if not data:
        raise LabError("the lab was brought down")
    reply: dict[str, Any] = json.loads(data)
    if "error" in reply:
        raise LabError(reply["error"])
    status: int = reply["status"]
    # As a shell: 128 and the number of the signal.
    return 128 - status if status < 0 else status


def folders(path: str) -> dict[str, int]:
    """A descriptor (O_PATH) of the folder `path` in each node of the kept lab; the caller's."""
    with _connect() as connection:
        connection.send(json.dumps({"folder": path}).encode())
        data, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE, _MOST_NODES)
    if not data:
        raise LabError("the lab was brought down")
    reply: dict[str, Any] = json.loads(data)
    if "error" in reply:
        raise LabError(reply["error"])
    return dict(zip(reply["nodes"], descriptors, strict=True))


def bring_down() -> None:
    """End the kept lab; it is gone when this returns."""
    with _connect() as connection:
        connection.send(json.dumps({"down": True}).encode())
        with contextlib.suppress(ConnectionResetError):
            connection.recv(_MESSAGE)
