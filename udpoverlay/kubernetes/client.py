"""Requests to a Kubernetes API server, and their typed answers.

Owns: which requests there are: paths, query, patch types, page sizes. Must not know: HTTP
(transport.py), how a reply is read (codec.py), when a caller should try again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any
from urllib.parse import quote

from udpoverlay.kubernetes import codec
from udpoverlay.kubernetes.codec import NodePage, WatchEvent
from udpoverlay.kubernetes.errors import KubeTooLarge, KubeUndecodable, Status, status_error
from udpoverlay.kubernetes.kubeconfig import KubeAccess
from udpoverlay.kubernetes.lease import LeaseObject, read_lease
from udpoverlay.kubernetes.node import NodeView
from udpoverlay.kubernetes.transport import TIMEOUTS, KubeTimeouts, Request, Transport

__all__ = ["COUNTERS", "Json", "KubeClient"]

Json = dict[str, Any]

COUNTERS = ("requests", "request_failures", "undecodable")

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"

PAGE = 250
"""Nodes a page: a Node is 5–30 kB of JSON, and a page is held whole."""

MAX_PAGE = 8 << 20
"""Bytes of a page; one that is larger is asked for again with half as many Nodes."""

MAX_NODES = 100_000
"""A list that goes on after these is no list of Nodes (Kubernetes is built for 5,000)."""

MAX_OBJECT = 4 << 20
"""Bytes of one object; etcd takes 1.5 MB."""

_NODES = "/api/v1/nodes"
_NOTHING: frozenset[str] = frozenset()


class KubeClient:
    """One API server. Use inside a running event loop; `aclose` it.

    Every method raises RegistryError by kind of refusal, and KubeUndecodable for an answer that is
    not what it must be.
    """

    def __init__(
        self,
        access: KubeAccess,
        *,
        timeouts: KubeTimeouts = TIMEOUTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.access = access
        self.counters: Counter[str] = Counter()
        self._timeouts = timeouts
        self._transport = Transport(access, self.counters, timeouts=timeouts, clock=clock)

    async def aclose(self) -> None:
        """Close all connections, and wait until they are."""
        await self._transport.aclose()

    # ------------------------------------------------------------------ nodes

    async def get_node(
        self, name: str, keep: frozenset[str] = _NOTHING, *, cached: bool = False
    ) -> NodeView:
        """Read one Node and its annotations `keep`.

        `cached` lets the server answer from memory (resourceVersion 0).
        """
        query = {"resourceVersion": "0"} if cached else None
        return await self._node(Request("GET", _node_path(name), query), name, keep)

    async def node_pages(self, keep: frozenset[str]) -> AsyncGenerator[NodePage, None]:
        """List all Nodes at one version. Raises KubeGone when that version was forgotten."""
        limit, count, following, revision = PAGE, 0, "", ""
        while True:
            query = {"limit": str(limit)}
            if following:
                query["continue"] = following
            try:
                page = await self._page(Request("GET", _NODES, query), keep)
            except KubeTooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 2)
                continue
            count += max(1, len(page.nodes) + len(page.odd))  # an endless list of nothing, too
            if page.revision != (revision or page.revision) or count > MAX_NODES:
                with self._counting():
                    raise KubeUndecodable(f"GET {_NODES}: the pages are of no single list")
            revision = page.revision
            yield page
            if not page.next:
                return
            following = page.next

    async def node_version(self) -> str:
        """The server's present version of the list of Nodes."""
        return (await self._page(Request("GET", _NODES, {"limit": "1"}), _NOTHING)).revision

    async def patch_node(self, name: str, patch: Json) -> NodeView:
        """Patch metadata and spec with a JSON merge patch (lists are replaced whole)."""
        return await self._patch(_node_path(name), name, patch, MERGE)

    async def patch_node_status(self, name: str, patch: Json) -> NodeView:
        """Patch metadata and status with a strategic merge patch (conditions merge by type)."""
        return await self._patch(f"{_node_path(name)}/status", name, patch, STRATEGIC)

    async def watch_nodes(
        self, resource_version: str, opened: asyncio.Event, keep: frozenset[str]
    ) -> AsyncGenerator[WatchEvent, None]:
        """Follow all Nodes from `resource_version`; ends when the server ends it.

        Sets `opened` when the server has accepted. Raises what an ERROR event says.
        """
        seconds = random.uniform(  # noqa: S311 - spread over time, no secret
            self._timeouts.watch_low, self._timeouts.watch_high
        )
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        self.counters["watches"] += 1
        what = f"watch {_NODES}"
        stream = self._transport.lines(Request("GET", _NODES, query), seconds, opened)
        with self._counting():
            async with aclosing(stream) as lines:
                async for line in lines:
                    event = codec.watch_event(line, keep, what)
                    if event.kind == "ERROR":
                        said = event.status or Status()
                        raise status_error(said.code or 500, said, what)
                    yield event

    # ------------------------------------------------------------------ other objects

    async def pod_node_name(self, namespace: str, name: str) -> str:
        """The Node that a Pod runs on, "" while it has none."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}"
        request = Request("GET", path)
        with self._counting():
            data = await self._transport.send(request, MAX_OBJECT)
            return codec.pod_node_name(data, str(request))

    async def may_i(
        self, verb: str, resource: str, *, namespace: str = "", group: str = ""
    ) -> bool:
        """Ask whether we may `verb` a resource (`nodes/status` with its subresource)."""
        plain, _, sub = resource.partition("/")
        asked = {"verb": verb, "group": group, "resource": plain, "subresource": sub}
        if namespace:
            asked["namespace"] = namespace
        body: Json = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        request = Request("POST", path, body=codec.encode(body))
        with self._counting():
            data = await self._transport.send(request, MAX_OBJECT)
            return codec.review(data, str(request))

    async def get_lease(self, namespace: str, name: str) -> LeaseObject:
        """Read a coordination.k8s.io Lease."""
        return await self._lease(Request("GET", _lease_path(namespace, name)))

    async def create_lease(self, namespace: str, lease: Json) -> LeaseObject:
        """Create a Lease. Raises KubeExists."""
        return await self._lease(Request("POST", _lease_path(namespace), body=codec.encode(lease)))

    async def update_lease(self, namespace: str, name: str, lease: Json) -> LeaseObject:
        """Replace a Lease of the version in `lease`. Raises KubeModified when it has another."""
        return await self._lease(
            Request("PUT", _lease_path(namespace, name), body=codec.encode(lease))
        )

    # ------------------------------------------------------------------ answers

    async def _node(self, request: Request, name: str, keep: frozenset[str]) -> NodeView:
        with self._counting():
            data = await self._transport.send(request, MAX_OBJECT)
            view = codec.node(data, keep, str(request))
            if view.name != name:
                raise KubeUndecodable(f"{request}: the answer is Node {view.name}")
            return view

    async def _patch(self, path: str, name: str, patch: Json, content_type: str) -> NodeView:
        request = Request("PATCH", path, None, codec.encode(patch), content_type)
        return await self._node(request, name, _NOTHING)

    async def _page(self, request: Request, keep: frozenset[str]) -> NodePage:
        with self._counting():
            data = await self._transport.send(request, MAX_PAGE)
            return codec.node_page(data, keep, str(request))

    async def _lease(self, request: Request) -> LeaseObject:
        with self._counting():
            data = await self._transport.send(request, MAX_OBJECT)
            return read_lease(data, str(request))

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count replies that are not what they must be."""
        try:
            yield
        except KubeUndecodable:
            self.counters["undecodable"] += 1
            raise


def _node_path(name: str) -> str:
    return f"{_NODES}/{quote(name, safe='')}"


def _lease_path(namespace: str, name: str = "") -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace, safe='')}/leases"
    return f"{path}/{quote(name, safe='')}" if name else path
