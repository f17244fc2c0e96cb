"""The side that takes over: from a daemon that still runs, by its admin socket.

Owns: the order of the steps as seen from here, and that the other goes on when we fail. Must not
know: what a tunnel is made of. The other side: offer.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import struct
from collections.abc import Sequence

from netaddr import IPNetwork

from udpoverlay.backend.base import Offered
from udpoverlay.dataplane.engine import wanted_queues
from udpoverlay.dataplane.features import Features
from udpoverlay.dataplane.recorder import Recorder
from udpoverlay.dataplane.tun import adopt_tun
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.dataplane.udp import Sockets, adopt_udp, open_icmp
from udpoverlay.errors import KernelError, OperatorError
from udpoverlay.handover.offer import PATH
from udpoverlay.log import get_logger
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.legacy import Legacy, LegacyError

__all__ = ["Predecessor", "predecessor"]

_log = get_logger(__name__)

_SECONDS = 10.0
_MOST_BYTES = 64 << 20
_MOST_DESCRIPTORS = 128
_UCRED = struct.Struct("iII")
_LOOK_SECONDS = 0.02
_GONE_LOOKS = 500
_RESTART = "end the running daemon and start this one without --replace"


class Predecessor:
    """See backend.base.Former: a daemon that goes on until we are able."""

    recorder: Recorder | None = None
    """It keeps its own."""

    def __init__(
        self, path: str, legacy: Legacy, descriptors: Sequence[int], settings: DataplaneSettings
    ) -> None:
        self._path = path
        self._legacy = legacy
        self._descriptors = list(descriptors)
        self._settings = settings

    @property
    def bound(self) -> tuple[str, int] | None:
        """Address and port that its socket has."""
        return self._legacy.bind

    async def offer(self, tunnel: Tunnel, network: IPNetwork) -> Offered | None:
        """See backend.base. Raises OperatorError where another device were needed."""
        ours, theirs = tunnel, self._legacy
        if (ours.address, ours.subnet, network) != (theirs.address, theirs.subnet, theirs.network):
            raise OperatorError(
                f"--replace: the running daemon has {theirs.subnet} of {theirs.network}, this one "
                f"would have {ours.subnet} of {network}",
                fix=_RESTART,
            )
        udp, *queues = self._descriptors
        if len(queues) != wanted_queues(self._settings):
            raise OperatorError(
                "--replace: the running daemon's device was made for another number of workers",
                fix=_RESTART,
            )
        try:
            tun = adopt_tun(queues, Features.wanted(self._settings))
        except KernelError as error:
            raise OperatorError(f"--replace: {error.what}", fix=_RESTART) from error
        same = ours.bind == theirs.bind
        sockets = Sockets(adopt_udp(udp, theirs.bind), open_icmp()) if same else None
        os.close(udp)
        self._descriptors.clear()  # the device has the rest
        return Offered(tun, sockets)

    async def release(self) -> Legacy:
        """Let it stop. Raises OperatorError: it goes on."""
        legacy, _, _ = _ask(self._path, "release")
        return _load(legacy)

    async def commit(self) -> None:
        """Let it end, and wait for that: its ports and its socket are ours then."""
        _, _, pid = _ask(self._path, "commit")
        for _ in range(_GONE_LOOKS):
            if not _listens(self._path) and not _lives(pid):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        _log.info("took over from the running daemon", version=self._legacy.version)

    async def aclose(self) -> None:
        """At the end, whatever has become of it."""
        while self._descriptors:
            os.close(self._descriptors.pop())


async def predecessor(path: str, settings: DataplaneSettings) -> Predecessor | None:
    """The daemon behind the admin socket; None: there is none. Raises OperatorError."""
    if not path:
        raise OperatorError(
            "--replace asks the running daemon by its admin socket, and --admin-socket is empty",
            fix="name the running daemon's with --admin-socket",
        )
    if not _listens(path):
        _log.info("nothing to replace: no daemon has the admin socket", path=path)
        return None
    body, descriptors, _ = _ask(path, "offer")
    try:
        legacy = _load(body)
        if len(descriptors) < 2:
            raise OperatorError("--replace: the running daemon sent no descriptors", fix=_RESTART)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return Predecessor(path, legacy, descriptors, settings)


def _load(body: bytes) -> Legacy:
    try:
        return Legacy.load(body)
    except LegacyError as error:
        raise OperatorError(
            f"--replace: what the running daemon leaves: {error}", fix=_RESTART
        ) from (error)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(_SECONDS)
        try:
            sock.connect(path)
        except OSError as error:
            return error.errno not in {errno.ENOENT, errno.ECONNREFUSED}
    return True


def _lives(pid: int) -> bool:
    """Whether there is such a process; 0 is one that we cannot see."""
    return pid > 0 and os.path.exists(f"/proc/{pid}")


def _ask(path: str, step: str) -> tuple[bytes, list[int], int]:
    """One step: the body of the answer, its descriptors (ours), the other's process id.

    Blocks: a thread of the loop's pool would outlive the moment at which we give up our rights.
    Raises OperatorError.
    """
    descriptors: list[int] = []
    data = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(_SECONDS)
            sock.connect(path)
            pid, uid, _ = _UCRED.unpack(
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            )
            if uid not in {0, os.geteuid()}:
                raise OperatorError(f"--replace: admin socket {path!r} is another user's")
            body = json.dumps({"step": step})
            head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            while len(data) < _MOST_BYTES:
                piece, found, _, _ = socket.recv_fds(sock, 1 << 16, _MOST_DESCRIPTORS)
                descriptors += found
                if not piece:
                    break
                data += piece
        head_bytes, _, answer = data.partition(b"\r\n\r\n")
        status = head_bytes.split(b" ", 2)[1:2]
        if status != [b"200"]:
            raise OperatorError(f"--replace: the running daemon refuses: {_reason(answer)}")
        return answer, descriptors, pid
    except (OSError, OperatorError) as error:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        if isinstance(error, OperatorError):
            raise
        raise OperatorError(f"--replace: cannot ask {path!r}: {error}") from error


def _reason(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"])
    except (LookupError, RecursionError, TypeError, ValueError):
        return "it is older than this option" if not answer else "its answer is no JSON"
