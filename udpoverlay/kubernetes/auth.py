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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from udpoverlay.errors import OperatorError, RegistryDenied
from udpoverlay.kubernetes.tls import Piece, Tls

__all__ = ["Credentials", "ExecPlugin", "FixedHeader", "PluginSettings", "TokenFile", "basic"]

TOKEN_REREAD = 60.0
"""Seconds; a service account token is rotated on disk well before it runs out."""

PLUGIN_TIMEOUT = 60.0
"""Seconds that a plugin may take."""

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


def basic(username: str, password: str) -> FixedHeader:
    """HTTP basic authentication."""
    pair = base64.b64encode(f"{username}:{password}".encode()).decode()
    return FixedHeader(f"Basic {pair}")


class TokenFile:
    """A bearer token in a file that somebody else keeps fresh (the pod's service account)."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Raise OperatorError when the file cannot be read now."""
        self._path = path
        self._clock = clock
        try:
            self._token = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise OperatorError(
                f"token file {path}: {error.strerror}", fix="check the path and its rights"
            ) from error
        self._read_at = clock()

    async def header(self) -> str:
        """See Credentials; a file that is away for a moment leaves the token as it was."""
        if self._clock() - self._read_at >= TOKEN_REREAD:
            self._read()
        return f"Bearer {self._token}"

    def refused(self) -> bool:
        """See Credentials."""
        before = self._token
        self._read()
        return self._token != before

    def _read(self) -> None:
        self._read_at = self._clock()
        try:
            token = self._path.read_text(encoding="utf-8").strip()
        except OSError:
            return
        if token:
            self._token = token


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
        status = self._status(await self._run())
        token = status.get("token") or ""
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        if not token and not certificate:
            raise self._failed("printed neither a token nor a client certificate")
        if certificate and self._tls is not None:
            name = f"the certificate of exec plugin {self._settings.command}"
            try:
                self._tls.use_pair(
                    Piece(name, data=str(certificate).encode()),
                    Piece("its key", data=str(key or "").encode()),
                )
            except OperatorError as error:
                raise RegistryDenied(error.what, fix=error.fix) from error
        self._expires = None
        if until := status.get("expirationTimestamp"):
            try:
                self._expires = datetime.fromisoformat(str(until).replace("Z", "+00:00"))
            except ValueError:
                raise self._failed("printed an expirationTimestamp that is not a time") from None
        return f"Bearer {token}" if token else ""

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
        except OSError as error:
            raise self._failed(
                f"cannot be started: {os.strerror(error.errno or 0)}",
                settings.install_hint or "install it or correct the kubeconfig",
            ) from error
        try:
            out, err = await asyncio.wait_for(process.communicate(), PLUGIN_TIMEOUT)
        except asyncio.TimeoutError:
            raise self._failed(f"took longer than {PLUGIN_TIMEOUT:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            text = err.decode("utf-8", "replace").strip()[-200:]
            raise self._failed(f"ended with code {process.returncode}: {text}")
        return out

    def _status(self, out: bytes) -> Mapping[str, Any]:
        try:
            document = json.loads(out)
            status = document["status"]
            version = document["apiVersion"]
        except (ValueError, KeyError, TypeError):
            raise self._failed("did not print an ExecCredential with a status") from None
        if version != self._settings.api_version or not isinstance(status, dict):
            raise self._failed(f"printed {version!r} instead of {self._settings.api_version}")
        return status

    def _failed(self, how: str, fix: str = "") -> RegistryDenied:
        return RegistryDenied(
            f"exec plugin {self._settings.command} {how}",
            fix=fix or "run it by hand and check what it says",
        )
