"""How the API server is found and who we are to it: kubeconfig, service account, TLS, plugins."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.kubeapi import KubeApi
from tests.support.kubeapi.rbac import ADMIN, DAEMON
from tests.support.kubeclient import (
    client,
    config,
    plugin,
    server_tls,
    user_of,
)
from tests.support.kubecluster import Kube, until
from udpoverlay.errors import OperatorError, RegistryDenied
from udpoverlay.kubernetes.auth import TokenFile
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.errors import KubeUnauthorized
from udpoverlay.kubernetes.kubeconfig import load_access
from udpoverlay.kubernetes.nodes import FeedTiming, NodeFeed
from udpoverlay.model.config import KubeConfigSource

# ---------------------------------------------------------------------- where


def test_a_url_alone_is_used_without_credentials() -> None:
    access = load_access(KubeConfigSource(api_url="http://127.0.0.1:8080/"))
    assert access.server == "http://127.0.0.1:8080"
    assert access.tls is None


def test_the_url_flag_replaces_the_kubeconfigs_server(tmp_path: Path) -> None:
    source = config(tmp_path, {"server": "https://10.0.0.1:6443"}, {"token": "t"})
    changed = KubeConfigSource(api_url="http://x:1/k", kubeconfig_file=source.kubeconfig_file)
    assert load_access(changed).server == "http://x:1/k"


async def test_a_pod_uses_its_service_account(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    account = tmp_path / "account"
    account.mkdir()
    (account / "ca.crt").write_bytes(authority.cert.read_bytes())
    (account / "token").write_text("token-of-pod\n")

    async with KubeApi(server_tls(authority.issue("server"))) as api:
        api.user("pod", DAEMON)
        environment = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(api.port),
        }
        source = KubeConfigSource(environment=environment)
        assert await user_of(source, api, service_account=account) == "pod"


def test_an_ipv6_service_address_is_written_in_brackets(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_bytes(Authority(tmp_path).cert.read_bytes())
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    access = load_access(KubeConfigSource(environment=environment), service_account=tmp_path)
    assert access.server == "https://[fd00::1]:443"


def test_outside_of_a_pod_the_users_kubeconfig_is_found(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    config(tmp_path / ".kube", {"server": "http://home:1"})
    found = load_access(KubeConfigSource(environment={"HOME": str(tmp_path)}))
    assert found.server == "http://home:1"
    other = config(tmp_path, {"server": "http://named:1"}).kubeconfig_file
    environment = {"HOME": str(tmp_path), "KUBECONFIG": f"/nowhere:{other}"}
    assert load_access(KubeConfigSource(environment=environment)).server == "http://named:1"


def test_nothing_configured_says_what_to_give() -> None:
    with pytest.raises(OperatorError, match="--kubeconfig-file or --kube-api-url"):
        load_access(KubeConfigSource())


def test_a_yaml_kubeconfig_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(
        "current-context: a\n"
        "contexts:\n- name: a\n  context: {cluster: k, user: u}\n"
        "clusters:\n- name: k\n  cluster:\n    server: http://10.0.0.1:6443\n"
        "users:\n- name: u\n  user: {token: abc}\n"
    )
    assert load_access(KubeConfigSource(kubeconfig_file=str(file))).server == "http://10.0.0.1:6443"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "is empty or no mapping"),
        ("a: [", r"is not YAML \(line"),
        ("- a", "is empty or no mapping"),
        ("{}", "has no current-context"),
        ("current-context: x", "has no context named 'x'"),
        ("{current-context: x, contexts: [{name: x, context: {cluster: k}}]}", "no cluster named"),
        (
            "{current-context: x, contexts: [{name: x, context: {cluster: k}}],"
            " clusters: [{name: k, cluster: {server: 'nonsense://'}}]}",
            "is not an API server's URL",
        ),
    ],
)
def test_a_broken_kubeconfig_is_named_with_what_is_wrong(
    tmp_path: Path, text: str, names: str
) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(OperatorError, match=names):
        load_access(KubeConfigSource(kubeconfig_file=str(file)))


@pytest.mark.parametrize("field", ["auth-provider", "as"])
def test_what_is_not_supported_is_refused_rather_than_ignored(tmp_path: Path, field: str) -> None:
    source = config(tmp_path, {"server": "http://x:1"}, {field: "y", "token": "t"})
    with pytest.raises(OperatorError, match=field):
        load_access(source)


@pytest.mark.parametrize(
    ("server", "environment", "proxy"),
    [
        ("https://k8s.example.com", {}, None),
        ("https://k8s.example.com", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://k8s.example.com", {"https_proxy": "p:1"}, "http://p:1"),
        ("http://k8s.example.com", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://k.example.com", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example.com"}, None),
        ("https://k.example.com", {"HTTPS_PROXY": "p:1", "NO_PROXY": "ample.com"}, "http://p:1"),
        ("https://10.96.0.1:443", {"HTTPS_PROXY": "http://p:1", "no_proxy": "x, 10.0.0.0/8"}, None),
        ("https://10.96.0.1:443", {"HTTPS_PROXY": "p:1", "NO_PROXY": "10.1.0.0/16"}, "http://p:1"),
        ("https://127.0.0.1:443", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://k", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
    ],
)
def test_a_proxy_of_the_environment_is_used_as_by_go(
    server: str, environment: dict[str, str], proxy: str | None
) -> None:
    source = KubeConfigSource(api_url=server, environment=environment)
    assert load_access(source).proxy == proxy


def test_the_kubeconfigs_proxy_wins(tmp_path: Path) -> None:
    source = config(tmp_path, {"server": "https://x:1", "proxy-url": "http://own:1"})
    changed = KubeConfigSource(
        kubeconfig_file=source.kubeconfig_file, environment={"HTTPS_PROXY": "http://p:1"}
    )
    assert load_access(changed).proxy == "http://own:1"


# ---------------------------------------------------------------------- who


async def test_tokens_and_passwords_of_a_kubeconfig(tmp_path: Path) -> None:
    async with KubeApi() as api:
        api.user("u", ADMIN)
        api.auth.basic["joe:secret"] = "u"
        (tmp_path / "t").write_text("token-of-u")
        for user in (
            {"token": "token-of-u"},
            {"tokenFile": "t"},
            {"tokenFile": str(tmp_path / "t"), "token": "wrong"},
            {"username": "joe", "password": "secret"},
        ):
            source = config(tmp_path, {"server": api.url}, user)
            assert await user_of(source, api) == "u"


async def test_a_refused_token_names_no_secret(tmp_path: Path) -> None:
    async with KubeApi() as api:
        source = config(tmp_path, {"server": api.url}, {"token": "s3cret"})
        async with client(source) as made:
            with pytest.raises(KubeUnauthorized) as caught:
                await made.node_version()
        assert "s3cret" not in str(caught.value)
        assert "s3cret" not in repr(made.access)


async def test_a_token_that_is_rotated_on_disk_is_read_again(tmp_path: Path) -> None:
    now = [0.0]
    file = tmp_path / "token"
    file.write_text("old")

    token = TokenFile(file, lambda: now[0])
    file.write_text("new\n")
    assert await token.header() == "Bearer old"
    now[0] = 60.0
    assert await token.header() == "Bearer new"
    file.write_text("")  # half written
    now[0] = 120.0
    assert await token.header() == "Bearer new"
    file.unlink()
    now[0] = 180.0
    assert await token.header() == "Bearer new"


@pytest.mark.parametrize(
    "odd", [b"\xff\xfe", b"two words", b"a\nb", b"\x00", "t\u00f6ken".encode(), b""], ids=str
)
async def test_an_odd_token_file_keeps_the_last_good_one_until_it_is_good(
    tmp_path: Path, odd: bytes
) -> None:
    now = [0.0]
    file = tmp_path / "token"
    file.write_bytes(odd)
    with pytest.raises(OperatorError, match="token file"):
        TokenFile(file, lambda: now[0])
    file.write_text("old")

    token = TokenFile(file, lambda: now[0])
    file.write_bytes(odd)
    now[0] = 60.0
    assert await token.header() == "Bearer old"
    assert not token.refused()
    file.write_text("new")
    assert await token.header() == "Bearer new", "it is looked at again at once"


def test_an_odd_token_is_an_operators_error(tmp_path: Path) -> None:
    for odd in ("two words", "a\nb", "t\u00f6ken"):
        with pytest.raises(OperatorError) as caught:
            load_access(config(tmp_path, {"server": "http://x:1"}, {"token": odd}))
        assert "token" in str(caught.value)
        assert odd not in str(caught.value)


@pytest.mark.parametrize(
    "user",
    [
        {"exec": "x"},
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "c", "args": 7}},
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "c", "env": ["x"]}},
        ["token"],
    ],
    ids=str,
)
def test_a_kubeconfig_with_odd_fields_is_an_operators_error(tmp_path: Path, user: Any) -> None:
    with pytest.raises(OperatorError, match="kubeconfig"):
        load_access(config(tmp_path, {"server": "http://x:1"}, users=[{"name": "u", "user": user}]))


async def test_a_token_file_that_is_odd_for_a_moment_ends_no_following(
    tmp_path: Path, double: Kube
) -> None:
    file = tmp_path / "token"
    file.write_text(double.admin_token)
    source = config(tmp_path, {"server": double.url}, {"tokenFile": str(file)})
    made = KubeClient(load_access(source))
    feed = NodeFeed(made, frozenset(), timing=FeedTiming(0.01, 0.05, 0.05))
    task = asyncio.ensure_future(feed.run())
    try:
        await double.node("n1")
        await until(lambda: "n1" in feed.nodes, "n1 is known")
        file.write_bytes(b"\xff\xfe")
        double.api.faults.refuse(401, lambda call: call.user == "admin", times=3)
        double.api.cut_watches()
        await until(lambda: isinstance(feed.trouble, KubeUnauthorized), "it is refused")
        file.write_text(double.admin_token)
        await until(lambda: feed.trouble is None, "it follows again")
        await double.node("n2")
        await until(lambda: "n2" in feed.nodes, "n2 is known")
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.aclose()


async def test_a_401_reads_the_token_again_at_once(tmp_path: Path) -> None:
    async with KubeApi() as api:
        api.user("u", ADMIN)
        file = tmp_path / "token"
        file.write_text("expired")
        source = config(tmp_path, {"server": api.url}, {"tokenFile": str(file)})
        async with client(source) as made:
            file.write_text("token-of-u")
            await made.node_version()


async def test_an_exec_plugin_gives_the_token(tmp_path: Path) -> None:
    async with KubeApi() as api:
        api.user("u", ADMIN)
        user = plugin(tmp_path, {"token": "token-EXTRA"})
        async with client(config(tmp_path, {"server": api.url}, user)) as made:
            await made.node_version()
            await made.node_version()
        assert (tmp_path / "runs").read_text() == "x"
        info = json.loads((tmp_path / "info").read_text())
        assert info["kind"] == "ExecCredential"
        assert info["spec"]["cluster"]["server"] == api.url


async def test_an_exec_plugin_runs_again_when_its_credential_ran_out(tmp_path: Path) -> None:
    async with KubeApi() as api:
        api.user("u", ADMIN)
        status = {"token": "token-of-u", "expirationTimestamp": "2001-01-01T00:00:00Z"}
        user = plugin(tmp_path, status)
        async with client(config(tmp_path, {"server": api.url}, user)) as made:
            await made.node_version()
            await made.node_version()
        assert (tmp_path / "runs").read_text() == "xx"


@pytest.mark.parametrize(
    ("change", "status", "code", "names"),
    [
        ({}, {"token": "t"}, 3, "ended with code 3: something broke"),
        ({}, {}, 0, "neither a token nor a client certificate"),
        ({"command": "/nowhere/x", "installHint": "apt install x"}, {}, 0, "apt install x"),
        ({"args": ["-c", "print(1)"]}, {}, 0, "did not print an ExecCredential"),
        ({"args": ["-c", "print('[' * 100000)"]}, {}, 0, "did not print an ExecCredential"),
        ({"args": ["-c", "while True: print('x' * 9999)"]}, {}, 0, "printed more than 1 MB"),
        ({}, {"token": "two words"}, 0, "a token that is none"),
        ({}, {"token": "t", "expirationTimestamp": "soon"}, 0, "not a time"),
        ({}, {"token": "t", "expirationTimestamp": "2026-01-01T00:00:00"}, 0, "time zone"),
    ],
)
async def test_an_exec_plugin_that_fails_says_how(
    tmp_path: Path, change: dict[str, Any], status: dict[str, str], code: int, names: str
) -> None:
    user = plugin(tmp_path, status, code)
    user["exec"] |= change
    async with client(config(tmp_path, {"server": "http://127.0.0.1:1"}, user)) as made:
        with pytest.raises(RegistryDenied, match=names):
            await made.node_version()


def test_an_exec_plugin_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    user = plugin(tmp_path, {})
    user["exec"]["apiVersion"] = "client.authentication.k8s.io/v1alpha1"
    with pytest.raises(OperatorError, match="v1alpha1"):
        load_access(config(tmp_path, {"server": "http://x:1"}, user))
