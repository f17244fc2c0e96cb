"""No reply of an API server ends a task or costs a route; when it is sane again, all is right."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubeclient import client, config
from tests.support.kubecluster import Kube, flannel_annotations, until
from tests.support.kubehostile import HOSTILE, Asked, HostileApi
from tests.support.kuberegistry import ATTRS, Told, opened, watching
from tests.support.kubestorm import Hurry, rounds
from udpoverlay.errors import RegistryError
from udpoverlay.kubernetes import client as kube_client
from udpoverlay.kubernetes.client import MAX_PAGE
from udpoverlay.kubernetes.node import NodeView
from udpoverlay.registry.kubernetes.annotations import lease_of_node
from udpoverlay.registry.kubernetes.node_leases import NodeLeases
from udpoverlay.registry.kubernetes.registry import KubeRegistry

BEFORE = {"10.244.1.0/24": "192.0.2.1", "10.244.2.0/24": "192.0.2.2"}
AFTER = {"10.244.1.0/24": "192.0.2.1", "10.244.2.0/24": "192.0.2.22", "10.244.3.0/24": "192.0.2.3"}


@asynccontextmanager
async def following(cluster: Kube) -> AsyncIterator[tuple[KubeRegistry, Told, HostileApi]]:
    """A registry with its lease and a peer, behind a server that may turn hostile."""
    await cluster.node("n1", "10.244.1.0/24")
    await cluster.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
    async with HostileApi(cluster.api) as hostile:
        source = await cluster.source("n1", url=hostile.url)
        async with opened(source, Hurry()) as registry, watching(registry) as told:
            await registry.acquire(ATTRS, None)
            await told.become(BEFORE)
            yield registry, told, hostile


async def recovers(cluster: Kube, registry: KubeRegistry, told: Told) -> None:
    """All that changed meanwhile is seen, and nothing is left to complain about."""
    await told.become(AFTER)
    await until(lambda: registry.troubles() == {}, f"no trouble, not {registry.troubles()}")

    async def completed() -> bool:
        node = await cluster.get_node("n1")
        return bool(flannel_annotations(node)) and "conditions" in node["status"]

    await until(completed, "the condition is set")


async def change(cluster: Kube) -> None:
    await cluster.annotate("n2", public_ip="192.0.2.22")
    await cluster.udp_node("n3", "10.244.3.0/24", "192.0.2.3")


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_replies_end_no_task_and_cost_no_route(double: Kube, name: str) -> None:
    async with following(double) as (registry, told, hostile):
        hostile.reply = lambda asked: HOSTILE[name]
        await hostile.cut()
        await change(double)
        lease = await registry.acquire(ATTRS, None)
        await registry.complete(lease)
        assert await registry.stored_public_ips() == ("", "")
        await until(lambda: len(hostile.served) >= 6, f"six of {name}")
        assert told.leases == BEFORE
        assert registry.troubles()
        hostile.reply = lambda asked: None
        await recovers(double, registry, told)
        assert registry.counters()["task_failures"] == 0


@pytest.mark.parametrize("name", ["empty", "null items", "lines of nonsense", "not found"])
@pytest.mark.parametrize("watches", [True, False], ids=["watch", "list"])
async def test_lists_and_watches_make_up_for_each_other(
    double: Kube, name: str, watches: bool
) -> None:
    """Whichever of the two is answered badly for ever, the other one goes on."""

    async with following(double) as (registry, told, hostile):

        def reply(asked: Asked) -> bytes | None:
            listing = asked.method == "GET" and asked.path.endswith("/nodes")
            return HOSTILE[name] if listing and asked.watch == watches else None

        hostile.reply = reply
        await hostile.cut()
        await change(double)
        await told.become(AFTER)
        assert bool(registry.counters()["relists"]) == watches
        await until(lambda: "nodes" in registry.troubles(), "it is told")
        hostile.reply = lambda asked: None
        lease = await registry.acquire(ATTRS, None)
        await registry.complete(lease)
        await recovers(double, registry, told)


async def test_an_event_that_never_decodes_is_passed_by_a_list(double: Kube) -> None:
    """The server replays it after each break: going on from there alone would never end."""

    async with following(double) as (registry, told, hostile):
        event = b'{"type":"MODIFIED","object":{"metadata":{"name":"n2"}}}\n'
        watches = 0

        def reply(asked: Asked) -> bytes | None:
            nonlocal watches
            watches += asked.watch
            if not asked.watch or registry.counters()["relists"]:
                return None
            return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + event

        hostile.reply = reply
        await hostile.cut()
        await change(double)
        await told.become(AFTER)
        assert registry.counters()["relists"] == 1
        assert watches <= 3
        await registry.complete(await registry.acquire(ATTRS, None))
        await recovers(double, registry, told)


async def test_a_damaged_node_in_a_list_loses_no_peer(double: Kube) -> None:
    async with following(double) as (registry, told, hostile):
        node = double.api.store.objects["nodes", "", "n2"]
        good, node["spec"] = node["spec"], {"podCIDRs": {"a": 1}}

        def reply(asked: Asked) -> bytes | None:
            old = registry.counters()["lists"] == 1
            return HOSTILE["gone"] if asked.watch and old else None

        hostile.reply = reply
        await hostile.cut()
        await double.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
        await told.become({**BEFORE, "10.244.3.0/24": "192.0.2.3"})
        assert registry.counters()["lists"] == 2
        assert "Node n2 cannot be read" in registry.troubles()["unreadable"]
        node["spec"] = good
        await double.annotate("n2", public_ip="192.0.2.22")
        await told.become(AFTER)
        assert registry.troubles() == {}


async def test_a_storm_of_damaged_replies_leaves_nothing_wrong(double: Kube) -> None:
    await rounds(double, seconds=3.0, seed=7)


# ---------------------------------------------------------------------- unforeseen errors


async def test_an_unforeseen_error_in_following_nodes_is_survived(
    double: Kube, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(double) as (registry, told, _hostile):
        real = NodeView.same_facts

        def broken(self: NodeView, other: NodeView | None) -> bool:
            raise ZeroDivisionError("unforeseen")

        monkeypatch.setattr(NodeView, "same_facts", broken)
        await change(double)
        await until(lambda: registry.counters()["task_failures"] >= 1, "it failed")
        assert "ZeroDivisionError: unforeseen" in registry.troubles()["kube-nodes"]
        assert "work that must go on has failed" in caplog.text
        monkeypatch.setattr(NodeView, "same_facts", real)
        await told.become(AFTER)
        await double.delete_node("n3")
        await told.become({k: v for k, v in AFTER.items() if k != "10.244.3.0/24"})


async def test_an_unforeseen_error_in_reading_leases_is_survived(
    double: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(double) as (_registry, told, _hostile):
        real = lease_of_node

        def broken(view: NodeView, *rest: Any) -> Any:
            if view.name == "n2":
                raise ZeroDivisionError("unforeseen")
            return real(view, *rest)

        monkeypatch.setattr("udpoverlay.registry.kubernetes.node_leases.lease_of_node", broken)
        await change(double)
        await told.become({**BEFORE, "10.244.3.0/24": "192.0.2.3"})
        monkeypatch.undo()
        await double.annotate("n2", public_ip="192.0.2.22", backend_type="")
        await double.annotate("n2", backend_data="{}")
        await told.become(AFTER)


async def test_an_unforeseen_error_in_telling_leases_is_survived(
    double: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(double) as (registry, told, _hostile):
        real = NodeLeases.change

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError("unforeseen")

        monkeypatch.setattr(NodeLeases, "change", broken)
        await change(double)
        await told.become(AFTER)  # by a snapshot
        assert registry.counters()["task_failures"] >= 1
        monkeypatch.setattr(NodeLeases, "change", real)
        await double.delete_node("n3")
        await told.become({k: v for k, v in AFTER.items() if k != "10.244.3.0/24"})


async def test_an_unforeseen_error_in_keeping_our_node_is_survived(
    double: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(double) as (registry, _told, _hostile):
        real = registry._own.still_holds

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError("unforeseen")

        monkeypatch.setattr(type(registry._own), "still_holds", broken)
        await double.delete_node("n1")
        await double.node("n1", "10.244.1.0/24")
        await until(lambda: registry.counters()["task_failures"] >= 1, "it failed")
        assert "kube-own-node" in registry.troubles()
        monkeypatch.setattr(type(registry._own), "still_holds", lambda _, *rest: real(*rest))

        async def annotated() -> bool:
            return bool(flannel_annotations(await double.get_node("n1")))

        await until(annotated, "our node is annotated again")


# ---------------------------------------------------------------------- bounds


@pytest.mark.parametrize("name", ["gzip bomb", "an endless line", "a refusal that is a bomb"])
async def test_a_reply_costs_no_more_memory_than_a_page_may(
    double: Kube, tmp_path: Path, name: str
) -> None:
    async with HostileApi(double.api) as hostile:
        hostile.reply = lambda asked: HOSTILE[name]
        async with client(config(tmp_path, {"server": hostile.url})) as made:
            tracemalloc.start()
            try:
                for _ in range(2):
                    with pytest.raises(RegistryError):
                        await made.node_version()
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert peak < 3 * MAX_PAGE + 2 * len(HOSTILE[name])


async def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones(
    double: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_client, "MAX_PAGE", 20_000)

    for index in range(30):
        await double.node(f"n{index}", annotations={"a.b/c": "x" * 3000})
    user = {"token": double.admin_token}
    async with client(config(tmp_path, {"server": double.url}, user)) as made:
        names = [view.name async for page in made.node_pages(frozenset()) for view in page.nodes]
    assert sorted(names) == sorted(f"n{index}" for index in range(30))
    limits = [call.query["limit"] for call in double.api.calls if call.verb == "list"]
    assert limits[:7] == ["250", "125", "62", "31", "15", "7", "3"]
