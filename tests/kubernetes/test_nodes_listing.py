"""kubernetes/nodes.py: what a new list changes, and how often a server that is away is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from tests.support.kubecluster import MERGE, NODES, Kube, until
from udpoverlay.clock import SYSTEM_CLOCK
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.kubeconfig import load_access
from udpoverlay.kubernetes.nodes import FeedTiming, NodeFeed
from udpoverlay.model.config import KubeConfigSource
from udpoverlay.model.schedule import Moment

TIMING = FeedTiming(first_retry=0.25, max_retry=8.0)
JITTER = 1.25


class NotedPauses:
    """A clock whose pauses are noted and last no time."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def now(self) -> Moment:
        return SYSTEM_CLOCK.now()

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic()

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def feeding(cluster: Kube) -> AsyncIterator[tuple[NodeFeed, NotedPauses]]:
    config = cluster.kubeconfig(cluster.api.user("feed", cluster.api.auth.rules["admin"]))
    client = KubeClient(load_access(KubeConfigSource(kubeconfig_file=str(config))))
    clock = NotedPauses()
    feed = NodeFeed(client, frozenset({"a.b/c"}), timing=TIMING, clock=clock)
    task = asyncio.ensure_future(feed.run())
    try:
        await until(feed.synced.is_set, "the Nodes are listed")
        yield feed, clock
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await client.aclose()


def has(feed: NodeFeed, annotations: dict[str, str]) -> bool:
    return feed.nodes["n1"].annotations == annotations


async def test_server_that_is_away_is_asked_less_and_less(double: Kube) -> None:
    await double.node("n1")
    async with feeding(double) as (feed, clock):
        for number in range(2):
            clock.pauses.clear()
            await double.api.stop()
            await until(lambda: len(clock.pauses) >= 9, "it is tried again and again")
            wanted = TIMING.first_retry
            for pause in clock.pauses[:9]:
                assert wanted <= pause <= wanted * JITTER, clock.pauses
                wanted = min(wanted * 2, TIMING.max_retry)
            await double.api.start()
            # With an event the fault is over: the next one begins with the shortest pause.
            said = {"a.b/c": str(number)}
            patch = {"metadata": {"annotations": said}}
            await double.ok("PATCH", f"{NODES}/n1", patch, content_type=MERGE)
            await until(partial(has, feed, said), "followed again")


@pytest.mark.parametrize(
    "broken",
    [
        {"annotations": {"a.b/c": 7}},
        {"annotations": "x"},
    ],
    ids=str,
)
async def test_node_that_a_list_cannot_read_stays_what_it_was(
    double: Kube, broken: dict[str, Any]
) -> None:
    await double.node("n1", "10.244.1.0/24")
    async with feeding(double) as (feed, _):
        api = double.api
        await api.stop()
        api.store.objects["nodes", "", "n1"]["metadata"] |= broken
        await api.store.create(("nodes", "", "n2"), {"metadata": {}, "spec": {}, "status": {}})
        api.store.compact()  # so that it has to list again
        await api.start()
        await until(lambda: "n2" in feed.nodes, "listed again")
        assert feed.nodes["n1"].pod_cidr == "10.244.1.0/24"
        assert list(feed.unreadable) == ["n1"]


async def test_pod_cidr_that_comes_later_is_news(double: Kube) -> None:
    await double.node("n1")
    async with feeding(double) as (feed, _):
        follower = feed.follow()
        await follower.next()
        patch = {"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}}
        await double.ok("PATCH", f"{NODES}/n1", patch, content_type=MERGE)
        assert (await follower.next()).names == {"n1"}
        assert feed.nodes["n1"].pod_cidr == "10.244.1.0/24"
