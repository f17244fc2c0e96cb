"""The podCIDR controller when replies are odd or its own work fails in an unforeseen way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.kubecluster import Kube, until
from tests.support.kubehostile import HOSTILE, HostileApi
from tests.support.podcidr import controller, leader, ranges, served, source
from udpoverlay.kubernetes.node import NodeView
from udpoverlay.podcidr.reconciler import Reconciler

LEASE = ("leases", "kube-system", "podcidr")


@pytest.mark.parametrize(
    "name", ["bare object", "null items", "nameless items", "deep", "gzip bomb", "not found",
             "gone", "no HTTP", "unauthorized", "wrong types"]
)  # fmt: skip
async def test_hostile_replies_end_nothing(double: Kube, name: str) -> None:
    async with HostileApi(double.api) as hostile:
        access = await source(double, url=hostile.url)
        async with controller(double, access=access) as replica:
            await double.node("n1")
            before = await served(double, "n1")
            hostile.reply = lambda asked: HOSTILE[name]
            await hostile.cut()
            await double.node("n2")
            await until(lambda: len(hostile.served) >= 4, f"four of {name}")
            assert (await ranges(double))["n2"] == []
            hostile.reply = lambda asked: None
            found = await served(double, "n1", "n2")
            assert found["n1"] == before["n1"]
            assert replica.status()["task_failures"] == 0
            await until(lambda: replica.status()["troubles"] == {}, "no trouble is left")


async def test_an_unforeseen_error_gives_the_lease_to_another_replica(
    double: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Reconciler.serve

    async def broken(self: Reconciler, *rest: Any) -> None:
        if self._leadership.identity == "a":
            raise ZeroDivisionError("unforeseen")
        await real(self, *rest)

    monkeypatch.setattr(Reconciler, "serve", broken)
    async with controller(double, identity="a") as first:
        await until(lambda: first.status()["task_failures"] == 1, "it failed")
        assert "ZeroDivisionError" in first.status()["troubles"]["podcidr"]
        objects = double.api.store.objects
        await until(lambda: not objects[LEASE]["spec"].get("holderIdentity"), "it lets go")
        async with controller(double, identity="b") as second:
            await leader(second)
            await double.node("n1")
            await served(double, "n1")
        monkeypatch.setattr(Reconciler, "serve", real)
        await double.node("n2")
        await served(double, "n1", "n2")


async def test_an_unforeseen_error_in_following_nodes_is_survived(
    double: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with controller(double) as replica:
        await leader(replica)
        real = NodeView.same_facts

        def broken(self: NodeView, other: NodeView | None) -> bool:
            raise ZeroDivisionError("unforeseen")

        monkeypatch.setattr(NodeView, "same_facts", broken)
        await double.node("n1")
        await until(lambda: replica.status()["task_failures"] >= 1, "it failed")
        assert "podcidr-nodes" in replica.status()["troubles"]
        monkeypatch.setattr(NodeView, "same_facts", real)
        await double.node("n2")
        await served(double, "n1", "n2")
        assert replica.status()["leader"]


async def test_no_range_is_given_while_a_node_that_may_hold_it_cannot_be_read(
    double: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    await double.node("n1", "10.244.0.0/24")
    node = double.api.store.objects["nodes", "", "n1"]
    good, node["spec"] = node["spec"], {"podCIDRs": {"a": 1}}
    async with controller(double) as replica:
        await leader(replica)
        await double.node("n2")
        await until(lambda: "while a Node cannot be read" in caplog.text, "it says so")
        assert (await ranges(double))["n2"] == []
        assert "n1" in replica.status()["troubles"]["unreadable"]
        node["spec"] = good
        await double.annotate("n1", public_ip="192.0.2.1")
        found = await served(double, "n1", "n2")
        assert found == {"n1": ["10.244.0.0/24"], "n2": ["10.244.1.0/24"]}
