"""Following Nodes through everything a connection and a server can do wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.kubecluster import Kube, until
from udpoverlay.clock import SYSTEM_CLOCK, Clock, SystemClock
from udpoverlay.kubernetes import client as kube_client
from udpoverlay.kubernetes import transport as kube_transport
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.kubeconfig import load_access
from udpoverlay.kubernetes.node import NodeView
from udpoverlay.kubernetes.nodes import FeedTiming, NodeFeed
from udpoverlay.kubernetes.transport import KubeTimeouts
from udpoverlay.model.config import KubeConfigSource

QUICK = FeedTiming(first_retry=0.01, max_retry=0.05, denied_retry=0.05)


@asynccontextmanager
async def feeding(
    cluster: Kube,
    timeouts: KubeTimeouts | None = None,
    *,
    clock: Clock = SYSTEM_CLOCK,
    timing: FeedTiming = QUICK,
) -> AsyncIterator[tuple[NodeFeed, KubeClient]]:
    config = cluster.kubeconfig(cluster.api.user("feed", cluster.api.auth.rules["admin"]))
    access = load_access(KubeConfigSource(kubeconfig_file=str(config)))
    client = KubeClient(access, timeouts=timeouts or KubeTimeouts())
    feed = NodeFeed(client, frozenset({"a.b/c"}), timing=timing, clock=clock)
    task = asyncio.ensure_future(feed.run())
    try:
        yield feed, client
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await client.aclose()


async def names(feed: NodeFeed, *wanted: str) -> None:
    await until(lambda: set(feed.nodes) == set(wanted), f"{wanted}, not {set(feed.nodes)}")


def calls(cluster: Kube, verb: str) -> list[dict[str, str]]:
    found = [call for call in cluster.api.calls if call.user == "feed" and call.verb == verb]
    return [call.query for call in found]


async def watching(cluster: Kube, count: int = 1) -> None:
    await until(lambda: len(calls(cluster, "watch")) >= count, "a watch is open")
    await until(lambda: cluster.api.open_watches >= 1, "a watch is open")


async def test_a_list_comes_in_pages(double: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_client, "PAGE", 2)

    for index in range(5):
        await double.node(f"n{index}")
    async with feeding(double) as (feed, client):
        await names(feed, *(f"n{index}" for index in range(5)))
        assert client.counters["lists"] == 1
    pages = [query for query in calls(double, "list") if query["limit"] == "2"]
    assert [bool(query.get("continue")) for query in pages] == [False, True, True]


async def test_pages_that_expire_are_listed_from_the_start(
    double: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_client, "PAGE", 2)

    for index in range(3):
        await double.node(f"n{index}")
    double.api.faults.refuse(410, lambda call: "continue" in call.query)
    async with feeding(double) as (feed, _):
        await names(feed, "n0", "n1", "n2")
    pages = [query for query in calls(double, "list") if query["limit"] == "2"]
    assert [bool(query.get("continue")) for query in pages] == [False, True, False, True]


@pytest.mark.parametrize(
    "line",
    [
        b"this is no json\n",
        b"[]\n",
        b"{}\n",
        b'{"type":5,"object":{}}\n',
        b'{"type":"ADDED","object":[]}\n',
        b'{"type":"ERROR","object":{"code":500,"message":"etcdserver: leader changed"}}\n',
        b'{"type":"ERROR","object":{"code":"x"}}\n',
        b'{"type":"ADDED","obj',
    ],
    ids=str,
)
async def test_a_broken_watch_is_opened_again_where_it_was(double: Kube, line: bytes) -> None:
    await double.node("n1")
    async with feeding(double) as (feed, client):
        await names(feed, "n1")
        await watching(double)
        await double.api.say(line)
        if not line.endswith(b"\n"):
            double.api.cut_watches()
        await until(lambda: len(calls(double, "watch")) >= 2, "opened again")
        await double.node("n2")
        await names(feed, "n1", "n2")
        assert client.counters["lists"] == 1
        assert client.counters["watch_breaks"] >= 1


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"metadata": None},
        {"metadata": {"name": 7}},
        {"metadata": {"name": "n1", "annotations": {"a.b/c": ["x"]}}},
        {"metadata": {"name": "n1"}, "spec": "x"},
        {"metadata": {"name": "n1"}, "spec": {"podCIDRs": {"a": 1}}},
        {"metadata": {"name": "n1"}, "spec": {"taints": [1]}},
        {"metadata": {"name": "n1", "annotations": "x" * 1_000_000}},
    ],
    ids=lambda obj: str(obj)[:60],
)
@pytest.mark.parametrize("kind", ["MODIFIED", "DELETED", "SOMETHING"])
async def test_a_hostile_object_loses_no_node(double: Kube, obj: dict[str, Any], kind: str) -> None:
    await double.node("n1", "10.244.1.0/24")
    async with feeding(double) as (feed, _):
        await names(feed, "n1")
        await watching(double)
        if kind != "DELETED" or obj.get("metadata") is None or obj["metadata"]["name"] == 7:
            await double.api.say({"type": kind, "object": obj})
        await double.node("n2")
        await names(feed, "n1", "n2")
        assert feed.nodes["n1"].pod_cidr == "10.244.1.0/24"


async def test_a_bookmark_moves_the_place_to_resume_from(double: Kube) -> None:
    await double.node("n1")
    async with feeding(double) as (feed, client):
        await names(feed, "n1")
        await watching(double)
        lease = {"metadata": {"name": "other"}, "spec": {}}
        await double.ok("POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases", lease)
        await double.api.bookmark()
        version = str(double.api.store.revision)
        await until(lambda: feed.revision == version, "the bookmark came")
        await double.forget_history()  # what a watch without bookmarks would not survive
        await double.node("n2")
        await names(feed, "n1", "n2")
        assert calls(double, "watch")[-1]["resourceVersion"] == version
        assert calls(double, "watch")[-1]["allowWatchBookmarks"] == "true"
        assert client.counters["watch_compactions"] == 0


async def test_a_watch_that_falls_silent_is_opened_again(double: Kube) -> None:
    await double.node("n1")
    async with feeding(double, KubeTimeouts(watch_idle=0.2)) as (feed, _):
        await names(feed, "n1")
        await watching(double)
        double.api.faults.mute = True
        await double.node("n2")
        await until(lambda: len(calls(double, "watch")) >= 2, "opened again")
        double.api.faults.mute = False
        await names(feed, "n1", "n2")


async def test_a_watch_that_the_server_ends_is_no_trouble(double: Kube) -> None:
    await double.node("n1")
    async with feeding(double, KubeTimeouts(watch_low=1.0, watch_high=1.0)) as (feed, client):
        await until(lambda: len(calls(double, "watch")) >= 2, "opened again")
        await double.node("n2")
        await names(feed, "n1", "n2")
        assert client.counters["watch_breaks"] == 0
        assert client.counters["lists"] == 1


async def test_a_server_restored_from_an_older_copy_is_noticed(double: Kube) -> None:
    await double.node("n1")
    backup = double.api.store.backup()
    double.api.store.revision += 1000
    await double.node("n2")
    async with feeding(double) as (feed, client):
        follower = feed.follow()
        assert (await follower.next()).lost_history is False
        await names(feed, "n1", "n2")
        await double.api.stop()
        double.api.store = backup
        await double.api.start()
        news = await follower.next()
        assert (news.reset, news.lost_history) == (True, True)
        assert set(feed.nodes) == {"n1"}
        await double.node("n3")
        await names(feed, "n1", "n3")
        assert client.counters["history_lost"] == 1


async def test_a_slow_follower_gets_each_node_once_and_loses_none(double: Kube) -> None:
    for index in range(3):
        await double.node(f"n{index}")
    async with feeding(double) as (feed, _):
        follower = feed.follow()
        assert (await follower.next()).reset
        await watching(double)
        for turn in range(200):
            await double.api.store.replace(
                ("nodes", "", f"n{turn % 3}"),
                {
                    **double.api.store.objects["nodes", "", f"n{turn % 3}"],
                    "metadata": {
                        **double.api.store.objects["nodes", "", f"n{turn % 3}"]["metadata"],
                        "annotations": {"a.b/c": str(turn)},
                    },
                },
            )
        await double.delete_node("n0")
        await names(feed, "n1", "n2")
        news = await follower.next()
        assert news.names == {"n0", "n1", "n2"}
        assert feed.nodes["n1"].annotations == {"a.b/c": "199"}
        assert follower.take().names == frozenset()


async def test_a_kubelets_heartbeat_is_no_news(double: Kube) -> None:
    await double.node("n1")
    async with feeding(double) as (feed, _):
        follower = feed.follow()
        await follower.next()
        await watching(double)
        before = feed.revision
        patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        await double.ok(
            "PATCH",
            "/api/v1/nodes/n1/status",
            patch,
            content_type="application/strategic-merge-patch+json",
        )
        await until(lambda: feed.revision != before, "the heartbeat came")
        assert follower.take().names == frozenset()


async def test_an_event_in_many_pieces_is_put_together(double: Kube) -> None:
    await double.node("n1")
    async with feeding(double) as (feed, _):
        await names(feed, "n1")
        await watching(double)
        big = {
            "metadata": {"name": "big", "uid": "u", "resourceVersion": feed.revision},
            "status": {"images": ["x" * 100] * 20_000},
        }
        line = json.dumps({"type": "ADDED", "object": big}).encode() + b"\n"
        half = len(line) // 2
        await double.api.say(line[:half])
        await asyncio.sleep(0)
        await double.api.say(line[half:])
        await names(feed, "n1", "big")
        assert feed.nodes["big"] == NodeView("big", "u", feed.revision)


async def test_an_event_without_an_end_is_given_up(
    double: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_transport, "_MAX_LINE", 1 << 20)

    await double.node("n1")
    async with feeding(double) as (feed, client):
        await names(feed, "n1")
        await watching(double)
        await double.api.say(b'{"type":"' + b"A" * (3 << 20))
        await until(lambda: client.counters["watch_breaks"] == 1, "given up")
        await double.node("n2")
        await names(feed, "n1", "n2")


@pytest.mark.parametrize(("code", "longest"), [(0, 10.0), (503, 10.0), (403, 30.0)])
async def test_a_server_that_refuses_is_asked_less_and_less(
    double: Kube, code: int, longest: float
) -> None:
    class Recorder(SystemClock):
        def __init__(self) -> None:
            self.pauses: list[float] = []

        async def sleep(self, seconds: float) -> None:
            self.pauses.append(seconds)
            await asyncio.sleep(0 if len(self.pauses) < 12 else 3600)

    clock = Recorder()
    if code:
        double.api.faults.refuse(code, times=1000)
    else:
        await double.api.stop()
    async with feeding(double, clock=clock, timing=FeedTiming()):
        await until(lambda: len(clock.pauses) == 12, "twelve pauses")
    for index, pause in enumerate(clock.pauses):
        plain = min(0.2 * 2**index, longest)
        assert plain <= pause <= 1.25 * plain, clock.pauses


async def test_watch_that_breaks_after_each_event_is_opened_with_a_pause(
    double: Kube,
) -> None:
    class Counted(SystemClock):
        def __init__(self) -> None:
            self.pauses: list[float] = []

        async def sleep(self, seconds: float) -> None:
            self.pauses.append(seconds)
            await asyncio.sleep(0)

    clock = Counted()
    async with feeding(double, clock=clock, timing=FeedTiming()) as (feed, _):
        for index in range(5):
            await watching(double)
            await double.node(f"n{index}")
            await until(lambda index=index: f"n{index}" in feed.nodes, "it is seen")  # type: ignore[misc]  # a lambda's default
            double.api.cut_watches()
        await until(lambda: len(clock.pauses) >= 4, "pauses")
        assert min(clock.pauses) >= 0.2
