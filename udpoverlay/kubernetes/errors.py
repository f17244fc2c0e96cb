"""What a Kubernetes API server's refusal means: Status objects and broken connections as errors.

Owns: HTTP codes and reasons (k8s.io/apimachinery pkg/api/errors). Must not know: when to try again.
No text made here may carry a token or a password.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from udpoverlay.errors import (
    RegistryConflict,
    RegistryDenied,
    RegistryError,
    RegistryUnavailable,
)

__all__ = [
    "KubeDenied",
    "KubeExists",
    "KubeGone",
    "KubeInvalid",
    "KubeModified",
    "KubeNotFound",
    "KubeTooLarge",
    "KubeUnauthorized",
    "KubeUndecodable",
    "Status",
    "connection_error",
    "status_error",
]

_CANNOT = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>[\w-]+) resource "(?P<resource>[^"]+)"'
    r' in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_MAX_TEXT = 300


class KubeNotFound(RegistryError):
    """No such object."""


class KubeExists(RegistryConflict):
    """An object of this name exists already."""


class KubeModified(RegistryConflict):
    """The object changed since it was read, or is another one of the same name."""


class KubeGone(RegistryError):
    """The resourceVersion or the page is no longer kept: list again."""


class KubeInvalid(RegistryError):
    """The server does not accept this change: a field that is wrong or may not change."""


class KubeUndecodable(RegistryUnavailable):
    """The reply is not what it must be; what was known before stays true."""


class KubeTooLarge(KubeUndecodable):
    """The reply is larger than anything that we hold in memory."""


class KubeUnauthorized(RegistryDenied):
    """The credentials are not (or no longer) valid."""


class KubeDenied(RegistryDenied):
    """We are known but may not do this; the fields are "" where the server did not say."""

    def __init__(self, what: str, cannot: Mapping[str, str], *, fix: str = "") -> None:
        """`cannot`: user, verb, resource, group and namespace, as far as the server said."""
        self.user = cannot.get("user", "")
        self.verb = cannot.get("verb", "")
        self.resource = cannot.get("resource", "")
        self.group = cannot.get("group", "")
        self.namespace = cannot.get("namespace", "")
        super().__init__(what, fix=fix)


_BY_CODE: dict[int, type[RegistryError]] = {
    404: KubeNotFound,
    409: KubeModified,
    410: KubeGone,
    422: KubeInvalid,
    429: RegistryUnavailable,
}


@dataclass(frozen=True, slots=True)
class Status:
    """Why a request was refused, as the body says; "" and 0 where it does not."""

    code: int = 0
    reason: str = ""
    message: str = ""


def status_error(code: int, status: Status, request: str) -> RegistryError:
    """The error for an answer of `code` whose body is `status`; `request` says what was asked."""
    text = status.message[:_MAX_TEXT] or f"HTTP {code}"
    what = f"{request}: {text}"
    if code == 403:
        match = _CANNOT.search(text)
        return KubeDenied(what, {k: v or "" for k, v in match.groupdict().items()} if match else {})
    if code == 401:
        return KubeUnauthorized(
            f"{request}: the API server does not accept our credentials",
            fix="check the token or certificate in the kubeconfig or the pod's service account",
        )
    if code == 409 and status.reason == "AlreadyExists":
        return KubeExists(what)
    if code >= 500:
        return RegistryUnavailable(what)
    return _BY_CODE.get(code, RegistryError)(what)


def connection_error(error: BaseException, server: str) -> RegistryError:
    """The error for a request that got no answer."""
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        return RegistryDenied(
            f"the certificate of {server} cannot be trusted: {_reason(error)}",
            fix="check certificate-authority and the server's host name in the kubeconfig",
        )
    if isinstance(error, (aiohttp.ClientConnectorSSLError, ssl.SSLError)):
        return RegistryDenied(
            f"TLS with {server} failed: {_reason(error)}",
            fix="check https or http in the API server's URL, and the client certificate",
        )
    if isinstance(error, asyncio.TimeoutError):
        return RegistryUnavailable(f"{server} does not answer")
    if isinstance(error, aiohttp.ClientPayloadError):
        return RegistryUnavailable(f"{server} broke off its answer")
    if isinstance(error, OSError | aiohttp.ClientConnectionError):
        return RegistryUnavailable(f"{server} cannot be reached: {_reason(error)}")
    # Whatever else a foreign reply makes of the libraries that read it.
    why = f"{type(error).__name__}: {_reason(error)}"
    return KubeUndecodable(f"the answer of {server} cannot be read: {why}")


def _reason(error: BaseException) -> str:
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    return str(getattr(cause, "strerror", None) or cause or type(error).__name__)[:_MAX_TEXT]
