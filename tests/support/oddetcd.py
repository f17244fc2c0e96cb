"""A real etcd behind a gRPC proxy that answers oddly when it is told to.

Requests are passed on as they are; each message of a reply goes through `odd`, which may change it,
leave it out, or write whatever it likes to the stream or the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from tests.support.aio import at_end
from tests.support.etcd import free_port
from tests.support.patience import DEADLINE
from udpoverlay.errors import RegistryError
from udpoverlay.registry.etcd.channel import Call, Channel
from udpoverlay.registry.etcd.messages import WATCH

Headers = list[tuple[str, str]]

HEADERS: Headers = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS: Headers = [("grpc-status", "0")]
_MOST = 64 << 20
_CHUNK = 16_000


def framed(message: bytes, *, length: int = -1, compressed: int = 0) -> bytes:
    """A message as gRPC puts it into DATA frames."""
    size = len(message) if length < 0 else length
    return bytes([compressed]) + size.to_bytes(4, "big") + message


class Reply:
    """One stream of one connection, as an oddity sees it."""

    def __init__(self, connection: _Connection, stream: int, method: str) -> None:
        self._connection = connection
        self.stream = stream
        self.method = method
        self.h2 = connection.h2
        self._headers = False
        self.ended = False

    async def headers(self, headers: Headers = HEADERS, *, end: bool = False) -> None:
        self._headers = True
        self.h2.send_headers(self.stream, headers, end_stream=end)
        await self.flush()

    async def data(self, data: bytes) -> None:
        """Send bytes in DATA frames, headers first."""
        if not self._headers:
            await self.headers()
        while data:
            window = min(self.h2.local_flow_control_window(self.stream), _CHUNK)
            if window <= 0:
                await self._connection.window()
                continue
            self.h2.send_data(self.stream, data[:window])
            data = data[window:]
            await self.flush()

    async def message(self, message: bytes) -> None:
        await self.data(framed(message))

    async def trailers(self, trailers: Headers = TRAILERS) -> None:
        if not self._headers:
            await self.headers()
        self.ended = True
        self.h2.send_headers(self.stream, trailers, end_stream=True)
        await self.flush()

    async def status(self, code: str, text: str = "odd") -> None:
        """A reply of a status alone."""
        self.ended = True
        await self.headers([*HEADERS, ("grpc-status", code), ("grpc-message", text)], end=True)

    async def reset(self) -> None:
        self.ended = True
        self.h2.reset_stream(self.stream, 2)
        await self.flush()

    async def flush(self) -> None:
        await self.raw(self.h2.data_to_send())

    async def raw(self, data: bytes) -> None:
        """Write bytes to the connection."""
        self._connection.writer.write(data)
        await self._connection.writer.drain()

    def hang_up(self) -> None:
        self._connection.writer.transport.abort()


Odd = Callable[[Reply, bytes], Awaitable[None]]


class OddEtcd:
    """Listens at `url`. `odd` has the say over every message of what is answered oddly."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.odd: Odd | None = None
        self.oddly: frozenset[bool] = frozenset()
        """What is answered oddly: True stands for watches, False for all else."""
        self.oddities = 0
        """How many odd messages there were."""
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        at_end(self.stop)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.end()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, self._target, writer)
        self._connections.add(connection)
        try:
            await connection.run(reader)
        finally:
            self._connections.discard(connection)
            connection.end()

    async def answer(self, reply: Reply, message: bytes) -> None:
        """Send one message of a reply, oddly or not."""
        if self.odd is None or (reply.method == WATCH) not in self.oddly:
            await reply.message(message)
        else:
            self.oddities += 1
            await self.odd(reply, message)


class _Connection:
    def __init__(self, owner: OddEtcd, target: str, writer: asyncio.StreamWriter) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.writer = writer
        self._owner = owner
        self._channel = Channel(target, None, connect_timeout=DEADLINE)
        self._requests: dict[int, bytes] = {}
        self._replies: dict[int, Reply] = {}
        self._calls: dict[int, Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._window = asyncio.Event()

    async def run(self, reader: asyncio.StreamReader) -> None:
        self.h2.initiate_connection()
        self.writer.write(self.h2.data_to_send())
        with contextlib.suppress(OSError, ProtocolError):
            while data := await reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._take(event)
                self.writer.write(self.h2.data_to_send())

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._channel.abort()
        self.writer.transport.abort()

    async def window(self) -> None:
        """Wait until the peer takes more."""
        self._window.clear()
        await self._window.wait()

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            method = {str(name): str(value) for name, value in event.headers}[":path"]
            self._requests[event.stream_id] = b""
            self._replies[event.stream_id] = Reply(self, event.stream_id, method)
        elif isinstance(event, DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._requests[event.stream_id] += event.data
            self._messages(event.stream_id)
        elif isinstance(event, (WindowUpdated, StreamEnded)):
            self._window.set()
        elif isinstance(event, StreamReset):
            call = self._calls.pop(event.stream_id, None)
            if call is not None:
                call.close()
        elif isinstance(event, ConnectionTerminated):
            self.end()

    def _messages(self, stream: int) -> None:
        """Pass on what has arrived whole."""
        data = self._requests[stream]
        while len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[1:5], "big"):
            length = int.from_bytes(data[1:5], "big")
            message, data = data[5 : 5 + length], data[5 + length :]
            self._spawn(stream, message)
        self._requests[stream] = data

    def _spawn(self, stream: int, message: bytes) -> None:
        work = self._pass_on(self._replies[stream], message)
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # what the oddity broke is broken: no stream, no connection

    async def _pass_on(self, reply: Reply, message: bytes) -> None:
        if reply.method == WATCH:
            await self._watch(reply, message)
            return
        try:
            answer = await self._channel.unary(
                reply.method, message, {"hasleader": "true"}, timeout=DEADLINE, most=_MOST
            )
        except RegistryError as error:
            await reply.status("14", str(error)[:100])
            return
        await self._owner.answer(reply, answer)
        if not reply.ended:
            await reply.trailers()

    async def _watch(self, reply: Reply, message: bytes) -> None:
        if reply.stream in self._calls:
            await self._calls[reply.stream].send(message)
            return
        call = await self._channel.stream(
            WATCH, message, {"hasleader": "true"}, timeout=DEADLINE, most=_MOST
        )
        self._calls[reply.stream] = call
        try:
            while True:
                for answer in await call.read():
                    await self._owner.answer(reply, answer)
        except RegistryError:
            if not reply.ended:
                await reply.trailers([("grpc-status", "14")])
