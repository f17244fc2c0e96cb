"""Requests to etcd through its JSON gateway: endpoints, fail-over, authentication, watches.

Owns: the only use of aiohttp towards etcd; when one request is tried again and where.
Must not know: what a key means, leases of subnets, when a caller should try again.

One request walks the endpoints, starting with the one that answered last, until one answers:

    connection refused, broken, timed out, "unavailable", "no leader"  → next endpoint
    token refused                                                     → authenticate again, once
    anything else                                                     → the caller's error

Every request says that it needs a leader (metadata `hasleader`), so that a member cut off from the
others refuses at once instead of keeping us waiting. A request may have been carried out though its
reply was lost: callers write only in transactions whose repetition is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

from udpoverlay.errors import OperatorError, RegistryError, RegistryUnavailable
from udpoverlay.log import get_logger
from udpoverlay.model.config import EtcdConfig
from udpoverlay.redact import redact_url
from udpoverlay.registry.etcd import messages
from udpoverlay.registry.etcd.errors import (
    TRY_ELSEWHERE,
    EtcdTlsRefused,
    EtcdTokenRefused,
    connection_error,
    most_telling,
    not_a_gateway,
    reply_error,
)
from udpoverlay.registry.etcd.messages import RangeReply, TxnReply, error_of
from udpoverlay.registry.etcd.stream import WatchStream
from udpoverlay.registry.etcd.tls import client_context

__all__ = ["EtcdClient", "EtcdTimeouts", "ReplyTooLarge", "parse_endpoints"]

_log = get_logger(__name__)

_MAX_REPLY = 32 << 20
"""Bytes of one reply that we are ready to hold; a page of leases has about 0.3 MB."""
_GATEWAY_PATHS = ("/v3", "/v3beta")
"""etcd ≥ 3.4, etcd 3.3."""

_T = TypeVar("_T")
_Reader = Callable[[str, aiohttp.ClientResponse], Awaitable[_T]]
"""Turns an endpoint and its open response into a result, and releases the response."""


class ReplyTooLarge(RegistryError):
    """The reply has more bytes than we hold; ask for fewer keys at once."""


@dataclass(frozen=True, slots=True)
class EtcdTimeouts:
    """Seconds to wait for one endpoint."""

    connect: float = 2.0
    request: float = 5.0


def parse_endpoints(endpoints: Sequence[str], *, tls: bool) -> tuple[str, ...]:
    """Check endpoints; one without a scheme is https when TLS files are given, else http."""
    parsed = []
    for endpoint in endpoints:
        url = endpoint if "://" in endpoint else f"{'https' if tls else 'http'}://{endpoint}"
        try:
            parts = urlsplit(url)  # refuses "http://[::1"
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            # "http://u:12/3@host": a password with a slash must not pass for host and port.
            valid = valid and "@" not in f"{parts.path}{parts.query}{parts.fragment}"
        except ValueError:
            valid = False
        if not valid:
            raise OperatorError(
                f"etcd-endpoints: {redact_url(endpoint)!r} is not an etcd endpoint",
                fix="write http://HOST:2379 or https://HOST:2379, separated by commas",
            )
        parsed.append(f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}")
    if not parsed:
        raise OperatorError("etcd-endpoints is empty", fix="write http://HOST:2379")
    return tuple(parsed)


class EtcdClient:
    """One cluster behind one or several endpoints. Use inside a running event loop; `aclose` it."""

    def __init__(self, config: EtcdConfig, *, timeouts: EtcdTimeouts = EtcdTimeouts()) -> None:
        """Raise OperatorError for a malformed endpoint or an unusable TLS file."""
        self._config = config
        self._timeouts = timeouts
        files = bool(config.cafile or config.certfile or config.keyfile)
        self.endpoints = parse_endpoints(config.endpoints, tls=files)
        secure = any(endpoint.startswith("https:") for endpoint in self.endpoints)
        self._ssl = self._read_tls_files() if secure or files else None
        self._preferred = 0
        self._gateway: dict[str, str] = {}
        self._token: str | None = None
        self._session: aiohttp.ClientSession | None = None
        self.counters: Counter[str] = Counter()

    def _read_tls_files(self) -> ssl.SSLContext:
        config = self._config
        return client_context(
            keyfile=config.keyfile, certfile=config.certfile, cafile=config.cafile
        )

    # ------------------------------------------------------------------ requests

    async def range(self, key: bytes, range_end: bytes = b"", **options: Any) -> RangeReply:
        """Read keys, linearizable; options are those of messages.range_body."""
        body = messages.range_body(key, range_end, **options)
        return messages.range_reply(await self._call("/kv/range", body))

    async def txn(
        self,
        compare: Sequence[Mapping[str, Any]],
        success: Sequence[Mapping[str, Any]],
        failure: Sequence[Mapping[str, Any]] = (),
    ) -> TxnReply:
        """Run a transaction made of messages's comparisons and operations."""
        body = messages.txn_body(compare, success, failure)
        return messages.txn_reply(await self._call("/kv/txn", body))

    async def grant(self, ttl: int) -> tuple[int, int]:
        """Make a lease of `ttl` seconds; return its id and the seconds that etcd granted."""
        reply = await self._call("/lease/grant", messages.grant_body(ttl))
        return int(reply["ID"]), int(reply.get("TTL", ttl))

    async def time_to_live(self, lease_id: int) -> int:
        """Seconds that a lease still has, 0 when it ran out or never was."""
        reply = await self._call("/lease/timetolive", {"ID": str(lease_id)})
        return max(0, int(reply.get("TTL", 0)))

    async def revoke(self, lease_id: int) -> None:
        """End a lease; keys attached to it vanish."""
        await self._call("/kv/lease/revoke", {"ID": str(lease_id)})

    async def watch(self, key: bytes, range_end: bytes, start_revision: int) -> WatchStream:
        """Open a watch; the first message says `created` (or `canceled`)."""
        body = messages.watch_body(key, range_end, start_revision)
        return await self._walk("/watch", body, self._open_stream)

    def forget_token(self) -> None:
        """Authenticate anew before the next request."""
        self._token = None

    async def aclose(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # ------------------------------------------------------------------ fail-over

    async def _call(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._walk(path, body, self._read_reply)

    async def _walk(self, path: str, body: Mapping[str, Any], read: _Reader[_T]) -> _T:
        """Try the endpoints in turn; `read` turns an open response into the result."""
        start = self._preferred
        failures: list[RegistryError] = []
        # A kept connection that the server closed meanwhile looks like a dead endpoint: the first
        # endpoint gets a second chance after all others.
        for step in range(len(self.endpoints) + 1):
            index = (start + step) % len(self.endpoints)
            endpoint = self.endpoints[index]
            try:
                result = await self._authenticated(endpoint, path, body, read)
            except TRY_ELSEWHERE as error:
                failures.append(error)
                self.counters["endpoint_failures"] += 1
                if isinstance(error, EtcdTlsRefused) and self._ssl is not None:
                    # The files may have been renewed since; if they are wrong, the old ones stay.
                    with contextlib.suppress(OperatorError):
                        self._ssl = self._read_tls_files()
                continue
            self._preferred = index
            return result
        raise most_telling(failures)

    async def _authenticated(
        self, endpoint: str, path: str, body: Mapping[str, Any], read: _Reader[_T]
    ) -> _T:
        if self._config.username and self._token is None:
            self._token = await self._authenticate(endpoint)
        used = self._token
        try:
            return await self._post(endpoint, path, body, read)
        except EtcdTokenRefused:
            if not self._config.username:
                raise
            if self._token == used:
                self._token = await self._authenticate(endpoint)
            return await self._post(endpoint, path, body, read)

    async def _authenticate(self, endpoint: str) -> str:
        """Fetch a token; "" where authentication is not enabled (as etcd's own client does)."""
        self.counters["authentications"] += 1
        body = {"name": self._config.username, "password": self._config.password}
        try:
            reply = await self._post(endpoint, "/auth/authenticate", body, self._read_reply)
        except RegistryError as error:
            if "authentication is not enabled" in error.what:
                return ""
            raise
        return str(reply.get("token", ""))

    # ------------------------------------------------------------------ one request

    async def _post(
        self, endpoint: str, path: str, body: Mapping[str, Any], read: _Reader[_T]
    ) -> _T:
        """One attempt at one endpoint; whatever goes wrong becomes a RegistryError."""
        self.counters["requests"] += 1
        headers = {"Content-Type": "application/json", "Grpc-Metadata-hasleader": "true"}
        if self._token and path != "/auth/authenticate":
            headers["Authorization"] = self._token
        data = json.dumps(body).encode()
        _log.v(4).info("etcd request", endpoint=endpoint, path=path, request_bytes=len(data))
        try:
            return await _within(
                self._timeouts.request, self._exchange(endpoint, path, data, headers, read)
            )
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            if isinstance(error, asyncio.TimeoutError):
                # A token names the log index at which it was made, and etcd waits for that index
                # before it judges the token: for ever, when its data is older than the token.
                self._token = None
            raise connection_error(
                endpoint, error, self._config.certfile, self._config.cafile
            ) from error

    async def _exchange(
        self,
        endpoint: str,
        path: str,
        data: bytes,
        headers: Mapping[str, str],
        read: _Reader[_T],
    ) -> _T:
        session = self._open_session()
        for gateway in self._gateway_paths(endpoint):
            response = await session.post(
                endpoint + gateway + path,
                data=data,
                headers=headers,
                ssl=self._ssl or True,
                allow_redirects=False,
            )
            if response.status == 404 and "json" not in response.content_type:
                response.release()
                continue
            self._gateway[endpoint] = gateway
            return await read(endpoint, response)
        raise not_a_gateway(endpoint, await self._version(endpoint))

    def _gateway_paths(self, endpoint: str) -> tuple[str, ...]:
        known = self._gateway.get(endpoint)
        return _GATEWAY_PATHS if known is None else tuple(dict.fromkeys((known, *_GATEWAY_PATHS)))

    async def _version(self, endpoint: str) -> str:
        """What /version says, "" when it is not etcd that answers."""
        session = self._open_session()
        async with session.get(endpoint + "/version", ssl=self._ssl or True) as response:
            try:
                return str(json.loads(await response.content.read(4096))["etcdserver"])
            except (ValueError, KeyError, TypeError):
                return ""

    async def _read_reply(
        self, endpoint: str, response: aiohttp.ClientResponse
    ) -> Mapping[str, Any]:
        async with response:
            text = bytearray()
            async for chunk in response.content.iter_any():
                text += chunk
                if len(text) > _MAX_REPLY:
                    response.close()
                    raise ReplyTooLarge(
                        f"etcd at {endpoint}: one reply has more than {_MAX_REPLY} bytes"
                    )
            return self._decode(endpoint, response.status, bytes(text))

    async def _open_stream(self, endpoint: str, response: aiohttp.ClientResponse) -> WatchStream:
        if response.status != 200:
            await self._read_reply(endpoint, response)  # raises: the status is an error's
            raise RegistryUnavailable(f"etcd at {endpoint}: HTTP status {response.status}")
        return WatchStream(endpoint, response)

    def _decode(self, endpoint: str, status: int, text: bytes) -> Mapping[str, Any]:
        try:
            reply = json.loads(text)
        except (ValueError, RecursionError):
            reply = None
        if status != 200:
            code, message = 0, text[:200].decode("utf-8", "replace")
            if isinstance(reply, dict):
                code, message = error_of(reply)
            raise reply_error(endpoint, status, code, message)
        if not isinstance(reply, dict):
            raise RegistryUnavailable(f"etcd at {endpoint} answered something that is not JSON")
        return reply

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=self._timeouts.connect,
                    sock_connect=self._timeouts.connect,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def _within(seconds: float, work: Coroutine[Any, Any, _T]) -> _T:
    """Await `work` for so long at most; asyncio.TimeoutError.

    asyncio.wait_for may swallow a cancellation before Python 3.12 (bpo-37658), and a follower that
    misses the one it got is never stopped.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        task.add_done_callback(_discard)
        raise
    if not task.done():
        task.cancel()
        task.add_done_callback(_discard)
        raise asyncio.TimeoutError
    return task.result()


def _discard(task: asyncio.Task[Any]) -> None:
    """Close what came too late for anybody to want it."""
    if not task.cancelled() and task.exception() is None:
        result = task.result()
        if isinstance(result, WatchStream):
            result.close()
