"""One small HTTP/1.1 server for all that can be asked of a program: over Unix sockets and TCP.

Owns: connections, how many and how long, and the parser (h11, whose only user this is). Must not
know: what is asked, and who may ask.

    accept ─► head, body ─► answer(request) ─► response ─► the next request, or the end
      │        request_seconds                 response_seconds
      └─ no room: the connection that has waited longest for its request goes

Connections cost descriptors, which a registry needs more. So there are few, and a client that
takes long to ask makes room for the next: half-open requests keep no other client out.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11

from udpoverlay.log import RateLimited, get_logger

__all__ = ["HttpError", "HttpServer", "Limits", "Request", "Response", "Stream", "tcp_listener"]

_log = get_logger(__name__)

_RECEIVE_BYTES = 1 << 14
_UCRED = struct.Struct("iII")
"""struct ucred of SO_PEERCRED: pid, uid, gid (linux/socket.h)."""
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server spends on its clients."""

    connections: int = 32
    """At most; fewer where the process has few descriptors."""
    head_bytes: int = 8192
    body_bytes: int = 1 << 16
    request_seconds: float = 5.0
    """From accept, or the last response, to the end of a request."""
    response_seconds: float = 10.0
    """For the client to take a response."""
    linger_seconds: float = 1.0
    """For a client to see why it was refused, before what it still sends resets the connection."""
    accept_again_seconds: float = 0.5
    """Pause after the process had no descriptor for a connection."""
    stop_seconds: float = 1.0
    """For requests that are being answered when the server stops."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole."""

    method: str
    path: str
    """Without the query."""
    query: str = ""
    """As sent, without the question mark."""
    body: bytes = b""
    uid: int | None = None
    """The user at the other end of a Unix socket; None over TCP."""
    host: str = ""
    """As the client wrote it in its Host header: hostile."""


@dataclass(frozen=True, slots=True)
class Response:
    """One response, whole."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    descriptors: tuple[int, ...] = ()
    """Sent along over a Unix socket (SCM_RIGHTS); they stay the caller's."""

    @classmethod
    def text(cls, status: int, text: str) -> Response:
        """Plain text."""
        return cls(status, text.encode())

    @classmethod
    def json(cls, document: object, status: int = 200) -> Response:
        """One JSON value."""
        return cls(status, json.dumps(document).encode(), "application/json; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Stream:
    """A response that goes on, piece by piece; the connection ends with it.

    Each piece must be taken within `response_seconds`. `pieces` is closed when the client goes.
    """

    content_type: str
    pieces: AsyncGenerator[bytes, None]
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class HttpError(Exception):
    """Answer with an error: `status`, and `reason` as a person reads it."""

    def __init__(self, status: int, reason: str, *headers: tuple[str, str]) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


Answer = Callable[[Request], Awaitable[Response | Stream]]
"""May raise HttpError."""
ErrorPage = Callable[[int, str], Response]
"""What an error looks like, from its status and reason."""


class HttpServer:
    """Answers requests on the sockets it is given, in the running event loop."""

    def __init__(
        self, answer: Answer, error_page: ErrorPage = Response.text, limits: Limits | None = None
    ) -> None:
        self._answer = answer
        self._error_page = error_page
        self._limits = limits if limits is not None else Limits()
        self._room = min(self._limits.connections, max(1, _descriptors() // 8))
        self._listeners: dict[socket.socket, asyncio.TimerHandle | None] = {}
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        """The one that has waited longest for its request comes first."""
        self._report = RateLimited(_log, asyncio.get_running_loop().time, per_minute=1)

    def listen(self, listener: socket.socket) -> None:
        """Serve a listening socket, and own it from here."""
        listener.setblocking(False)
        self._listeners[listener] = None
        self._watch(listener)

    async def stop(self) -> None:
        """Take no more connections, end those that are idle, let answers finish. Idempotent."""
        loop = asyncio.get_running_loop()
        for listener, pause in self._listeners.items():
            if pause is not None:
                pause.cancel()
            loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        for connection, task in self._connections.items():
            if connection.waits or connection.streams:
                task.cancel()
        tasks = set(self._connections.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._limits.stop_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # --- connections in and out

    def _watch(self, listener: socket.socket) -> None:
        self._listeners[listener] = None
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _pause(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        self._listeners[listener] = loop.call_later(
            self._limits.accept_again_seconds, self._watch, listener
        )

    def _accept(self, listener: socket.socket) -> None:
        """Take one connection; the rest stay in the kernel's queue until the next turn."""
        if len(self._connections) >= self._room and not self._make_room():
            self._pause(listener)
            return
        if len(self._connections) >= self._room:
            return  # a slot is about to be free
        try:
            accepted, _ = listener.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._report.warning(
                    "accept", "no room for a connection", reason=os.strerror(error.errno or 0)
                )
                self._make_room()
                self._pause(listener)
            return  # else it was gone before we came
        accepted.setblocking(False)
        connection = _Connection(accepted, self._limits)
        task = asyncio.ensure_future(self._serve(connection))
        self._connections[connection] = task
        task.add_done_callback(lambda _: self._gone(connection))

    def _gone(self, connection: _Connection) -> None:
        connection.close()  # also where its task was cancelled before it began
        self._connections.pop(connection, None)

    def _make_room(self) -> bool:
        """End the connection that has waited longest for its request; false when none waits."""
        for connection, task in self._connections.items():
            if connection.leaves:
                return True
            if connection.waits:
                connection.leaves = True
                task.cancel()
                return True
        return False

    # --- one connection

    async def _serve(self, connection: _Connection) -> None:
        try:
            while True:
                try:
                    request = await connection.request()
                    if request is None:
                        return
                    response: Response | Stream = await self._response(request)
                except h11.RemoteProtocolError as error:
                    response = self._error_page(error.error_status_hint, str(error))
                except HttpError as error:
                    response = self._refusal(error)
                if isinstance(response, Stream):
                    await connection.stream(response)
                    return
                if not await connection.respond(response):
                    return
                # Last in the order of those who wait.
                self._connections[connection] = self._connections.pop(connection)
        except (OSError, h11.LocalProtocolError):
            return  # the client has gone
        finally:
            connection.close()

    async def _response(self, request: Request) -> Response | Stream:
        try:
            return await self._answer(request)
        except HttpError as error:
            return self._refusal(error)
        except Exception as error:
            _log.exception("internal error; please report it", error=error, path=request.path)
            return self._error_page(500, "internal error")

    def _refusal(self, error: HttpError) -> Response:
        page = self._error_page(error.status, error.reason)
        return Response(page.status, page.body, page.content_type, (*page.headers, *error.headers))


class _Connection:
    """One client: bytes in, a request; a response, bytes out."""

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self.waits = True
        """For a request."""
        self.leaves = False
        """Told to."""
        self.streams = False
        self._socket = sock
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._uid = _peer_uid(sock)
        self._head_only = False

    def close(self) -> None:
        """Let go of the socket; idempotent."""
        self._socket.close()

    async def request(self) -> Request | None:
        """The next request; None at the client's end. Raises h11.RemoteProtocolError, HttpError."""
        with _deadline(self._limits.request_seconds):
            head = await self._event()
            if not isinstance(head, h11.Request):
                return None
            self._head_only = head.method == b"HEAD"
            body = bytearray()
            while True:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                event = await self._event()
                if isinstance(event, h11.EndOfMessage):
                    break
                if not isinstance(event, h11.Data):
                    return None
                body += event.data
                if len(body) > self._limits.body_bytes:
                    raise HttpError(413, f"a body may have {self._limits.body_bytes} bytes")
        self.waits = False
        path, _, query = head.target.decode("ascii", "replace").partition("?")
        host = dict(head.headers).get(b"host", b"").decode("latin-1")
        method = head.method.decode("ascii")
        return Request(method, path, query, bytes(body), self._uid, host)

    async def respond(self, response: Response) -> bool:
        """Send a response; whether the connection is good for another request."""
        self.waits = False
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *response.headers,
        ]
        with _deadline(self._limits.response_seconds):
            await self._send(
                h11.Response(
                    status_code=response.status,
                    headers=headers,
                    reason=HTTPStatus(response.status).phrase.encode(),
                ),
                h11.Data(data=b"" if self._head_only else response.body),
                h11.EndOfMessage(),
                descriptors=response.descriptors,
            )
            if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                self._http.start_next_cycle()
                self.waits = True
                return True
        await self._linger()
        return False

    async def stream(self, stream: Stream) -> None:
        """Send a response piece by piece, until it or the client ends."""
        self.waits, self.streams = False, True
        events: list[Any] = [
            h11.Response(
                status_code=stream.status,
                headers=[
                    ("Content-Type", stream.content_type),
                    ("Connection", "close"),
                    *stream.headers,
                ],
                reason=HTTPStatus(stream.status).phrase.encode(),
            )
        ]
        async with contextlib.aclosing(stream.pieces) as pieces:
            if not self._head_only:
                async for piece in pieces:
                    with _deadline(self._limits.response_seconds):
                        await self._send(*events, h11.Data(data=piece))
                    events.clear()
        with _deadline(self._limits.response_seconds):
            await self._send(*events, h11.EndOfMessage())

    async def _event(self) -> Any:
        """The parser's next event, from what the client sends."""
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            loop = asyncio.get_running_loop()
            self._http.receive_data(await loop.sock_recv(self._socket, _RECEIVE_BYTES))

    async def _send(self, *events: Any, descriptors: tuple[int, ...] = ()) -> None:
        data = b"".join(self._http.send(event) or b"" for event in events)
        if descriptors and self._socket.family == socket.AF_UNIX:
            # The buffer is empty: an answer is the first thing that is sent after a request.
            data = data[socket.send_fds(self._socket, [data], descriptors) :]
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def _linger(self) -> None:
        """Read on for a moment: closing with bytes unread resets the connection (RFC 9112 9.6)."""
        self.waits = True
        with contextlib.suppress(OSError), _deadline(self._limits.linger_seconds):
            self._socket.shutdown(socket.SHUT_WR)
            while await asyncio.get_running_loop().sock_recv(self._socket, _RECEIVE_BYTES):
                pass


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Cancel the running task when the block takes longer."""
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(seconds, task.cancel)
    try:
        yield
    finally:
        timer.cancel()


def _descriptors() -> int:
    """How many the process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def _peer_uid(sock: socket.socket) -> int | None:
    if sock.family != socket.AF_UNIX:
        return None
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(credentials)[1]
    return uid


def tcp_listener(address: str, port: int) -> socket.socket:
    """A socket that listens on an IP address (not a name). Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener
