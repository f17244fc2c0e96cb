"""Who we are to a Kubernetes API server: what each request's Authorization header says.

Owns: tokens and when they are read again, passwords, credential plugins
(k8s.io/client-go plugin/pkg/client/auth/exec). Must not know: kubeconfig's spelling, requests.
No error made here may carry a secret.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from udpoverlay.errors import OperatorError, RegistryDenied
from udpoverlay.kubernetes import codec
from udpoverlay.kubernetes.codec import ExecCredential
from udpoverlay.kubernetes.errors import KubeUndecodable
from udpoverlay.kubernetes.tls import Piece, Tls
from udpoverlay.log import RateLimited, get_logger

__all__ = [
    "Credentials",
    "ExecPlugin",
    "FixedHeader",
    "PluginSettings",
    "TokenFile",
    "basic",
    "bearer",
]

_log = get_logger(__name__)

TOKEN_REREAD = 60.0
"""Seconds; a service account token is rotated on disk well before it runs out."""

PLUGIN_TIMEOUT = 60.0
"""Seconds that a plugin may take."""

PLUGIN_OUTPUT = 1 << 20
"""Bytes that a plugin may print."""

_TOKEN = re.compile(r"[!-~]+")
"""Printable ASCII without spaces: all that a bearer token may hold (RFC 6750 2.1 allows less)."""

_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class Credentials(Protocol):
    """Where the Authorization header comes from."""

    async def header(self) -> str:
        """The header's value now, "" for none. Raises RegistryDenied."""

    def refused(self) -> bool:
        """The server said 401: forget what is cached. True when asking again may give another."""


@dataclass(frozen=True, slots=True)
class FixedHeader:
    """A token or password that never changes, or nothing at all."""

    value: str = field(default="", repr=False)

    async def header(self) -> str:
        """See Credentials."""
        return self.value

    def refused(self) -> bool:
        """See Credentials."""
        return False


def bearer(token: str, origin: str) -> FixedHeader:
    """A token that never changes; OperatorError naming `origin` when it is none."""
    if _TOKEN.fullmatch(token) is None:
        raise OperatorError(
            f"{origin}: the token holds spaces or characters beyond ASCII",
            fix="write it in one line, as it was issued",
        )
    return FixedHeader(f"Bearer {token}")


def basic(username: str, password: str) -> FixedHeader:
    """HTTP basic authentication."""
    pair = base64.b64encode(f"{username}:{password}".encode()).decode()
    return FixedHeader(f"Basic {pair}")


class TokenFile:
    """A bearer token in a file that is rotated (the pod's service account).

    The file may be away, empty or half-written when it is read: then the last good token stays, and
    the next request reads again.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Raise OperatorError when there is no token in the file now."""
        self._path = path
        self._clock = clock
        self._report = RateLimited(_log, clock, per_minute=1)
        try:
            self._token = self._look()
        except _NoToken as error:
            raise OperatorError(f"token file {path}: {error}", fix="check it") from None
        self._read_at = clock()

    async def header(self) -> str:
        """See Credentials."""
        if self._clock() - self._read_at >= TOKEN_REREAD:
            self._read()
        return f"Bearer {self._token}"

    def refused(self) -> bool:
        """See Credentials."""
        before = self._token
        self._read()
        return self._token != before

    def _read(self) -> None:
        try:
            self._token = self._look()
        except _NoToken as error:
            self._report.warning("token", "token file not read", file=self._path, why=str(error))
        else:
            self._read_at = self._clock()

    def _look(self) -> str:
        try:
            text = self._path.read_bytes()[: PLUGIN_OUTPUT + 1].decode("ascii").strip()
        except OSError as error:
            raise _NoToken(error.strerror) from error
        except UnicodeDecodeError:
            raise _NoToken("it is not ASCII text") from None
        if _TOKEN.fullmatch(text) is None:
            raise _NoToken("it holds no token" if text else "it is empty")
        return text


class _NoToken(Exception):
    """The text says why."""


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """The `exec` part of a kubeconfig user."""

    command: str
    args: Sequence[str]
    env: Mapping[str, str]
    api_version: str
    install_hint: str = ""
    cluster: Mapping[str, Any] | None = None
    """What provideClusterInfo passes on."""


class ExecPlugin:
    """A program that prints an ExecCredential; run when there is none, it ran out or got a 401."""

    def __init__(
        self,
        settings: PluginSettings,
        tls: Tls | None,
        inherited: Mapping[str, str],
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """`tls` receives a client certificate that the plugin prints; `now` is the wall clock."""
        if settings.api_version not in _VERSIONS:
            raise OperatorError(
                f"exec plugin {settings.command}: apiVersion {settings.api_version!r} is not known",
                fix=f"use {_VERSIONS[0]}",
            )
        self._settings = settings
        self._tls = tls
        self._inherited = inherited
        self._now = now
        self._header: str | None = None
        self._expires: datetime | None = None
        self._lock = asyncio.Lock()

    async def header(self) -> str:
        """See Credentials."""
        async with self._lock:
            if self._header is None or (self._expires is not None and self._now() >= self._expires):
                self._header = await self._ask()
            return self._header

    def refused(self) -> bool:
        """See Credentials."""
        self._header = None
        return True

    async def _ask(self) -> str:
        said = self._said(await self._run())
        if not said.token and not said.certificate:
            raise self._failed("printed neither a token nor a client certificate")
        if said.token and _TOKEN.fullmatch(said.token) is None:
            raise self._failed("printed a token that is none")
        if said.certificate and self._tls is not None:
            name = f"the certificate of exec plugin {self._settings.command}"
            try:
                self._tls.use_pair(
                    Piece(name, data=said.certificate.encode()),
                    Piece("its key", data=said.key.encode()),
                )
            except OperatorError as error:
                raise RegistryDenied(error.what, fix=error.fix) from error
        self._expires = None
        if said.expires:
            try:
                self._expires = datetime.fromisoformat(said.expires.replace("Z", "+00:00"))
            except ValueError:
                raise self._failed("printed an expirationTimestamp that is not a time") from None
            if self._expires.tzinfo is None:
                raise self._failed("printed an expirationTimestamp without a time zone")
        return f"Bearer {said.token}" if said.token else ""

    async def _run(self) -> bytes:
        settings = self._settings
        spec: dict[str, Any] = {"interactive": False}
        if settings.cluster is not None:
            spec["cluster"] = dict(settings.cluster)
        info = {"apiVersion": settings.api_version, "kind": "ExecCredential", "spec": spec}
        environment = {
            **self._inherited,
            **settings.env,
            "KUBERNETES_EXEC_INFO": json.dumps(info),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                settings.command,
                *settings.args,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except (OSError, ValueError) as error:
            why = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            raise self._failed(
                f"cannot be started: {why}",
                settings.install_hint or "install it or correct the kubeconfig",
            ) from error
        reading = asyncio.gather(_output(process.stdout), _output(process.stderr), process.wait())
        try:
            out, err, code = await asyncio.wait_for(reading, PLUGIN_TIMEOUT)
        except asyncio.TimeoutError:
            raise self._failed(f"took longer than {PLUGIN_TIMEOUT:.0f} s") from None
        except _TooMuch:
            raise self._failed(f"printed more than {PLUGIN_OUTPUT >> 20} MB") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            # And its pipes, which its children may still hold; asyncio has no public way.
            process._transport.close()  # type: ignore[attr-defined]
        if code:
            text = err.decode("utf-8", "replace").strip()[-200:]
            raise self._failed(f"ended with code {code}: {text}")
        return out

    def _said(self, out: bytes) -> ExecCredential:
        try:
            said = codec.exec_credential(out)
        except KubeUndecodable as error:
            raise self._failed(f"did not print an ExecCredential: {error.what}") from None
        if said.api_version != self._settings.api_version:
            raise self._failed(
                f"printed {said.api_version!r} instead of {self._settings.api_version}"
            )
        return said

    def _failed(self, how: str, fix: str = "") -> RegistryDenied:
        return RegistryDenied(
            f"exec plugin {self._settings.command} {how}",
            fix=fix or "run it by hand and check what it says",
        )


class _TooMuch(Exception):
    """A plugin prints without an end."""


async def _output(stream: asyncio.StreamReader | None) -> bytes:
    """What a plugin prints, within reason."""
    assert stream is not None
    said = bytearray()
    while piece := await stream.read(1 << 16):
        said += piece
        if len(said) > PLUGIN_OUTPUT:
            raise _TooMuch
    return bytes(said)
