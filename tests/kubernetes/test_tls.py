"""TLS to the Kubernetes API server, and what its answers become."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.aio import run
from tests.support.certificates import Authority
from tests.support.kubeapi import KubeApi
from tests.support.kubeapi.rbac import ADMIN
from tests.support.kubeclient import (
    b64,
    client,
    config,
    in_another_thread,
    plugin,
    server_tls,
    user_of,
)
from udpoverlay.errors import OperatorError, RegistryDenied, RegistryError, RegistryUnavailable
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.errors import KubeDenied
from udpoverlay.kubernetes.kubeconfig import load_access
from udpoverlay.kubernetes.nodes import NodeFeed

# ---------------------------------------------------------------------- TLS


@pytest.mark.parametrize("inline", [False, True])
async def test_a_client_certificate_is_who_we_are(tmp_path: Path, inline: bool) -> None:
    authority = Authority(tmp_path)
    server, joe = authority.issue("server"), authority.issue("joe")
    if inline:
        cluster = {"certificate-authority-data": b64(authority.cert)}
        user = {"client-certificate-data": b64(joe.cert), "client-key-data": b64(joe.key)}
    else:
        cluster = {"certificate-authority": authority.cert.name}
        user = {"client-certificate": joe.cert.name, "client-key": str(joe.key)}

    async with KubeApi(server_tls(server, authority)) as api:
        api.auth.rules["joe"] = ADMIN
        source = config(tmp_path, {"server": api.url, **cluster}, user)
        assert await user_of(source, api) == "joe"


async def test_a_plugin_may_give_a_client_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, joe = authority.issue("server"), authority.issue("joe")

    async with KubeApi(server_tls(server, authority)) as api:
        api.auth.rules["joe"] = ADMIN
        status = {
            "clientCertificateData": joe.cert.read_text(),
            "clientKeyData": joe.key.read_text(),
        }
        cluster = {"server": api.url, "certificate-authority": str(authority.cert)}
        source = config(tmp_path, cluster, plugin(tmp_path, status))
        assert await user_of(source, api) == "joe"


async def test_a_server_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    server = Authority(tmp_path).issue("server")
    other = Authority(tmp_path / "other")

    async with KubeApi(server_tls(server)) as api:
        cluster = {"server": api.url, "certificate-authority": str(other.cert)}
        async with client(config(tmp_path, cluster)) as made:
            with pytest.raises(RegistryDenied, match="certificate-authority"):
                await made.node_version()


async def test_the_name_in_the_servers_certificate_is_checked_and_can_be_given(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("server", hosts=["kubernetes.default"])

    async with KubeApi(server_tls(server)) as api:
        api.user("u", ADMIN)
        cluster = {"server": api.url, "certificate-authority": str(authority.cert)}
        async with client(config(tmp_path, cluster, {"token": "token-of-u"})) as made:
            with pytest.raises(RegistryDenied, match="cannot be trusted"):
                await made.node_version()
        cluster["tls-server-name"] = "kubernetes.default"
        assert await user_of(config(tmp_path, cluster, {"token": "token-of-u"}), api) == "u"
        insecure = {"server": api.url, "insecure-skip-tls-verify": True}
        assert await user_of(config(tmp_path, insecure, {"token": "token-of-u"}), api) == "u"


async def test_a_rotated_certificate_that_cannot_be_used_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No room for the file that OpenSSL reads it from: every request failed."""
    authority = Authority(tmp_path)
    server = authority.issue("server")
    joe, ann = authority.issue("joe"), authority.issue("ann")
    now = [0.0]

    async with KubeApi(server_tls(server, authority)) as api:
        api.auth.rules |= {"joe": ADMIN, "ann": ADMIN}
        cluster = {"server": api.url, "certificate-authority": str(authority.cert)}
        user = {"client-certificate": str(joe.cert), "client-key": str(joe.key)}
        access = load_access(config(tmp_path, cluster, user))
        made = KubeClient(access, clock=lambda: now[0])
        try:
            await made.node_version()
            joe.cert.write_bytes(ann.cert.read_bytes())
            joe.key.write_bytes(ann.key.read_bytes())
            monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
            now[0] = 60.0
            await made.node_version()
            assert "cannot be handed to OpenSSL" in str(caplog.records[-1].fields)  # type: ignore[attr-defined]
            monkeypatch.undo()
            now[0] = 120.0
            await made.node_version()
            await api.restart()
            await made.node_version()
            assert api.calls[-1].user == "ann"
        finally:
            await made.aclose()


async def test_a_rotated_client_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("server")
    joe, ann = authority.issue("joe"), authority.issue("ann")
    now = [0.0]

    async with KubeApi(server_tls(server, authority)) as api:
        api.auth.rules |= {"joe": ADMIN, "ann": ADMIN}
        cluster = {"server": api.url, "certificate-authority": str(authority.cert)}
        user = {"client-certificate": str(joe.cert), "client-key": str(joe.key)}
        access = load_access(config(tmp_path, cluster, user))
        made = KubeClient(access, clock=lambda: now[0])
        try:
            await made.node_version()
            assert api.calls[-1].user == "joe"
            joe.cert.write_bytes(ann.cert.read_bytes())  # the key is not there yet
            now[0] = 60.0
            await made.node_version()
            joe.key.write_bytes(ann.key.read_bytes())
            now[0] = 120.0
            await made.node_version()
            await api.restart()
            await made.node_version()
            assert api.calls[-1].user == "ann"
        finally:
            await made.aclose()


@pytest.mark.parametrize(
    ("cluster", "user", "names"),
    [
        ({"certificate-authority": "/nowhere"}, {}, "certificate-authority /nowhere"),
        ({"certificate-authority-data": "AAAA"}, {}, "certificate-authority-data does not hold"),
        ({"certificate-authority-data": "A"}, {}, "certificate-authority-data is not base64"),
        ({"certificate-authority": "{ca}", "insecure-skip-tls-verify": True}, {}, "both given"),
        ({}, {"client-certificate": "{cert}"}, "client-certificate is given without client-key"),
        ({}, {"client-certificate": "{key}", "client-key": "{key}"}, "client-certificate"),
        ({}, {"client-certificate": "{cert}", "client-key": "{cert}"}, "client-key"),
        ({}, {"client-certificate": "{cert}", "client-key": "{other}"}, "cannot be used"),
    ],
)
def test_each_wrong_piece_of_tls_is_named(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, str], names: str
) -> None:
    authority = Authority(tmp_path)
    joe, other = authority.issue("joe"), authority.issue("other")
    files = {"ca": authority.cert, "cert": joe.cert, "key": joe.key, "other": other.key}

    def filled(part: dict[str, Any]) -> dict[str, Any]:
        return {k: v.format(**files) if isinstance(v, str) else v for k, v in part.items()}

    source = config(tmp_path, {"server": "https://x:1", **filled(cluster)}, filled(user))
    with pytest.raises(OperatorError, match=names):
        load_access(source)


# ---------------------------------------------------------------------- answers


async def test_refusals_become_our_errors(tmp_path: Path) -> None:
    async with KubeApi() as api:
        api.user("u", ())
        async with client(config(tmp_path, {"server": api.url}, {"token": "token-of-u"})) as c:
            with pytest.raises(KubeDenied) as caught:
                await c.patch_node_status("n1", {})
            denied = caught.value
            assert (denied.user, denied.verb, denied.resource) == ("u", "patch", "nodes/status")
            api.user("u", ADMIN)
            for code, kind in (
                (429, RegistryUnavailable),
                (503, RegistryUnavailable),
                (400, RegistryError),
            ):
                api.faults.refuse(code)
                with pytest.raises(kind, match="refused by the test"):
                    await c.node_version()
            await api.stop()
            with pytest.raises(RegistryUnavailable, match="cannot be reached"):
                await c.node_version()


async def test_plain_http_to_a_tls_port_and_back_are_explained(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async with KubeApi() as api:
        cluster = {"server": api.url.replace("http:", "https:"), "certificate-authority":
                   str(authority.cert)}  # fmt: skip
        async with client(config(tmp_path, cluster)) as made:
            with pytest.raises(RegistryDenied, match="check https or http"):
                await made.node_version()


def test_a_client_that_is_closed_at_any_moment_leaves_nothing_open(tmp_path: Path) -> None:
    """uvloop refuses to end while a TLS connection still says goodbye."""
    authority = Authority(tmp_path)
    server = authority.issue("server")
    step = 0.002

    async def follow_for(api: KubeApi, moment: float) -> None:
        cluster = {"server": api.url, "certificate-authority": str(authority.cert)}
        made = KubeClient(load_access(config(tmp_path, cluster, {"token": "token-of-u"})))
        feed = NodeFeed(made, frozenset())
        following = asyncio.ensure_future(feed.run())
        await asyncio.sleep(moment)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await made.aclose()

    api = KubeApi(server_tls(server))
    api.user("u", ADMIN)
    with in_another_thread(api):
        for turn in range(15):
            run(follow_for(api, turn * step))
