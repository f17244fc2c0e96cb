"""Requests to etcd over gRPC: endpoints, fail-over, users, watches.

Owns: when one request is tried again and where, tokens, the files of TLS.
Must not know: HTTP/2 (channel.py), what a message looks like (messages.py), what a key means, when
a caller should try again.

One request walks the endpoints, starting with the one that answered last, until one answers:

    connection refused, broken, timed out, "unavailable", "no leader"  → next endpoint
    token refused                                                     → authenticate again, once
    anything else                                                     → the caller's error

There is one connection an endpoint, which all requests and watches share. Every request says that
it needs a leader (metadata `hasleader`), so that a member cut off from the others refuses at once
instead of keeping us waiting. A request may have been carried out though its reply was lost
(RegistryUnavailable): callers write only in transactions whose repetition is harmless.
"""

from __future__ import annotations

import contextlib
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from udpoverlay.errors import OperatorError, RegistryDenied, RegistryError
from udpoverlay.log import get_logger
from udpoverlay.model.config import EtcdConfig
from udpoverlay.redact import redact_url
from udpoverlay.registry.etcd import messages
from udpoverlay.registry.etcd.channel import Channel
from udpoverlay.registry.etcd.errors import (
    TRY_ELSEWHERE,
    EtcdInvalid,
    EtcdPrecondition,
    EtcdTimedOut,
    EtcdTlsRefused,
    EtcdTokenRefused,
    most_telling,
)
from udpoverlay.registry.etcd.messages import (
    Op,
)
from udpoverlay.registry.etcd.stream import WatchStream
from udpoverlay.registry.etcd.tls import client_context
from udpoverlay.registry.etcd.values import (
    RangeReply,
    TxnReply,
)

__all__ = ["EtcdClient", "EtcdTimeouts", "parse_endpoints"]

_log = get_logger(__name__)

_MAX_REPLY = 4 << 20
"""Bytes of a reply with many keys; a page of leases has about 0.15 MB."""
_MAX_SINGLE = 16 << 20
"""Bytes of a reply with one key, or of a watch's message; etcd's --max-request-bytes, which bounds
both, is 1.5 MB."""

_T = TypeVar("_T")
_Attempt = Callable[[Channel, dict[str, str]], Awaitable[_T]]
"""Carries a request out on a connection, with the metadata that it must send."""


@dataclass(frozen=True, slots=True)
class EtcdTimeouts:
    """Seconds to wait for one endpoint."""

    connect: float = 2.0
    request: float = 5.0


def parse_endpoints(endpoints: Sequence[str], *, tls: bool) -> tuple[str, ...]:
    """Check endpoints; one without a scheme is https when TLS files are given, else http.

    Empty ones, as after a comma too many, are left out, as flanneld does.
    """
    parsed = []
    for endpoint in filter(None, endpoints):
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
        self._token: str | None = None
        self._channels: dict[str, Channel] = {}
        self.counters: Counter[str] = Counter()

    def _read_tls_files(self) -> ssl.SSLContext:
        config = self._config
        return client_context(
            keyfile=config.keyfile, certfile=config.certfile, cafile=config.cafile
        )

    # ------------------------------------------------------------------ requests

    async def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        limit: int = 0,
        endpoint: str = "",
        **options: Any,
    ) -> RangeReply:
        """Read keys, linearizable; options are those of messages.range_request.

        `endpoint`: ask this one alone.
        """
        request = messages.range_request(key, range_end, limit=limit, **options)
        single = limit == 1 or not range_end
        reply = await self._call(
            messages.RANGE, request, _MAX_SINGLE if single else _MAX_REPLY, endpoint=endpoint
        )
        return messages.range_reply(reply, key, range_end, limit=limit)

    async def txn(
        self, compare: Sequence[bytes], success: Sequence[Op], failure: Sequence[Op] = ()
    ) -> TxnReply:
        """Run a transaction made of messages's comparisons and operations."""
        request = messages.txn_request(compare, success, failure)
        reply = await self._call(messages.TXN, request)
        return messages.txn_reply(reply, success, failure)

    async def grant(self, lease_id: int, ttl: int) -> int:
        """Make a lease of `ttl` seconds with an id of our choice; return the seconds granted.

        Raises EtcdPrecondition when there is one with this id.
        """
        request = messages.grant_request(lease_id, ttl)
        return messages.grant_reply(await self._call(messages.LEASE_GRANT, request), lease_id)

    async def time_to_live(self, lease_id: int) -> tuple[int, tuple[bytes, ...]]:
        """Seconds that a lease still has, -1 when there is none; and the keys that hang on it."""
        request = messages.time_to_live_request(lease_id)
        return messages.time_to_live_reply(await self._call(messages.LEASE_TIME_TO_LIVE, request))

    async def revoke(self, lease_id: int) -> None:
        """End a lease; keys attached to it vanish."""
        request = messages.revoke_request(lease_id)
        messages.revoke_reply(await self._call(messages.LEASE_REVOKE, request))

    async def watch(self, key: bytes, range_end: bytes, start_revision: int) -> WatchStream:
        """Open a watch; returns when etcd has said that it stands."""

        async def open_watch(channel: Channel, metadata: dict[str, str]) -> WatchStream:
            call = await channel.stream(
                messages.WATCH,
                messages.watch_request(key, range_end, start_revision),
                metadata,
                timeout=self._timeouts.request,
                most=_MAX_SINGLE,
            )
            stream = WatchStream(channel.endpoint, call, key, range_end)
            await stream.opened(self._timeouts.request)
            return stream

        return await self._walk(messages.WATCH, open_watch)

    @property
    def endpoint(self) -> str:
        """The endpoint that is asked first."""
        return self.endpoints[self._preferred]

    def leave(self, endpoint: str) -> None:
        """Break the connection to an endpoint that fell silent; ask another one first."""
        self._drop(endpoint)
        if self.endpoint == endpoint:
            self._preferred = (self._preferred + 1) % len(self.endpoints)

    def reconnect(self) -> None:
        """Break all connections; each next request makes its own."""
        for endpoint in self.endpoints:
            self._drop(endpoint)

    def forget_token(self) -> None:
        """Authenticate again before the next request."""
        self._token = None

    async def aclose(self) -> None:
        """Close all connections."""
        self.reconnect()

    def _drop(self, endpoint: str) -> None:
        channel = self._channels.pop(endpoint, None)
        if channel is not None:
            channel.close()

    # ------------------------------------------------------------------ fail-over

    async def _call(
        self, method: str, request: bytes, most: int = _MAX_REPLY, *, endpoint: str = ""
    ) -> bytes:
        async def unary(channel: Channel, metadata: dict[str, str]) -> bytes:
            return await channel.unary(
                method, request, metadata, timeout=self._timeouts.request, most=most
            )

        if endpoint:
            return await self._authenticated(endpoint, method, unary)
        return await self._walk(method, unary)

    async def _walk(self, method: str, attempt: _Attempt[_T]) -> _T:
        """Try the endpoints in turn."""
        start = self._preferred
        failures: list[RegistryError] = []
        # A connection that the server closed in this moment looks like a dead endpoint: the first
        # endpoint gets a second chance after all others.
        for step in range(len(self.endpoints) + 1):
            index = (start + step) % len(self.endpoints)
            endpoint = self.endpoints[index]
            try:
                result = await self._authenticated(endpoint, method, attempt)
            except TRY_ELSEWHERE as error:
                failures.append(error)
                self.counters["endpoint_failures"] += 1
                if isinstance(error, EtcdTlsRefused) and self._ssl is not None:
                    # The files may have been renewed since; if they are wrong, the old ones stay.
                    with contextlib.suppress(OperatorError):
                        self._ssl = self._read_tls_files()
                        self._drop(endpoint)
                continue
            self._preferred = index
            return result
        raise most_telling(failures)

    async def _authenticated(self, endpoint: str, method: str, attempt: _Attempt[_T]) -> _T:
        if self._config.username and self._token is None:
            self._token = await self._authenticate(endpoint)
        used = self._token
        try:
            return await self._attempt(endpoint, method, attempt)
        except (EtcdTokenRefused, EtcdInvalid):
            # Invalid is also a token from before the users were changed.
            if not used:
                raise
            if self._token == used:
                self._token = await self._authenticate(endpoint)
            return await self._attempt(endpoint, method, attempt)

    async def _authenticate(self, endpoint: str) -> str:
        """Fetch a token; "" where authentication is not enabled (as etcd's own client does)."""
        self.counters["authentications"] += 1
        request = messages.authenticate_request(self._config.username, self._config.password)

        async def unary(channel: Channel, metadata: dict[str, str]) -> bytes:
            metadata.pop("token", None)
            return await channel.unary(
                messages.AUTHENTICATE,
                request,
                metadata,
                timeout=self._timeouts.request,
                most=_MAX_REPLY,
            )

        try:
            reply = await self._attempt(endpoint, messages.AUTHENTICATE, unary)
        except EtcdPrecondition:
            return ""
        except EtcdInvalid:
            raise RegistryDenied(
                f"etcd at {endpoint} refused the user name or password",
                fix="check etcd-username and etcd-password",
            ) from None
        return messages.authenticate_reply(reply)

    # ------------------------------------------------------------------ one request

    async def _attempt(self, endpoint: str, method: str, attempt: _Attempt[_T]) -> _T:
        """One attempt at one endpoint; whatever goes wrong becomes a RegistryError."""
        self.counters["requests"] += 1
        metadata = {"hasleader": "true"}
        if self._token:
            metadata["token"] = self._token
        _log.v(4).info("etcd request", endpoint=endpoint, method=method)
        try:
            return await attempt(self._channel(endpoint), metadata)
        except EtcdTimedOut:
            # A token names the log index at which it was made, and etcd waits for that index
            # before it judges the token: for ever, when its data is older than the token.
            self._token = None
            raise

    def _channel(self, endpoint: str) -> Channel:
        channel = self._channels.get(endpoint)
        if channel is None:
            channel = Channel(
                endpoint,
                self._ssl,
                connect_timeout=self._timeouts.connect,
                certfile=self._config.certfile,
                cafile=self._config.cafile,
            )
            self._channels[endpoint] = channel
        return channel
