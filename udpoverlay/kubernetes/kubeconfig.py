"""Which Kubernetes API server, and as whom: in-cluster, kubeconfig, --kube-api-url.

Owns: kubeconfig's spelling and the order of places that are looked at (k8s.io/client-go
tools/clientcmd BuildConfigFromFlags, rest.InClusterConfig). Must not know: requests.

    --kubeconfig-file ──► that file
    --kube-api-url    ──► replaces the server's address; alone: no credentials
    neither           ──► the pod's service account, else $KUBECONFIG, else ~/.kube/config
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from udpoverlay.errors import OperatorError
from udpoverlay.gocompat import net as goip
from udpoverlay.kubernetes import auth
from udpoverlay.kubernetes.auth import Credentials, ExecPlugin, FixedHeader, PluginSettings
from udpoverlay.kubernetes.tls import Piece, Tls
from udpoverlay.model.config import KubeConfigSource
from udpoverlay.redact import redact_url

__all__ = ["KubeAccess", "load_access"]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_HELP = "compare it with the output of kubectl config view"

_Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class KubeAccess:
    """All that is needed to send a request."""

    server: str
    """http(s)://host:port and an optional path, without a slash at the end."""
    credentials: Credentials
    tls: Tls | None
    origin: str
    """Where this came from, for messages."""
    proxy: str | None = None
    """The URL of an HTTP proxy."""
    tls_server_name: str | None = None


def load_access(
    source: KubeConfigSource,
    *,
    service_account: Path = SERVICE_ACCOUNT,
    clock: _Clock = time.monotonic,
) -> KubeAccess:
    """Find the API server. Raises OperatorError naming the file, the field and the fix."""
    try:
        access = _find(source, service_account, clock)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        # Its fields may be of any type; what they hold may be a secret.
        raise OperatorError(
            f"the kubeconfig has a field of a wrong type ({type(error).__name__})", fix=_HELP
        ) from None
    return replace(access, proxy=access.proxy or _proxy(access.server, source.environment))


def _find(source: KubeConfigSource, service_account: Path, clock: _Clock) -> KubeAccess:
    if source.kubeconfig_file:
        files = [Path(source.kubeconfig_file).expanduser()]
        return _Kubeconfig(files, source, clock).access()
    if source.api_url:
        return KubeAccess(
            _url(source.api_url, "--kube-api-url"),
            FixedHeader(),
            Tls(None, None, None) if source.api_url.startswith("https:") else None,
            "--kube-api-url",
        )
    environment = source.environment
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "")
    if host and port and (service_account / "token").exists():
        address = f"[{host}]" if ":" in host else host
        return KubeAccess(
            _url(f"https://{address}:{port}", "KUBERNETES_SERVICE_HOST"),
            auth.TokenFile(service_account / "token", clock),
            Tls(Piece("the pod's ca.crt", service_account / "ca.crt"), None, None),
            "the pod's service account",
        )
    home = environment.get("HOME", "")
    named = [Path(part) for part in environment.get("KUBECONFIG", "").split(":") if part]
    files = named or ([Path(home) / ".kube" / "config"] if home else [])
    if not any(file.exists() for file in files):
        raise OperatorError(
            "no Kubernetes API server is configured",
            fix="run as a pod with a service account, or give --kubeconfig-file or --kube-api-url",
        )
    return _Kubeconfig([file for file in files if file.exists()], source, clock).access()


def _proxy(server: str, environment: Mapping[str, str]) -> str | None:
    """What the environment asks for (golang.org/x/net/http/httpproxy): HTTPS_PROXY, NO_PROXY."""
    parts = urlsplit(server)
    name = f"{parts.scheme}_proxy"
    proxy = environment.get(name.upper()) or environment.get(name)
    host = parts.hostname or ""
    address = goip.parse_ip(host)
    if not proxy or host == "localhost" or (address is not None and address.is_loopback()):
        return None
    exempt = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    for entry in (part.strip().lower() for part in exempt.split(",")):
        network = goip.parse_cidr(entry)
        if network is not None:
            if address is not None and address in network:
                return None
        elif entry == "*" or (entry and f".{host}".endswith(f".{entry.lstrip('.')}")):
            return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _url(text: str, name: str) -> str:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        # "https://u:12/3@host": a password with a slash must not pass for host and port.
        valid = valid and "@" not in f"{parts.path}{parts.query}{parts.fragment}"
    except ValueError:
        valid = False
    if not valid:
        raise OperatorError(
            f"{name} {redact_url(text)!r} is not an API server's URL",
            fix="write https://HOST:PORT",
        )
    return f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{parts.path}".rstrip("/")


class _Kubeconfig:
    """One or several kubeconfig files; the first that names a thing wins."""

    def __init__(self, files: list[Path], source: KubeConfigSource, clock: _Clock) -> None:
        self._source = source
        self._clock = clock
        self._documents = [(file, _document(file)) for file in files]
        self._names = ":".join(str(file) for file in files)

    def access(self) -> KubeAccess:
        current = next((d["current-context"] for _, d in self._documents
                        if d.get("current-context")), None)  # fmt: skip
        if current is None:
            raise self._wrong("has no current-context", "kubectl config use-context NAME")
        _, context = self._named("contexts", "context", str(current))
        cluster_file, cluster = self._named("clusters", "cluster", str(context.get("cluster", "")))
        server = _url(
            self._source.api_url or str(cluster.get("server") or ""),
            "--kube-api-url" if self._source.api_url else f"{self._names}: server",
        )
        user_file: Path = cluster_file
        user: Mapping[str, Any] = {}
        if context.get("user"):
            user_file, user = self._named("users", "user", str(context["user"]))
        tls = None
        if server.startswith("https:"):
            tls = Tls(
                _piece(cluster, "certificate-authority", cluster_file),
                _piece(user, "client-certificate", user_file),
                _piece(user, "client-key", user_file),
                insecure=bool(cluster.get("insecure-skip-tls-verify")),
            )
        return KubeAccess(
            server,
            self._credentials(user, user_file, cluster, tls),
            tls,
            self._names,
            proxy=str(cluster["proxy-url"]) if cluster.get("proxy-url") else None,
            tls_server_name=str(cluster["tls-server-name"])
            if cluster.get("tls-server-name")
            else None,
        )

    def _credentials(
        self, user: Mapping[str, Any], file: Path, cluster: Mapping[str, Any], tls: Tls | None
    ) -> Credentials:
        for unsupported in ("auth-provider", "as", "as-groups", "as-uid"):
            if user.get(unsupported):
                raise self._wrong(
                    f"uses {unsupported}, which is not supported",
                    "use a token, a client certificate, a password or an exec plugin",
                )
        if user.get("exec"):
            plugin = user["exec"]
            return ExecPlugin(
                PluginSettings(
                    command=_command(str(plugin.get("command") or ""), file),
                    args=tuple(str(arg) for arg in plugin.get("args") or ()),
                    env={str(e["name"]): str(e["value"]) for e in plugin.get("env") or ()},
                    api_version=str(plugin.get("apiVersion") or ""),
                    install_hint=str(plugin.get("installHint") or "").strip(),
                    cluster=dict(cluster) if plugin.get("provideClusterInfo") else None,
                ),
                tls,
                self._source.environment,
            )
        # client-go prefers the file where both are given.
        if user.get("tokenFile"):
            return auth.TokenFile(_beside(file, str(user["tokenFile"])), self._clock)
        if user.get("token"):
            return auth.bearer(str(user["token"]).strip(), f"kubeconfig {self._names}")
        if user.get("username"):
            return auth.basic(str(user["username"]), str(user.get("password") or ""))
        return FixedHeader()

    def _named(self, plural: str, singular: str, name: str) -> tuple[Path, Mapping[str, Any]]:
        for file, document in self._documents:
            for entry in document.get(plural) or ():
                if isinstance(entry, dict) and entry.get("name") == name:
                    found = entry.get(singular) or {}
                    if isinstance(found, dict):
                        return file, found
        raise self._wrong(f"has no {singular} named {name!r}", "kubectl config view shows all")

    def _wrong(self, how: str, fix: str) -> OperatorError:
        return OperatorError(f"kubeconfig {self._names} {how}", fix=fix)


def _document(file: Path) -> Mapping[str, Any]:
    import yaml  # noqa: PLC0415 - only a kubeconfig needs it; a pod with a service account does not

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise OperatorError(
            f"kubeconfig {file}: {error.strerror}", fix="check the path and its rights"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where is not None else ""
        raise OperatorError(f"kubeconfig {file} is not YAML{line}", fix=_HELP) from None
    if not isinstance(document, dict):
        raise OperatorError(f"kubeconfig {file} is empty or no mapping", fix=_HELP)
    return document


def _piece(section: Mapping[str, Any], name: str, file: Path) -> Piece | None:
    """A file or its inline form; the inline form wins, as in client-go."""
    if inline := section.get(f"{name}-data"):
        try:
            return Piece(f"{name}-data", data=base64.b64decode(str(inline), validate=False))
        except binascii.Error:
            raise OperatorError(
                f"kubeconfig {file}: {name}-data is not base64", fix=f"or use {name}: PATH"
            ) from None
    if path := section.get(name):
        return Piece(name, _beside(file, str(path)))
    return None


def _beside(file: Path, path: str) -> Path:
    """Relative paths count from the kubeconfig's directory."""
    return file.parent / Path(path)


def _command(command: str, file: Path) -> str:
    if not command:
        raise OperatorError(f"kubeconfig {file}: exec has no command", fix="name the plugin")
    # A bare name is looked up on PATH, a relative path counts from the kubeconfig.
    return str(_beside(file, command)) if "/" in command else command
