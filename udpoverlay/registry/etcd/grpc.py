"""grpclib's connection and calls, closed where a peer that may be anything finds them open.

Owns: what bytes of a peer may do to the connection, how long one message may be. Must not know:
which calls there are, how long they may take (channel.py), what a message means.

grpclib (pure Python on h2) does HTTP/2, flow control and gRPC's states. What it leaves open:

    a message of any length             its length is looked at first: ReplyTooLarge, nothing read
    bytes that h2 or grpclib chokes on  the connection is given up, whatever the exception
    a peer that asks and never reads    the connection is given up at _MOST_UNSENT bytes of answers
    a connection that is made too late  is broken as soon as it stands
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Mapping
from typing import Any, cast

import grpclib.client
from grpclib.config import Configuration
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase
from grpclib.protocol import H2Protocol
from multidict import MultiDict

from udpoverlay.errors import RegistryUnavailable
from udpoverlay.registry.etcd.errors import ReplyTooLarge

__all__ = ["Connection", "Exchange"]

_WINDOW = 1 << 20
"""Bytes in flight of one call: what a reply that is refused can cost."""
_MOST_UNSENT = 1 << 20
"""Bytes that the peer has not taken from us; our requests are far below."""


class _RawBytes(CodecBase):
    """messages.py reads and writes the bytes."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: type[bytes]) -> bytes:
        return message

    def decode(self, data: bytes, message_type: type[bytes]) -> bytes:
        return data


class Exchange(grpclib.client.Stream[bytes, bytes]):
    """A call whose messages have a greatest length."""

    def __init__(
        self,
        grpc: Connection,
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


class Connection(grpclib.client.Channel):
    """One connection at a time, made when it is needed and again after it was lost."""

    _latest: _Protocol | None = None
    """Made last; grpclib knows it only when it is connected."""
    _shut = False

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(
            host,
            port,
            codec=_RawBytes(),
            ssl=context,
            config=Configuration(
                http2_connection_window_size=2 * _WINDOW, http2_stream_window_size=_WINDOW
            ),
        )

    @property
    def connected(self) -> bool:
        """Whether the connection stands and the peer has spoken on it."""
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
        """Break the connection at once, also one that is being made."""
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
