"""One HTTP/2 connection to one etcd, and gRPC calls on it: bytes out, bytes in.

Owns: how long connecting and a call may take, that a mute connection is left. Must not know: what a
message means, other endpoints, when a call is tried again, what bytes may do (grpc.py).

Only RegistryError leaves this module (and CancelledError, when our caller is cancelled).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError

from udpoverlay.errors import RegistryError, RegistryUnavailable
from udpoverlay.registry.etcd.errors import connection_error, status_error
from udpoverlay.registry.etcd.grpc import Connection, Exchange

__all__ = ["Call", "Channel"]

_T = TypeVar("_T")

_MOST_WAITING = 4 << 20
"""Bytes of messages that wait for the reader of a stream before no more are taken in."""


class Channel:
    """A connection to one endpoint, made when it is needed and again after it was lost."""

    def __init__(
        self,
        endpoint: str,
        context: ssl.SSLContext | None,
        *,
        connect_timeout: float,
        certfile: str = "",
        cafile: str = "",
    ) -> None:
        """`endpoint` is http://HOST:PORT or https://…; the file names are for messages alone."""
        self.endpoint = endpoint
        parts = urlsplit(endpoint)
        secure = parts.scheme == "https"
        self._grpc = Connection(
            parts.hostname or "",
            parts.port or (443 if secure else 80),
            context if secure else None,
        )
        self._connect_timeout = connect_timeout
        self._files = (certfile, cafile)

    async def unary(
        self,
        method: str,
        request: bytes,
        metadata: Mapping[str, str],
        *,
        timeout: float,
        most: int,
    ) -> bytes:
        """Send one message, return the one that answers it; of at most `most` bytes."""
        started = time.monotonic()
        call = Exchange(self._grpc, method, metadata, Cardinality.UNARY_UNARY, most)

        async def exchange() -> bytes:
            async with call:
                await call.send_message(request, end=True)
                reply = await call.recv_message()
            if reply is None:
                raise RegistryUnavailable(f"etcd at {self.endpoint} answered without a message")
            return reply

        try:
            await self._connect()
            return await within(timeout, exchange())
        except Exception as error:
            if isinstance(error, asyncio.TimeoutError) and not self._grpc.heard_since(started):
                # Not slow but mute, as a member that is stopped, or stuck in a frame that never
                # ends: whatever else waits on this connection shall not wait for its own time-out.
                self.abort()
            raise self._translated(error) from error

    async def stream(
        self, method: str, request: bytes, metadata: Mapping[str, str], *, timeout: float, most: int
    ) -> Call:
        """Open a call with messages in both directions, `request` the first of ours."""
        exchange = Exchange(self._grpc, method, metadata, Cardinality.STREAM_STREAM, most)
        try:
            await self._connect()
        except Exception as error:
            raise self._translated(error) from error
        return Call(exchange, request, timeout, self._translated)

    def abort(self) -> None:
        """Break the connection at once; open calls fail, the next one connects again."""
        self._grpc.abort()

    def close(self) -> None:
        """Break the connection for good, also one that is being made now."""
        self._grpc.shut()

    async def _connect(self) -> None:
        if not self._grpc.connected:
            await within(self._connect_timeout, self._grpc.greeted())

    def _translated(self, error: Exception) -> RegistryError:
        """What went wrong here, in the registry's words."""
        if isinstance(error, RegistryError):
            return error
        if isinstance(error, GRPCError):
            return status_error(self.endpoint, error.status.value, error.message or "")
        if not isinstance(error, (asyncio.TimeoutError, OSError)):
            # grpclib tells that a connection broke, the protocol has kept why.
            error = self._grpc.lost or error
        return connection_error(self.endpoint, error, *self._files)


class Call:
    """An open call; messages of the peer are kept in order until they are read."""

    def __init__(
        self,
        exchange: Exchange,
        request: bytes,
        timeout: float,
        translated: Callable[[Exception], RegistryError],
    ) -> None:
        self._exchange = exchange
        self._timeout = timeout
        self._translated = translated
        self._messages: deque[bytes] = deque()
        self._waiting = 0
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._error: RegistryError | None = None
        self._task = asyncio.ensure_future(self._receive(request))

    async def read(self) -> list[bytes]:
        """All messages that have arrived, at least one; RegistryError at the end, after them."""
        while not self._messages:
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        messages = list(self._messages)
        self._messages.clear()
        self._waiting = 0
        self._taken.set()
        return messages

    async def send(self, message: bytes) -> None:
        """Send one more message."""
        try:
            await within(self._timeout, self._exchange.send_message(message))
        except Exception as error:
            raise self._translated(error) from error

    def close(self, why: RegistryError | None = None) -> None:
        """End the call; a pending `read` raises `why`."""
        self._end(why or RegistryUnavailable("the call was closed"))
        self._task.cancel()

    async def _receive(self, request: bytes) -> None:
        exchange = self._exchange
        try:
            async with exchange:
                await exchange.send_message(request)
                while (message := await exchange.recv_message()) is not None:
                    self._messages.append(message)
                    self._waiting += len(message)
                    self._changed.set()
                    while self._waiting > _MOST_WAITING:
                        self._taken.clear()
                        await self._taken.wait()
                await exchange.status()
        except Exception as error:  # whatever it is, it is the end of this call
            self._end(self._translated(error))
        finally:
            self._end(RegistryUnavailable("etcd ended the call"))

    def _end(self, error: RegistryError) -> None:
        if self._error is None:
            self._error = error
        self._changed.set()


async def within(seconds: float, work: Coroutine[Any, Any, _T] | Awaitable[_T]) -> _T:
    """Await `work`, in a task of its own, for so long at most; asyncio.TimeoutError.

    asyncio.wait_for may swallow a cancellation before Python 3.12 (bpo-37658), and grpclib one that
    comes in the moment in which a call fails: a follower that misses it is never stopped.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        task.add_done_callback(_retrieve)
        raise
    if not task.done():
        task.cancel()
        task.add_done_callback(_retrieve)
        raise asyncio.TimeoutError
    if task.cancelled():
        raise RegistryUnavailable("the call was cancelled")  # by grpclib, not by our caller
    return task.result()


def _retrieve(task: asyncio.Future[Any]) -> None:
    """Look at the result of a task that was given up: what came too late does not matter."""
    if not task.cancelled():
        task.exception()
