"""Taints that the podCIDR controller removes, while others write the same Node."""

from __future__ import annotations

from typing import Any

from tests.support.kubeapi.faults import Call
from tests.support.kubecluster import MERGE, NODES, Kube, until
from tests.support.podcidr import controller, leader

OURS = {"key": "example.com/no-network", "effect": "NoSchedule"}
THEIRS = {"key": "example.com/maintenance", "effect": "NoSchedule"}


def by_controller(call: Call) -> bool:
    return call.user != "admin" and call.verb == "patch" and call.resource == "nodes"


async def keys(cluster: Kube, name: str) -> set[str]:
    node: dict[str, Any] = await cluster.get_node(name)
    return {taint["key"] for taint in node["spec"].get("taints") or ()}


async def without_ours(cluster: Kube) -> bool:
    return OURS["key"] not in await keys(cluster, "n1")


async def test_taint_set_by_others_in_the_same_moment_is_not_lost(double: Kube) -> None:
    late = double.api.faults.hold(by_controller)
    await double.node("n1", "10.244.7.0/24", taints=[OURS])
    async with controller(double, taints=[OURS["key"]]) as replica:
        await leader(replica)
        await until(lambda: any(map(by_controller, double.api.calls)), "a write")
        both = {"spec": {"taints": [OURS, THEIRS]}}
        await double.ok("PATCH", f"{NODES}/n1", both, content_type=MERGE)
        late.set()
        await until(lambda: without_ours(double), "our taint is gone")
        assert await keys(double, "n1") == {THEIRS["key"]}


async def test_taint_whose_removal_failed_is_removed_later(double: Kube) -> None:
    double.api.faults.refuse(500, by_controller, times=2)
    await double.node("n1", "10.244.7.0/24", taints=[OURS])
    async with controller(double, taints=[OURS["key"]]) as replica:
        await leader(replica)
        await until(lambda: without_ours(double), "our taint is gone")
        assert replica.status()["failed"] == []
