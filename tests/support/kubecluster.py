"""One face for the API double and a real kube-apiserver; the `kube` fixture runs a test on both.

    async def test_something(kube: Kube) -> None:
        await kube.node("n1")

`double` is the double alone, for tests that break it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.aio import InLoop
from tests.support.kube_apiserver import USERS, KubeApiServer
from tests.support.kubeapi import KubeApi
from tests.support.kubeapi.rbac import DAEMON, GROUPS, Rule
from tests.support.patience import DEADLINE
from udpoverlay.model.config import KubeConfigSource

Json = dict[str, Any]

PREFIX = "flannel.alpha.coreos.com/"
NODES = "/api/v1/nodes"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str = "") -> None:
    """Wait for a condition; fail when it does not come."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DEADLINE
    while True:
        result = condition()
        if not isinstance(result, bool):
            result = await result
        if result:
            return
        assert loop.time() < end, f"did not happen: {what or condition}"
        await asyncio.sleep(0.005)


class Kube:
    """Either server, and what an administrator does to it."""

    def __init__(self, directory: Path, double: KubeApi | None, real: KubeApiServer | None) -> None:
        self.directory = directory
        self.double = double
        self.real = real
        self._users = iter(USERS.items())

    @property
    def api(self) -> KubeApi:
        """The double; only tests that break it may ask."""
        assert self.double is not None
        return self.double

    @property
    def url(self) -> str:
        return self._any.url

    @property
    def admin_token(self) -> str:
        return self._any.admin_token

    @property
    def _any(self) -> KubeApi | KubeApiServer:
        server = self.double or self.real
        assert server is not None
        return server

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, Json]:
        """One request of a client that is not the one under test."""
        headers = {"Content-Type": content_type}
        if token != "":
            headers["Authorization"] = f"Bearer {token or self.admin_token}"
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            headers,
            method=method,
        )
        return await asyncio.get_running_loop().run_in_executor(None, _send, request)

    async def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Json:
        """A request that must succeed."""
        code, answer = await self.call(method, path, body, **options)
        assert code < 300, answer
        return answer

    async def user(self, rules: Sequence[Rule]) -> tuple[str, str]:
        """A new user with exactly these rights: (token, name)."""
        token, name = next(self._users)
        if self.double is not None:
            return self.double.user(name, rules), name
        await self.grant(name, rules)
        return token, name

    async def grant(self, name: str, rules: Sequence[Rule]) -> None:
        """Replace a user's rights and wait until they hold."""
        if self.double is not None:
            self.double.user(name, rules)
            return
        base = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        role: Json = {"metadata": {"name": name}, "rules": [_rule(rule) for rule in rules]}
        await self.call("DELETE", f"{base}/{name}")
        await self.call("DELETE", f"{base.replace('roles', 'rolebindings')}/{name}")
        await self.ok("POST", base, role)
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
        binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
        await self.ok("POST", base.replace("roles", "rolebindings"), binding)
        token = next(token for token, user in USERS.items() if user == name)
        for rule in rules:
            await until(lambda rule=rule: self._holds(token, rule), f"{name} gets {rule}")  # type: ignore[misc]  # a lambda's default

    async def _holds(self, token: str, rule: Rule) -> bool:
        plain, _, sub = rule.resources[0].partition("/")
        asked = {
            "verb": rule.verbs[0],
            "group": GROUPS.get(plain, ""),
            "resource": plain,
            "subresource": sub,
            "name": rule.names[0] if rule.names else "",
            "namespace": rule.namespaces[0] if rule.namespaces else "",
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool((await self.ok("POST", path, review, token=token))["status"]["allowed"])

    async def node(
        self, name: str, *cidrs: str, annotations: dict[str, str] | None = None, **spec: Any
    ) -> Json:
        """Register a Node, as a kubelet does, and give it `cidrs`."""
        if cidrs:
            spec |= {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)}
        meta: Json = {"name": name}
        if annotations:
            meta["annotations"] = annotations
        body = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": spec}
        return await self.ok("POST", NODES, body)

    async def udp_node(self, name: str, cidr: str, public_ip: str) -> Json:
        """A Node as flannel's udp backend leaves it."""
        return await self.node(name, cidr, annotations=udp_annotations(public_ip))

    async def annotate(self, name: str, **values: str | None) -> Json:
        """Set or (None) remove flannel annotations; underscores stand for hyphens."""
        named = {PREFIX + key.replace("_", "-"): value for key, value in values.items()}
        return await self.ok(
            "PATCH", f"{NODES}/{name}", {"metadata": {"annotations": named}}, content_type=MERGE
        )

    async def get_node(self, name: str) -> Json:
        return await self.ok("GET", f"{NODES}/{name}")

    async def delete_node(self, name: str) -> None:
        await self.ok("DELETE", f"{NODES}/{name}")

    async def restart(self) -> None:
        """Stop the API server and start it again; its data stays."""
        if self.double is not None:
            await self.double.restart()
        else:
            assert self.real is not None
            await asyncio.get_running_loop().run_in_executor(None, self.real.restart)

    async def stop(self) -> None:
        """Stop the API server."""
        if self.double is not None:
            await self.double.stop()
        else:
            assert self.real is not None
            await asyncio.get_running_loop().run_in_executor(None, self.real.stop)

    async def start(self) -> None:
        """Start it again after stop()."""
        if self.double is not None:
            await self.double.start()
        else:
            assert self.real is not None
            await asyncio.get_running_loop().run_in_executor(None, self.real.start)

    async def forget_history(self) -> None:
        """Make every version before now Gone."""
        if self.double is not None:
            self.double.store.compact()
            self.double.cut_watches()
            return
        real = self.real
        assert real is not None

        def compact() -> None:
            # The watch cache remembers what etcd forgot, until it starts again.
            real.stop()
            real.etcd.compact()
            real.start()

        await asyncio.get_running_loop().run_in_executor(None, compact)

    def kubeconfig(self, token: str, name: str = "kubeconfig", url: str = "") -> Path:
        """A kubeconfig file for a token; `url` leads to the server by another way."""
        cluster: Json = {"server": url or self.url}
        if self.real is not None and not url:
            cluster["certificate-authority"] = str(self.real.ca_file)
        document = {
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        path = self.directory / name
        path.write_text(json.dumps(document))  # YAML contains JSON
        return path

    def net_conf(self, **keys: Any) -> Path:
        """A net-conf.json: udp in 10.244.0.0/16 unless told otherwise."""
        path = self.directory / "net-conf.json"
        path.write_text(
            json.dumps({"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}, **keys})
        )
        return path

    async def source(
        self, node_name: str, token: str = "", url: str = "", **more: Any
    ) -> KubeConfigSource:
        """Settings of a daemon on `node_name`, with flannel's rights unless a token is given."""
        if not token:
            token, _ = await self.user(DAEMON)
        if "net_config_path" not in more:
            more["net_config_path"] = str(self.net_conf())
        kubeconfig = self.kubeconfig(token, f"kubeconfig-{token}", url)
        return KubeConfigSource(kubeconfig_file=str(kubeconfig), node_name=node_name, **more)

    async def clean(self) -> None:
        """Forget every object that a test made on a server that lives on."""
        if self.real is None:
            return
        leases = "/apis/coordination.k8s.io/v1/leases"
        for path in (NODES, "/api/v1/pods", leases):
            for item in (await self.ok("GET", path))["items"]:
                meta = item["metadata"]
                where = f"namespaces/{meta['namespace']}/" if "namespace" in meta else ""
                base, _, resource = path.rpartition("/")
                await self.call(
                    "DELETE",
                    f"{base}/{where}{resource}/{meta['name']}?gracePeriodSeconds=0",
                )


def udp_annotations(public_ip: str) -> dict[str, str]:
    return {
        PREFIX + "backend-data": "null",
        PREFIX + "backend-type": "",
        PREFIX + "public-ip": public_ip,
        PREFIX + "kube-subnet-manager": "true",
    }


def flannel_annotations(node: Json) -> dict[str, str]:
    """What a Node carries below our prefix, without the prefix."""
    said = node["metadata"].get("annotations") or {}
    return {key.removeprefix(PREFIX): v for key, v in said.items() if key.startswith(PREFIX)}


def _send(request: urllib.request.Request) -> tuple[int, Json]:
    trusting = ssl._create_unverified_context()
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE, context=trusting) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"{}")


def _rule(rule: Rule) -> Json:
    plain = rule.resources[0].partition("/")[0]
    found: Json = {
        "apiGroups": [GROUPS.get(plain, "")],
        "resources": list(rule.resources),
        "verbs": list(rule.verbs),
    }
    if rule.names:
        found["resourceNames"] = list(rule.names)
    return found


@asynccontextmanager
async def on_double(directory: Path) -> AsyncIterator[Kube]:
    async with KubeApi() as api:
        yield Kube(directory, api, None)


@asynccontextmanager
async def on_real(directory: Path, server: KubeApiServer) -> AsyncIterator[Kube]:
    cluster = Kube(directory, None, server)
    try:
        yield cluster
    finally:
        await cluster.clean()


@pytest.fixture(scope="session")
def real_apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    server = KubeApiServer(tmp_path_factory.mktemp("kube-apiserver"))
    try:
        server.start()
        yield server
    finally:
        server.close()


REAL = pytest.param("real", marks=[pytest.mark.kube, pytest.mark.deadline(2 * DEADLINE)])


@pytest.fixture(params=["double", REAL])
def kube(request: pytest.FixtureRequest, tmp_path: Path) -> InLoop[Kube]:
    """The API double, and a real kube-apiserver where there is one."""
    if request.param == "double":
        return InLoop(lambda: on_double(tmp_path))
    server: KubeApiServer = request.getfixturevalue("real_apiserver")
    return InLoop(lambda: on_real(tmp_path, server))


@pytest.fixture
def double(tmp_path: Path) -> InLoop[Kube]:
    """The API double alone."""
    return InLoop(lambda: on_double(tmp_path))
