"""One HTTP/2 connection to one etcd, and gRPC calls on it: bytes out, bytes in.

Owns: the only use of grpclib; how long connecting and a call may take, how large a reply may be.
Must not know: what a message means, other endpoints, when a call is tried again.

grpclib (pure Python on h2) does HTTP/2, flow control and gRPC's states. What it leaves open is
closed here, because the peer may be anything:

    a message of any length             its length is looked at first: ReplyTooLarge, nothing read
    bytes that h2 or grpclib chokes on  the connection is given up, whatever the exception
    a peer that asks and never reads    the connection is given up at _MOST_UNSENT bytes of answers
    cancellation swallowed by grpclib   each call runs in a task of its own

Only RegistryError leaves this module (and CancelledError, when our caller is cancelled).
"""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import grpclib.client
from grpclib.config import Configuration
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from multidict import MultiDict

from udpoverlay.errors import RegistryError, RegistryUnavailable
from udpoverlay.registry.etcd.errors import ReplyTooLarge, connection_error, status_error

__all__ = ["Call", "Channel"]

_T = TypeVar("_T")

_WINDOW = 1 << 20
"""Bytes in flight of one call: what a reply that is refused can cost."""
_MOST_UNSENT = 1 << 20
"""Bytes that the peer has not taken from us; our requests are far below."""
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
        self._grpc = _Grpc(
            parts.hostname or "",
            parts.port or (443 if secure else 80),
            codec=_RawBytes(),
            ssl=context if secure else None,
            config=Configuration(
                http2_connection_window_size=2 * _WINDOW, http2_stream_window_size=_WINDOW
            ),
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
        call = _Exchange(self._grpc, method, metadata, Cardinality.UNARY_UNARY, most)

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
        exchange = _Exchange(self._grpc, method, metadata, Cardinality.STREAM_STREAM, most)
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
        exchange: _Exchange,
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


class _RawBytes(CodecBase):
    """messages.py reads and writes the bytes."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: type[bytes]) -> bytes:
        return message

    def decode(self, data: bytes, message_type: type[bytes]) -> bytes:
        return data


class _Exchange(grpclib.client.Stream[bytes, bytes]):
    """A call whose messages have a greatest length."""

    def __init__(
        self,
        grpc: _Grpc,
        method: str,
        metadata: Mapping[str, str],
        cardinality: Cardinality,
        most: int,
    ) -> None:
        super().__init__(
            grpc,
            method,
            cast(Any, MultiDict(metadata)),
            cardinality,
            bytes,
            bytes,
            codec=_RawBytes(),
            status_details_codec=None,
            dispatch=grpc.__dispatch__,
        )
        self._most = most

    async def recv_message(self) -> bytes | None:
        """As grpclib's, but with a look at the length before a byte of the message is taken."""
        if not self._recv_initial_metadata_done:
            await self.recv_initial_metadata()
        with self._wrapper:
            # gRPC over HTTP/2: 1 byte "compressed", 4 bytes length in network order, the message.
            head = await self._stream.recv_data(5)
            if not head:
                return None
            length = int.from_bytes(head[1:], "big")
            if head[0]:
                raise RegistryUnavailable("etcd sent a compressed message, which was not asked for")
            if length > self._most:
                raise ReplyTooLarge(
                    f"one message of etcd has {length} bytes, the most is {self._most}"
                )
            return await self._stream.recv_data(length)

    async def status(self) -> None:
        """Raise the error with which the peer ended the call."""
        self._end_done = True  # the peer has ended it: grpclib need not wait for our end
        await self.recv_trailing_metadata()


class _Grpc(grpclib.client.Channel):
    """grpclib's channel over our protocol."""

    _latest: _Protocol | None = None
    """Made last; grpclib knows it only when it is connected."""
    _shut = False

    @property
    def connected(self) -> bool:
        protocol = self._protocol
        return self._connected and isinstance(protocol, _Protocol) and protocol.greeted

    async def greeted(self) -> None:
        """Connect, and wait for the first bytes of the peer.

        HTTP/2's servers begin with their settings (RFC 9113 3.4). One that refuses our certificate
        says so after the handshake, in TLS 1.3, and hangs up: what we sent in that moment would
        break the connection before its reason is read.
        """
        protocol = cast(_Protocol, await self.__connect__())
        await protocol.greeting.wait()
        if not protocol.greeted:
            raise protocol.lost or ConnectionResetError(errno.ECONNRESET, "hung up")

    @property
    def lost(self) -> Exception | None:
        """Why the last connection broke."""
        protocol = self._protocol
        return protocol.lost if isinstance(protocol, _Protocol) else None

    def heard_since(self, moment: float) -> bool:
        """Whether a reply to anything came on the connection since then, in monotonic seconds."""
        protocol = self._protocol
        last = None if protocol is None else protocol.connection.last_data_received
        return last is not None and last >= moment

    def abort(self) -> None:
        self._protocol = None
        latest, self._latest = self._latest, None
        if latest is not None:
            latest.give_up(None)

    def shut(self) -> None:
        """As `abort`; and callers that still hold this channel cannot connect again."""
        self._shut = True
        self.abort()

    async def __connect__(self) -> H2Protocol:
        self._check_shut()
        protocol = await super().__connect__()
        self._check_shut()
        return protocol

    def _check_shut(self) -> None:
        if self._shut:
            self._protocol = None
            raise ConnectionAbortedError(errno.ECONNABORTED, "closed by us")

    def _protocol_factory(self) -> _Protocol:
        if self._latest is not None:
            # Its maker may have been cancelled in the moment in which it stood.
            self._latest.give_up(None)
        from_grpclib = super()._protocol_factory()
        made = _Protocol(from_grpclib.handler, from_grpclib.config, from_grpclib.h2_config)
        if self._shut:
            made.give_up(None)
        else:
            self._latest = made
        return made


class _Protocol(H2Protocol):
    """grpclib's protocol that survives every byte sequence, and knows why it ended."""

    lost: Exception | None = None
    greeted = False
    _transport: asyncio.Transport | None = None
    _given_up = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.greeting = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        if self._given_up:
            self.give_up(None)

    def data_received(self, data: bytes) -> None:
        self.greeted = True
        self.greeting.set()
        try:
            super().data_received(data)
        except Exception as error:  # what h2 and grpclib did not foresee
            self.give_up(error)
        assert self._transport is not None
        if self._transport.get_write_buffer_size() > _MOST_UNSENT:
            self.give_up(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        if isinstance(exc, Exception) and self.lost is None:
            self.lost = exc
        self.greeting.set()
        super().connection_lost(exc)

    def give_up(self, error: Exception | None) -> None:
        """Break the connection without waiting for the peer to take what we have written.

        One that does not stand yet breaks as soon as it does.
        """
        self.lost = self.lost or error
        self._given_up = True
        self.greeting.set()
        if self._transport is not None:
            self._transport.abort()
            self.processor.close("connection given up")


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
