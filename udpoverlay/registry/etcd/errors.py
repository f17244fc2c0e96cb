"""What a failed etcd request means: gRPC codes and broken connections become errors with a fix.

Owns: etcd's use of gRPC's status codes (api/v3rpc/rpctypes/error.go), the ways in which TLS fails.
Must not know: when to try again (client.py) or what was asked for.

An error is what its code says. Its English text differs between versions of etcd: it is shown, and
never looked into. No text made here may carry a password or a token.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Sequence
from datetime import datetime, timezone

from udpoverlay.errors import RegistryDenied, RegistryError, RegistryUnavailable
from udpoverlay.registry.etcd.tls import outside_validity

__all__ = [
    "TRY_ELSEWHERE",
    "EtcdCompacted",
    "EtcdInvalid",
    "EtcdPrecondition",
    "EtcdTimedOut",
    "EtcdTlsRefused",
    "EtcdTokenRefused",
    "ReplyTooLarge",
    "connection_error",
    "most_telling",
    "status_error",
]

# google.golang.org/grpc/codes
_INVALID, _NOT_FOUND, _DENIED, _EXHAUSTED, _PRECONDITION = 3, 5, 7, 8, 9
_OUT_OF_RANGE, _UNIMPLEMENTED, _UNAUTHENTICATED = 11, 12, 16

_LONGEST_TEXT = 300


class EtcdCompacted(RegistryError):
    """The revision asked for is not kept any more, or does not exist yet."""


class EtcdInvalid(RegistryDenied):
    """etcd takes the request for invalid.

    Of our requests, which are valid, it says so when it cannot tell who asks: no user where it has
    users, a wrong password, a token from before the users were changed.
    """


class EtcdPrecondition(RegistryError):
    """The request is at odds with etcd's state: there are no users, or such a lease exists."""


class EtcdTimedOut(RegistryUnavailable):
    """No answer came in time. The request may have been carried out, or may yet be."""


class EtcdTokenRefused(RegistryDenied):
    """Our token is not (or no longer) valid; authenticating again may help."""


class EtcdTlsRefused(RegistryDenied):
    """One side of the connection refused the other's certificate, or TLS altogether."""


class ReplyTooLarge(RegistryError):
    """The reply has more bytes than we hold; ask for fewer keys at once."""


TRY_ELSEWHERE = (RegistryUnavailable, EtcdTlsRefused)
"""What is wrong with one endpoint and may be right at the next."""


def most_telling(failures: Sequence[RegistryError]) -> RegistryError:
    """One error for all endpoints that failed; a refusal says more than silence."""
    chosen = next((e for e in failures if not isinstance(e, RegistryUnavailable)), failures[0])
    what = "; ".join(dict.fromkeys(error.what for error in failures))
    fix = chosen.fix or next((error.fix for error in failures if error.fix), "")
    return type(chosen)(what, fix=fix)


_MEANING: dict[int, tuple[type[RegistryError], str, str]] = {
    _UNAUTHENTICATED: (
        EtcdTokenRefused,
        "refused our token",
        "check etcd-username and etcd-password",
    ),
    _INVALID: (
        EtcdInvalid,
        "refuses the request",
        "if it has users: give etcd-username and etcd-password, or a client certificate whose "
        "common name is a user",
    ),
    _DENIED: (
        RegistryDenied,
        "denies the request",
        "grant the user's role readwrite on etcd-prefix: etcdctl role grant-permission",
    ),
    _EXHAUSTED: (
        RegistryError,
        "has no room",
        "if its database is full: compact and defragment it, then etcdctl alarm disarm",
    ),
    _UNIMPLEMENTED: (
        RegistryUnavailable,
        "does not answer as etcd",
        "check etcd-endpoints (2379 is etcd's client port, 2380 its peer port)",
    ),
    _OUT_OF_RANGE: (EtcdCompacted, "cannot go back so far", ""),
    _PRECONDITION: (EtcdPrecondition, "cannot do it now", ""),
    _NOT_FOUND: (RegistryError, "does not find it", ""),
}
"""What a status other than OK makes of a request: error, text, fix. All others may pass."""


def status_error(endpoint: str, code: int, message: str) -> RegistryError:
    """Turn a gRPC status other than OK into one of our errors."""
    kind, what, fix = _MEANING.get(code, (RegistryUnavailable, "cannot answer", ""))
    text = " ".join(message.split())[:_LONGEST_TEXT] or f"gRPC status {code}"
    return kind(f"etcd at {endpoint} {what}: {text.removeprefix('etcdserver: ')}", fix=fix)


def connection_error(
    endpoint: str, error: BaseException, certfile: str, cafile: str
) -> RegistryError:
    """Say why no reply came; file names are given for the message, "" when there are none."""
    where = f"etcd at {endpoint}"
    if isinstance(error, ssl.SSLError):
        return _tls_error(where, error, certfile, cafile)
    if isinstance(error, asyncio.TimeoutError):
        return EtcdTimedOut(f"{where} did not answer in time")
    if isinstance(error, OSError) and (why := _why(error)):
        return RegistryUnavailable(
            f"{where}: {why}", fix="check that etcd runs there and that etcd-endpoints is right"
        )
    # etcd hangs up on the wrong scheme without a word, as it does when it is stopped; a server that
    # is no etcd answers something that is no HTTP/2.
    other = "http://" if endpoint.startswith("https:") else "https://"
    return RegistryUnavailable(
        f"{where} broke the connection",
        fix=f"if it is up: check that this is etcd's client port (2379), or try {other} in "
        "etcd-endpoints",
    )


def _why(error: OSError) -> str:
    """The kernel's or the resolver's reason; asyncio's own text repeats the address instead.

    "" for a connection that was there and then broken off.
    """
    code = error.errno or 0
    if code in (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE):
        return ""
    return os.strerror(code) if code > 0 else (error.strerror or str(error))[:_LONGEST_TEXT]


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
            why = outside_validity(certfile, datetime.now(timezone.utc)) or alert
            return EtcdTlsRefused(
                f"{where} refused our client certificate (etcd-certfile {certfile}): {why}",
                fix="use one that etcd's --trusted-ca-file has signed and that has not run out",
            )
        return EtcdTlsRefused(
            f"{where} wants a client certificate: {alert}",
            fix="give etcd-certfile and etcd-keyfile",
        )
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return EtcdTlsRefused(f"{where} does not speak TLS", fix="write http:// in etcd-endpoints")
    return RegistryUnavailable(f"{where}: TLS failed: {reason or error}")
