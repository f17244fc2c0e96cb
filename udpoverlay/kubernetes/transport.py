"""HTTP to a Kubernetes API server: bytes out, bytes back, each bounded in time and size.

Owns: the only use of aiohttp towards Kubernetes; sockets, time-outs, compression, one repetition
after a 401. Must not know: what a body means (codec.py), which requests there are (client.py).

Whatever a server does, a request ends in bytes or in a RegistryError: a reply is foreign input, and
so is all that a library makes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import weakref
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from udpoverlay._version import VERSION
from udpoverlay.errors import RegistryError, RegistryUnavailable, UdpOverlayError
from udpoverlay.kubernetes import codec
from udpoverlay.kubernetes.errors import (
    KubeTooLarge,
    KubeUndecodable,
    Status,
    connection_error,
    status_error,
)
from udpoverlay.kubernetes.kubeconfig import KubeAccess

__all__ = ["TIMEOUTS", "KubeTimeouts", "Request", "Transport"]

_MAX_LINE = 8 << 20
"""Bytes of one event of a watch; an object in etcd has at most 1.5 MB."""

_MAX_REFUSAL = 1 << 20
"""Bytes of the body of a refusal."""

_PIECE = 256 << 10
"""Bytes that are decompressed at a time, whatever a bomb would give at once."""

_TLS_LOOK = 60.0
"""Seconds between two looks whether certificate files were rotated."""

_LIVENESS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A watch whose server lost power is noticed within a minute instead of hours."""

_CLOSE_SECONDS = 1.0
_CLOSE_TURNS = 200


@dataclass(frozen=True, slots=True)
class KubeTimeouts:
    """Seconds."""

    connect: float = 10.0
    request: float = 30.0
    """For a whole answer, and for the head of a watch's."""
    watch_low: float = 300.0
    watch_high: float = 600.0
    """The server is asked to end a watch after a time between the two, as client-go does."""
    watch_idle: float = 180.0
    """A watch that says nothing, not even the bookmark of every minute, is opened again."""


TIMEOUTS = KubeTimeouts()


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: bytes | None = None
    content_type: str = "application/json"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Transport:
    """Connections to one API server. Use inside a running event loop; `aclose` it."""

    def __init__(
        self,
        access: KubeAccess,
        counters: Counter[str],
        *,
        timeouts: KubeTimeouts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.access = access
        self.timeouts = timeouts
        self._counters = counters
        self._clock = clock
        self._tls_checked = clock()
        self._session: aiohttp.ClientSession | None = None
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    async def send(self, request: Request, most: int) -> bytearray:
        """Send one request and read its answer, of `most` bytes at most.

        Raises RegistryError by kind of refusal, KubeTooLarge.
        """
        total = aiohttp.ClientTimeout(
            total=self.timeouts.request, sock_connect=self.timeouts.connect
        )
        response = await self._send(request, total)
        try:
            return await self._body(response, most, str(request))
        finally:
            response.release()

    async def lines(
        self, request: Request, seconds: float, opened: asyncio.Event
    ) -> AsyncGenerator[bytes, None]:
        """Send one request and yield the lines of its answer, for `seconds` and a little more.

        Sets `opened` when the server has accepted. An unfinished last line is dropped.
        """
        timeouts = self.timeouts
        timeout = aiohttp.ClientTimeout(
            total=seconds + 30.0, sock_connect=timeouts.connect, sock_read=timeouts.watch_idle
        )
        response = await self._headed(request, timeout)
        try:
            opened.set()
            async with contextlib.aclosing(self._lines(response, str(request))) as lines:
                async for line in lines:
                    yield line
        finally:
            response.close()

    async def aclose(self) -> None:
        """Close all connections, and wait until they are.

        A TLS connection says goodbye and waits for an answer in the background; a loop that ends
        meanwhile would trip over it.
        """
        session, self._session = self._session, None
        if session is None:
            return
        await session.close()
        for sock in self._sockets:
            if sock.fileno() >= 0:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for _ in range(_CLOSE_TURNS):
            if all(sock.fileno() < 0 for sock in self._sockets):
                return
            await asyncio.sleep(_CLOSE_SECONDS / _CLOSE_TURNS)

    # ------------------------------------------------------------------ sending

    async def _send(
        self, request: Request, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Send until there is a response that is a success; the caller releases it."""
        for attempt in (1, 2):
            try:
                response = await self._attempt(request, timeout)
            except UdpOverlayError:
                self._counters["request_failures"] += 1
                raise
            except Exception as error:
                self._counters["request_failures"] += 1
                raise connection_error(error, self.access.server) from error
            if 200 <= response.status < 300:
                return response
            self._counters["request_failures"] += 1
            try:
                status = await self._refusal(response)
            finally:
                response.release()
            if response.status == 401 and attempt == 1 and self.access.credentials.refused():
                continue
            break
        if 300 <= response.status < 400:
            raise RegistryUnavailable(
                f"{request}: {self.access.server} redirects to {_place(response)}",
                fix="name the API server itself in the kubeconfig or --kube-api-url",
            )
        raise status_error(response.status, status, str(request))

    async def _attempt(
        self, request: Request, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Content-Type": request.content_type,
        }
        if secret := await self.access.credentials.header():
            headers["Authorization"] = secret
        self._counters["requests"] += 1
        return await self._open().request(
            request.method,
            self.access.server + request.path,
            params=request.query,
            data=request.body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            proxy=self.access.proxy,
            server_hostname=self.access.tls_server_name,
        )

    async def _headed(
        self, request: Request, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """As _send, within the time of a request: what may last is the body alone."""
        task = asyncio.ensure_future(self._send(request, timeout))
        response = None
        try:
            await asyncio.wait({task}, timeout=self.timeouts.request)
            if task.done():
                response = task.result()
                return response
            self._counters["request_failures"] += 1
            raise RegistryUnavailable(f"{self.access.server} does not answer")
        finally:
            if response is None:
                task.cancel()
                for late in await asyncio.gather(task, return_exceptions=True):
                    if isinstance(late, aiohttp.ClientResponse):
                        late.close()

    def _open(self) -> aiohttp.ClientSession:
        tls = self.access.tls
        if tls is not None and self._clock() - self._tls_checked >= _TLS_LOOK:
            self._tls_checked = self._clock()
            tls.refresh()
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=tls.context if tls is not None else True, socket_factory=self._socket
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": f"udpoverlay/{VERSION}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """A socket that notices a dead peer, and that aclose can wait for."""
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        for level, option, value in _LIVENESS:
            made.setsockopt(level, option, value)
        self._sockets.add(made)
        return made

    # ------------------------------------------------------------------ reading

    async def _refusal(self, response: aiohttp.ClientResponse) -> Status:
        """The Status of a refusal; an empty one when the body is something else."""
        try:
            return codec.status(await self._body(response, _MAX_REFUSAL, "a refusal"))
        except RegistryError:
            return Status()

    async def _body(self, response: aiohttp.ClientResponse, most: int, what: str) -> bytearray:
        body = bytearray()
        async with contextlib.aclosing(self._chunks(response, what)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > most:
                    raise KubeTooLarge(f"{what}: the answer is over {most >> 20} MB")
        return body

    async def _lines(
        self, response: aiohttp.ClientResponse, what: str
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a stream that may come in any pieces."""
        rest = bytearray()
        async with contextlib.aclosing(self._chunks(response, what)) as chunks:
            async for chunk in chunks:
                *whole, tail = chunk.split(b"\n")
                if whole:
                    whole[0] = bytes(rest) + whole[0]
                    rest.clear()
                rest += tail
                for line in whole:
                    if line.strip():
                        yield line
                if len(rest) > _MAX_LINE:
                    raise KubeTooLarge(f"{what}: an event is over {_MAX_LINE >> 20} MB")

    async def _chunks(
        self, response: aiohttp.ClientResponse, what: str
    ) -> AsyncGenerator[bytes, None]:
        """The body in pieces as they come, decompressed."""
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in {"identity", "gzip"}:
            raise KubeUndecodable(f"{what}: the answer is encoded as {coding[:40]!r}")
        inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if coding == "gzip" else None
        content = response.content.iter_any()
        while True:
            try:
                chunk = await anext(content, b"")
            except Exception as error:
                self._counters["request_failures"] += 1
                raise connection_error(error, self.access.server) from error
            if not chunk:
                return
            if inflate is None:
                yield chunk
                continue
            piece = b"more"
            while piece:
                try:
                    piece = inflate.decompress(chunk, _PIECE)
                except zlib.error as error:
                    raise KubeUndecodable(f"{what}: the answer is not gzip: {error}") from None
                chunk = inflate.unconsumed_tail
                if piece:
                    yield piece


def _place(response: aiohttp.ClientResponse) -> str:
    """Where a redirection leads, without what may be a secret in its path and query."""
    try:
        parts = urlsplit(response.headers.get("Location", ""))
        return f"{parts.scheme}://{parts.hostname}" if parts.hostname else "a path of its own"
    except ValueError:
        return "nowhere"
