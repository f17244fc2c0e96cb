"""What a failed etcd request means: replies and broken connections become our errors, with the fix.

Owns: etcd's gRPC codes and messages (api/v3rpc/rpctypes/error.go), the ways in which TLS fails.
Must not know: when to try again (client.py) or what was asked for.
No text made here may carry a password or a token.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Sequence
from datetime import datetime, timezone

import aiohttp

from udpoverlay.errors import RegistryDenied, RegistryError, RegistryUnavailable
from udpoverlay.registry.etcd.tls import outside_validity

__all__ = [
    "TRY_ELSEWHERE",
    "EtcdCompacted",
    "EtcdFutureRevision",
    "EtcdNoGateway",
    "EtcdTlsRefused",
    "EtcdTokenRefused",
    "connection_error",
    "most_telling",
    "not_a_gateway",
    "reply_error",
]

# google.golang.org/grpc/codes
_CANCELLED, _UNKNOWN, _INVALID, _DEADLINE = 1, 2, 3, 4
_DENIED, _EXHAUSTED, _PRECONDITION = 7, 8, 9
_OUT_OF_RANGE, _INTERNAL, _UNAVAILABLE, _UNAUTHENTICATED = 11, 13, 14, 16

_CN_HINT = (
    "give etcd-username and etcd-password; a client certificate's common name does not count as a "
    "user here, because etcd's JSON gateway does not pass it on"
)


class EtcdCompacted(RegistryError):
    """The revision asked for is no longer kept."""


class EtcdFutureRevision(RegistryError):
    """The revision asked for does not exist yet: this store is younger than what we saw."""


class EtcdTokenRefused(RegistryDenied):
    """Our token is not (or no longer) valid; authenticating again may help."""


class EtcdTlsRefused(RegistryDenied):
    """One side of the connection refused the other's certificate, or TLS altogether."""


class EtcdNoGateway(RegistryError):
    """etcd answers there, but not with its JSON gateway."""


TRY_ELSEWHERE = (RegistryUnavailable, EtcdTlsRefused, EtcdNoGateway)
"""What is wrong with one endpoint and may be right at the next."""


def most_telling(failures: Sequence[RegistryError]) -> RegistryError:
    """One error for all endpoints that failed; a refusal says more than silence."""
    chosen = next((e for e in failures if not isinstance(e, RegistryUnavailable)), failures[0])
    what = "; ".join(dict.fromkeys(error.what for error in failures))
    fix = chosen.fix or next((error.fix for error in failures if error.fix), "")
    return type(chosen)(what, fix=fix)


def reply_error(endpoint: str, status: int, code: int, message: str) -> RegistryError:  # noqa: PLR0911 - a table
    """Turn an error reply of the gateway into one of ours; `code` is gRPC's, 0 if there is none."""
    where = f"etcd at {endpoint}"
    text = message.strip().removeprefix("etcdserver: ") or f"HTTP status {status}"
    if "has been compacted" in message:
        return EtcdCompacted(f"{where}: {text}")
    if "is a future revision" in message:
        return EtcdFutureRevision(f"{where}: {text}")
    if code == _UNAUTHENTICATED or "auth store is old" in message:
        return EtcdTokenRefused(
            f"{where} refused our token: {text}", fix="check etcd-username and etcd-password"
        )
    if "user name is empty" in message:
        return RegistryDenied(f"{where} asks for a user name", fix=_CN_HINT)
    if "invalid user ID or password" in message or "user name not found" in message:
        return RegistryDenied(
            f"{where} refused the user name or password",
            fix="check etcd-username and etcd-password",
        )
    if code == _DENIED:
        return RegistryDenied(
            f"{where} denies the request: {text}",
            fix="grant the user's role readwrite on etcd-prefix: etcdctl role grant-permission",
        )
    if "HTTP request to an HTTPS server" in message:
        return EtcdTlsRefused(f"{where} speaks TLS", fix="write https:// in etcd-endpoints")
    if "authentication handshake failed" in message:
        return EtcdTlsRefused(
            f"{where}: its JSON gateway cannot reach etcd itself: {text}",
            fix="with --client-cert-auth, etcd's own certificate needs the extended key usage "
            "clientAuth beside serverAuth, or etcd needs --client-cert-file",
        )
    if "database space exceeded" in message:
        return RegistryError(
            f"{where}: {text}", fix="compact and defragment etcd, then: etcdctl alarm disarm"
        )
    if status >= 500 or code in (
        _CANCELLED,
        _UNKNOWN,
        _DEADLINE,
        _EXHAUSTED,
        _INTERNAL,
        _UNAVAILABLE,
    ):
        return RegistryUnavailable(f"{where}: {text}")
    return RegistryError(f"{where}: {text}")


def not_a_gateway(endpoint: str, version: str) -> RegistryError:
    """No gateway path exists there; `version` is what /version said, "" when it said nothing."""
    if version:
        return EtcdNoGateway(
            f"etcd {version} at {endpoint} answers, but its JSON gateway is off",
            fix="start etcd without --enable-grpc-gateway=false",
        )
    return RegistryUnavailable(
        f"what answers at {endpoint} is not etcd's client port",
        fix="check etcd-endpoints (2379 is etcd's client port, 2380 its peer port)",
    )


def connection_error(
    endpoint: str, error: BaseException, certfile: str, cafile: str
) -> RegistryError:
    """Say why no reply came; file names are given for the message, "" when there are none."""
    where = f"etcd at {endpoint}"
    tls = _tls_cause(error)
    if tls is not None:
        return _tls_error(where, tls, certfile, cafile)
    if isinstance(error, (asyncio.TimeoutError, aiohttp.ServerTimeoutError)):
        return RegistryUnavailable(f"{where} did not answer in time")
    if isinstance(error, aiohttp.ClientConnectorError) and (why := _why(error.os_error)):
        return RegistryUnavailable(
            f"{where}: {why}", fix="check that etcd runs there and that etcd-endpoints is right"
        )
    # etcd hangs up on the wrong scheme without a word, as it does when it is stopped; who comes
    # first, its reset or the end of the handshake, is a matter of load.
    other = "http://" if endpoint.startswith("https:") else "https://"
    return RegistryUnavailable(
        f"{where} broke the connection",
        fix=f"if it is up, the scheme may be wrong: try {other} in etcd-endpoints",
    )


def _why(error: OSError) -> str:
    """The kernel's or the resolver's reason; asyncio's own text repeats the address instead.

    "" for a connection that was there and then broken off.
    """
    code = error.errno or 0
    if code in (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE):
        return ""
    return os.strerror(code) if code > 0 else error.strerror or ""


def _tls_cause(error: BaseException | None) -> ssl.SSLError | None:
    """Find the TLS error that aiohttp wrapped; its own classes derive from it, but hold nothing."""
    seen = 0
    while error is not None and seen < 8:
        if isinstance(error, ssl.SSLError) and not isinstance(error, aiohttp.ClientError):
            return error
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
        seen += 1
    return None


def _tls_error(where: str, error: ssl.SSLError, certfile: str, cafile: str) -> RegistryError:
    reason = (error.reason or "") if isinstance(error.reason, str) else ""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = error.verify_message or "certificate not valid"
        trust = f"etcd-cafile {cafile}" if cafile else "the system's authorities"
        fix = {
            10: "renew etcd's server certificate (or set this host's clock)",
            9: "set this host's clock, or wait until etcd's certificate is valid",
            62: "use a name in etcd-endpoints that etcd's certificate carries",
            64: "use an address in etcd-endpoints that etcd's certificate carries",
        }.get(error.verify_code, f"give the authority that signed it: it is not in {trust}")
        return EtcdTlsRefused(f"{where}: its certificate is refused: {what}", fix=fix)
    if "ALERT" in reason:
        alert = reason.split("ALERT_")[-1].replace("_", " ").lower()
        if certfile:
            told = outside_validity(certfile, datetime.now(timezone.utc)) or alert
            return EtcdTlsRefused(
                f"{where} refused our client certificate (etcd-certfile {certfile}): {told}",
                fix="use one that etcd's --trusted-ca-file has signed and that has not run out",
            )
        return EtcdTlsRefused(
            f"{where} wants a client certificate: {alert}",
            fix="give etcd-certfile and etcd-keyfile",
        )
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return EtcdTlsRefused(f"{where} does not speak TLS", fix="write http:// in etcd-endpoints")
    return RegistryUnavailable(f"{where}: TLS failed: {reason or error}")
