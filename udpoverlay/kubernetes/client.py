"""Requests to a Kubernetes API server: one answer, a list in pages, a watch as a stream.

Owns: the only use of aiohttp towards Kubernetes; paths, content types, timeouts, one repetition
after a 401. Must not know: what an object means, when a caller should try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import time
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from udpoverlay._version import VERSION
from udpoverlay.errors import RegistryError, RegistryUnavailable
from udpoverlay.kubernetes.errors import connection_error, status_error
from udpoverlay.kubernetes.kubeconfig import KubeAccess

__all__ = ["Json", "KubeClient", "KubeTimeouts", "WatchEvent"]

Json = dict[str, Any]

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
_PLAIN = "application/json"

PAGE = 250
"""Nodes a page: a Node is 5–30 kB of JSON, and a page is held whole."""

_MAX_REPLY = 64 << 20
_MAX_LINE = 16 << 20
"""Bytes of one answer, and of one event of a watch, that we are ready to hold."""

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
    watch_low: float = 300.0
    watch_high: float = 600.0
    """The server is asked to end a watch after a time between the two, as client-go does."""
    watch_idle: float = 180.0
    """A watch that says nothing, not even the bookmark of every minute, is opened again."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object."""

    kind: str
    object: Json


class KubeClient:
    """One API server. Use inside a running event loop; `aclose` it."""

    def __init__(
        self,
        access: KubeAccess,
        *,
        timeouts: KubeTimeouts = KubeTimeouts(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.access = access
        self.counters: Counter[str] = Counter()
        self._timeouts = timeouts
        self._clock = clock
        self._tls_checked = clock()
        self._session: aiohttp.ClientSession | None = None
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    # ------------------------------------------------------------------ nodes

    async def get_node(self, name: str, *, cached: bool = False) -> Json:
        """Read one Node; `cached` lets the server answer from memory (resourceVersion 0)."""
        query = {"resourceVersion": "0"} if cached else {}
        return await self.request("GET", f"/api/v1/nodes/{name}", query=query)

    async def node_pages(self) -> AsyncGenerator[Json, None]:
        """List all Nodes at one version, a NodeList a page. Raises KubeGone when pages ran out."""
        token = ""
        while True:
            query = {"limit": str(PAGE)}
            if token:
                query["continue"] = token
            page = await self.request("GET", "/api/v1/nodes", query=query)
            yield page
            token = str((page.get("metadata") or {}).get("continue") or "")
            if not token:
                return

    async def node_version(self) -> str:
        """The server's present version of the list of Nodes."""
        page = await self.request("GET", "/api/v1/nodes", query={"limit": "1"})
        return str((page.get("metadata") or {}).get("resourceVersion") or "")

    async def patch_node(self, name: str, patch: Json) -> Json:
        """Patch metadata and spec with a JSON merge patch (lists are replaced whole)."""
        return await self.request("PATCH", f"/api/v1/nodes/{name}", patch, content_type=MERGE)

    async def patch_node_status(self, name: str, patch: Json) -> Json:
        """Patch metadata and status with a strategic merge patch (conditions merge by type)."""
        path = f"/api/v1/nodes/{name}/status"
        return await self.request("PATCH", path, patch, content_type=STRATEGIC)

    def watch_nodes(
        self, resource_version: str, opened: asyncio.Event
    ) -> AsyncGenerator[WatchEvent, None]:
        """Follow all Nodes from `resource_version`; ends when the server ends it.

        Sets `opened` when the server has accepted.
        """
        return self._watch("/api/v1/nodes", resource_version, opened)

    # ------------------------------------------------------------------ other objects

    async def get_pod(self, namespace: str, name: str) -> Json:
        """Read one Pod."""
        return await self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")

    async def may_i(
        self, verb: str, resource: str, *, namespace: str = "", group: str = ""
    ) -> bool:
        """Ask whether we may `verb` a resource (`nodes/status` with its subresource)."""
        plain, _, sub = resource.partition("/")
        asked = {"verb": verb, "group": group, "resource": plain, "subresource": sub}
        if namespace:
            asked["namespace"] = namespace
        body: Json = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await self.request("POST", path, body)
        return bool((answer.get("status") or {}).get("allowed"))

    # ------------------------------------------------------------------ requests

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = _PLAIN,
    ) -> Json:
        """Send one request and read its JSON answer. Raises RegistryError by kind of refusal."""
        what = f"{method} {path}"
        total = aiohttp.ClientTimeout(total=self._timeouts.request)
        response = await self._send(method, path, body, query, content_type, total)
        try:
            data = await self._read(response)
        finally:
            response.release()
        return _object(data, what)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks, size = [], 0
        try:
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if size > _MAX_REPLY:
                    raise RegistryError(f"an answer of {self.access.server} is over 64 MB")
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            self.counters["request_failures"] += 1
            raise connection_error(error, self.access.server) from error
        return b"".join(chunks)

    async def _send(  # noqa: PLR0913, PLR0917 - the parts of one HTTP request
        self,
        method: str,
        path: str,
        body: Json | None,
        query: Mapping[str, str] | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """Send until there is a response that is a success; the caller releases it."""
        data = None if body is None else json.dumps(body).encode()
        for attempt in (1, 2):
            headers = {"Accept": "application/json", "Content-Type": content_type}
            if secret := await self.access.credentials.header():
                headers["Authorization"] = secret
            self.counters["requests"] += 1
            try:
                response = await self._open().request(
                    method,
                    self.access.server + path,
                    params=query,
                    data=data,
                    headers=headers,
                    timeout=timeout,
                    allow_redirects=False,
                    proxy=self.access.proxy,
                    server_hostname=self.access.tls_server_name,
                )
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError) as error:
                self.counters["request_failures"] += 1
                raise connection_error(error, self.access.server) from error
            if response.status < 300:
                return response
            self.counters["request_failures"] += 1
            status = await self._refusal(response)
            if response.status == 401 and attempt == 1 and self.access.credentials.refused():
                continue
            break
        raise status_error(response.status, status, f"{method} {path}")

    async def _refusal(self, response: aiohttp.ClientResponse) -> Json:
        """The Status of a refusal; {} when the body is something else."""
        try:
            status = json.loads(await self._read(response))
        except (RegistryError, ValueError):
            status = {}
        finally:
            response.release()
        return status if isinstance(status, dict) else {}

    def _open(self) -> aiohttp.ClientSession:
        tls = self.access.tls
        if tls is not None and self._clock() - self._tls_checked >= 60:
            self._tls_checked = self._clock()
            tls.refresh()
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=tls.context if tls is not None else True, socket_factory=self._socket
            )
            headers = {"User-Agent": f"udpoverlay/{VERSION}"}
            self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self._session

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """A socket that notices a dead peer, and that aclose can wait for."""
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        for level, option, value in _LIVENESS:
            made.setsockopt(level, option, value)
        self._sockets.add(made)
        return made

    # ------------------------------------------------------------------ watch

    async def _watch(
        self, path: str, resource_version: str, opened: asyncio.Event
    ) -> AsyncGenerator[WatchEvent, None]:
        seconds = random.uniform(  # noqa: S311 - spread over time, no secret
            self._timeouts.watch_low, self._timeouts.watch_high
        )
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        timeout = aiohttp.ClientTimeout(
            total=seconds + 30.0,
            sock_connect=self._timeouts.connect,
            sock_read=self._timeouts.watch_idle,
        )
        self.counters["watches"] += 1
        response = await self._send("GET", path, None, query, _PLAIN, timeout)
        try:
            opened.set()
            async with contextlib.aclosing(_lines(response, self.access.server)) as lines:
                async for line in lines:
                    yield _event(line, path)
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


async def _lines(response: aiohttp.ClientResponse, server: str) -> AsyncGenerator[bytes, None]:
    """The lines of a stream that may come in any pieces; an unfinished last one is dropped."""
    rest = bytearray()
    try:
        async for chunk in response.content.iter_any():
            rest += chunk
            *whole, tail = bytes(rest).split(b"\n")
            rest = bytearray(tail)
            if len(rest) > _MAX_LINE:
                raise RegistryUnavailable(f"a watch event of {server} is over 16 MB")
            for line in whole:
                if line.strip():
                    yield line
    except asyncio.TimeoutError as error:
        raise RegistryUnavailable(f"a watch of {server} went silent") from error
    except (aiohttp.ClientError, OSError) as error:
        raise connection_error(error, server) from error


def _event(line: bytes, path: str) -> WatchEvent:
    """One event. Raises the error that an ERROR event holds."""
    event = _object(line, f"watch {path}")
    kind, found = event.get("type"), event.get("object")
    if not isinstance(kind, str) or not isinstance(found, dict):
        raise RegistryUnavailable(f"watch {path}: an event without type and object")
    if kind == "ERROR":
        code = found.get("code")
        raise status_error(code if isinstance(code, int) else 500, found, f"watch {path}")
    return WatchEvent(kind, found)


def _object(data: bytes, what: str) -> Json:
    try:
        found = json.loads(data)
    except ValueError:
        raise RegistryUnavailable(f"{what}: the answer is not JSON") from None
    if not isinstance(found, dict):
        raise RegistryUnavailable(f"{what}: the answer is no JSON object")
    return found
