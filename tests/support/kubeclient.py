"""Kubeconfigs, and clients that are made from them."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.support.certificates import Authority, Pair
from tests.support.kubeapi import KubeApi
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.kubeconfig import load_access
from udpoverlay.kubernetes.transport import KubeTimeouts
from udpoverlay.model.config import KubeConfigSource


def config(
    path: Path, cluster: Mapping[str, Any], user: Mapping[str, Any] | None = None, **top: Any
) -> KubeConfigSource:
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": dict(cluster)}],
        "users": [{"name": "u", "user": dict(user or {})}],
        **top,
    }
    file = path / "config"
    file.write_text(json.dumps(document))
    return KubeConfigSource(kubeconfig_file=str(file))


@contextmanager
def in_another_thread(api: KubeApi) -> Iterator[None]:
    """Serve from a loop of its own, so that the client's loop can end alone."""
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with api:
            ready.set()
            await asyncio.get_running_loop().run_in_executor(None, over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(30)
    try:
        yield
    finally:
        over.set()
        thread.join()


@asynccontextmanager
async def client(source: KubeConfigSource, **options: Any) -> AsyncIterator[KubeClient]:
    made = KubeClient(load_access(source, **options), timeouts=KubeTimeouts(request=10.0))
    try:
        yield made
    finally:
        await made.aclose()


async def user_of(source: KubeConfigSource, api: KubeApi, **options: Any) -> str:
    """Whom the server takes us for."""
    async with client(source, **options) as made:
        await made.node_version()
    return api.calls[-1].user


def server_tls(pair: Pair, authority: Authority | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if authority is not None:
        context.load_verify_locations(authority.cert)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def b64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def plugin(tmp_path: Path, status: Mapping[str, Any], code: int = 0) -> dict[str, Any]:
    """A plugin that counts its runs, keeps what it was told and prints a credential."""
    version = "client.authentication.k8s.io/v1"
    document = {"apiVersion": version, "kind": "ExecCredential", "status": dict(status)}
    script = tmp_path / "plugin.py"
    script.write_text(
        "import os, sys\n"
        f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n"
        f"open({str(tmp_path / 'info')!r}, 'w').write(os.environ['KUBERNETES_EXEC_INFO'])\n"
        f"print({json.dumps(document)!r}.replace('EXTRA', os.environ.get('EXTRA', '')))\n"
        f"print('something broke', file=sys.stderr)\nsys.exit({code})\n"
    )
    return {
        "exec": {
            "apiVersion": version,
            "command": sys.executable,
            "args": [str(script)],
            "env": [{"name": "EXTRA", "value": "of-u"}],
            "provideClusterInfo": True,
        }
    }
