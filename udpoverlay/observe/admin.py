"""The admin socket: HTTP and JSON on a Unix socket that only root can use.

Owns: the socket file, who may ask, and the HTTP face of documents and actions. Must not know: what
is in them, or how HTTP is spoken (http.py).

    GET <path>   200 {"schema": 1, …} · 403 not root · 404 no such document · 405 another method
                 200 a line of JSON after the other, where it is a stream · 400 a wrong query
    POST <path>  the same, when it was done · 400 no JSON, or the reason why it was not done
Errors are {"error": "…"}. The file is 0600 and the caller's uid is checked as well, since the
directory's or a mount's permissions may have been loosened.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from udpoverlay.errors import OperatorError, UdpOverlayError
from udpoverlay.log import get_logger
from udpoverlay.observe.http import HttpError, HttpServer, Limits, Request, Response, Stream

__all__ = ["AdminServer", "Handlers", "Streams", "admin_socket"]

_log = get_logger(__name__)

Document = Callable[[], Mapping[str, object]]
"""Builds one JSON object; called in the event loop for each request."""
Action = Callable[[object], Mapping[str, object]]
"""Does what a JSON value asks for; what is so then. Raises UdpOverlayError."""

Handlers = Mapping[str, Callable[[Request], Awaitable[Response]]]
"""URL path → what answers a POST with more than a document; it may raise HttpError."""

Streams = Mapping[str, Callable[[Mapping[str, str]], Stream]]
"""URL path → what makes a stream of a query's parameters; it may raise HttpError."""

_MOST_PARAMETERS = 8
_DIRECTORY_MODE = 0o755
_PROBE_SECONDS = 1.0


class AdminServer:
    """Serves `documents` and `streams`, does `actions`; each by its URL's path, on the socket."""

    def __init__(  # noqa: PLR0913 - each kind of answer
        self,
        path: str,
        documents: Mapping[str, Document],
        limits: Limits | None = None,
        *,
        actions: Mapping[str, Action] | None = None,
        streams: Streams | None = None,
        handlers: Handlers | None = None,
    ) -> None:
        self._path = path
        self._documents = dict(documents)
        self._actions = dict(actions or {})
        self._streams = dict(streams or {})
        self._handlers = dict(handlers or {})
        self._limits = limits
        self._server: HttpServer | None = None
        self._inode: tuple[int, int] | None = None

    async def start(self) -> None:
        """Listen; raises OperatorError when the socket cannot be had."""
        sock = self._listen()
        self._server = HttpServer(self._answer, _error_page, self._limits)
        self._server.listen(sock)

    async def stop(self) -> None:
        """Stop serving and remove the socket file if it is still ours; idempotent."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()
        inode, self._inode = self._inode, None
        if inode is not None:
            with contextlib.suppress(OSError):
                if _identity(self._path) == inode:
                    os.unlink(self._path)

    async def _answer(self, request: Request) -> Response | Stream:
        if request.uid not in {0, os.geteuid()}:
            raise HttpError(403, "only root may ask")
        if (handler := self._handlers.get(request.path)) is not None:
            if request.method != "POST":
                raise HttpError(405, "Method Not Allowed", ("Allow", "POST"))
            return await handler(request)
        document = self._documents.get(request.path)
        action = self._actions.get(request.path)
        stream = self._streams.get(request.path)
        if document is None and action is None and stream is None:
            raise HttpError(404, "Not Found")
        if request.method == "GET" and document is not None:
            return Response.json(document())
        if request.method == "GET" and stream is not None:
            return stream(_parameters(request.query))
        if request.method == "POST" and action is not None:
            return Response.json(_done(action, request.body))
        known = (("GET", document or stream), ("POST", action))
        allowed = [name for name, found in known if found]
        raise HttpError(405, "Method Not Allowed", ("Allow", ", ".join(allowed)))

    def _listen(self) -> socket.socket:
        try:
            Path(self._path).parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            self._remove_stale()
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                # The mode of the file is that of the descriptor: no connection can slip in between
                # bind and a later chmod, and the umask of other threads stays as it is.
                os.fchmod(sock.fileno(), stat.S_IRUSR | stat.S_IWUSR)
                sock.bind(self._path)
                sock.listen()
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


def _done(action: Action, body: bytes) -> Mapping[str, object]:
    try:
        wanted = json.loads(body)
    except (ValueError, RecursionError):
        raise HttpError(400, "the body is no JSON") from None
    try:
        return action(wanted)
    except UdpOverlayError as error:
        raise HttpError(400, str(error)) from error


def _parameters(query: str) -> dict[str, str]:
    """Of a query, each once. Raises HttpError."""
    try:
        pairs = urllib.parse.parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError as error:
        raise HttpError(400, f"no query: {error}") from error
    found = dict(pairs)
    if len(found) < len(pairs):
        raise HttpError(400, "a parameter may stand once")
    return found


def _error_page(status: int, reason: str) -> Response:
    return Response.json({"error": reason}, status)


@contextlib.asynccontextmanager
async def admin_socket(
    path: str,
    documents: Mapping[str, Document],
    actions: Mapping[str, Action],
    streams: Streams,
    handlers: Handlers | None = None,
) -> AsyncIterator[None]:
    """Let others look in ("" for a path: do not); without its socket a daemon still works."""
    server = AdminServer(path, documents, actions=actions, streams=streams, handlers=handlers)
    if path:
        try:
            await server.start()
        except OperatorError as error:
            _log.warning("no admin socket", reason=str(error))
    try:
        yield
    finally:
        await server.stop()
