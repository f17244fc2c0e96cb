"""The admin socket: HTTP and JSON on a Unix socket that only root can use.

Owns: the socket file, who may ask, and the HTTP face of documents. Must not know: what is in them.

    GET <path>   200 {"schema": 1, …} · 403 not root · 404 no such document · 405 not GET
Errors are {"error": "…"}. The file is 0600 and the caller's uid is checked as well, since the
directory's or a mount's permissions may have been loosened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import web

from udpoverlay.errors import OperatorError

__all__ = ["AdminServer"]

Document = Callable[[], Mapping[str, object]]
"""Builds one JSON object; called in the event loop for each request."""

_UCRED = struct.Struct("iII")
"""struct ucred of SO_PEERCRED: pid, uid, gid (linux/socket.h)."""
_STOP_SECONDS = 1.0
_DIRECTORY_MODE = 0o755
_PROBE_SECONDS = 1.0


class AdminServer:
    """Serves `documents` (URL path → Document) on the Unix socket `path`."""

    def __init__(self, path: str, documents: Mapping[str, Document]) -> None:
        self._path = path
        self._documents = dict(documents)
        self._runner: web.AppRunner | None = None
        self._inode: tuple[int, int] | None = None

    async def start(self) -> None:
        """Listen; raises OperatorError when the socket cannot be had."""
        sock = self._listen()
        app = web.Application(middlewares=[_answer_in_json, _only_root])
        for url, document in self._documents.items():
            app.router.add_get(url, _handler(document), allow_head=False)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=_STOP_SECONDS
        )
        try:
            await self._runner.setup()
            await web.SockSite(self._runner, sock).start()
        except BaseException:
            sock.close()
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop serving and remove the socket file if it is still ours; idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        inode, self._inode = self._inode, None
        if inode is not None:
            with contextlib.suppress(OSError):
                if _identity(self._path) == inode:
                    os.unlink(self._path)

    def _listen(self) -> socket.socket:
        try:
            Path(self._path).parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            self._remove_stale()
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                # The mode of the file is that of the descriptor: nobody can slip in between
                # bind and a later chmod, and the umask of other threads stays as it is.
                os.fchmod(sock.fileno(), stat.S_IRUSR | stat.S_IWUSR)
                sock.bind(self._path)
                sock.listen()
                sock.setblocking(False)
                self._inode = _identity(self._path)
            except BaseException:
                sock.close()
                raise
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OperatorError(
                f"cannot listen on admin-socket {self._path!r}: {reason}"
            ) from error
        return sock

    def _remove_stale(self) -> None:
        """Remove a socket file that a dead process left; refuse anything else that is there."""
        try:
            mode = os.lstat(self._path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise OperatorError(
                f"admin-socket {self._path!r} exists and is not a socket",
                fix="remove it or name another path",
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
            probe.settimeout(_PROBE_SECONDS)
            try:
                probe.connect(self._path)
            except OSError as error:
                if error.errno != errno.ECONNREFUSED:
                    raise
                os.unlink(self._path)
                return
        raise OperatorError(
            f"admin-socket {self._path!r} is in use by another daemon",
            fix="stop it or name another path",
        )


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _handler(document: Document) -> _Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.json_response(document())

    return handle


@web.middleware
async def _answer_in_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPError as error:
        return web.json_response({"error": error.reason}, status=error.status, headers=_kept(error))


def _kept(error: web.HTTPError) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


@web.middleware
async def _only_root(request: web.Request, handler: _Handler) -> web.StreamResponse:
    if _peer_uid(request) not in {0, os.geteuid()}:
        raise web.HTTPForbidden(reason="only root may ask")
    return await handler(request)


def _peer_uid(request: web.Request) -> int:
    transport = request.transport
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None:
        raise web.HTTPForbidden(reason="the connection is gone")
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(credentials)[1]
    return uid
