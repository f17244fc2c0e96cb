"""The podCIDR controller against other writers, lost answers and restored API servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.kubecluster import MERGE, NODES, Kube, until
from tests.support.kubeproxy import SwallowingProxy
from tests.support.podcidr import (
    controller,
    leader,
    served,
    source,
)
from udpoverlay.clock import SystemClock
from udpoverlay.kubernetes.cidr_set import pools_of
from udpoverlay.podcidr.election import PENDING, ElectionPeriods

# ---------------------------------------------------------------------- races


def writes_of(cluster: Kube, user: str) -> Callable[[Any], bool]:
    return lambda call: call.user == user and call.verb == "patch"


async def test_a_stopped_leader_cannot_give_a_range_twice(double: Kube) -> None:
    """It promised a range and was stopped before the write; its successor keeps the promise."""

    api = double.api
    old, new = await source(double), await source(double)
    stopped_write = api.faults.hold(writes_of(double, "tester-0"))
    async with controller(double, identity="old", access=old) as first:
        await double.node("n1")

        await leader(first)
        await until(lambda: bool(promised(double, "n1")), "n1 is promised a range")
        stopped_all = api.faults.hold(lambda call: call.user == "tester-0")
        async with controller(double, identity="new", access=new) as second:
            await leader(second)
            await double.node("n2")
            found = await served(double, "n1", "n2")
            assert found["n1"] == ["10.244.0.0/24"]
            stopped_all.set()
            stopped_write.set()
            await until(lambda: not first.status()["leader"], "the old one gives up")
            await double.node("n3")
            await served(double, "n1", "n2", "n3")


def promised(cluster: Kube, node: str) -> list[str]:
    """What the Lease promises to a Node."""
    lease = cluster.api.store.objects.get(("leases", "kube-system", "podcidr"), {"metadata": {}})
    text = lease["metadata"].get("annotations", {}).get(PENDING, "{}")
    found: list[str] = json.loads(text).get(node, {}).get("cidrs", [])
    return found


async def test_a_successor_keeps_a_promise_that_it_would_not_make(double: Kube) -> None:
    """The first leader has given and got back five ranges: its next is one that a fresh allocator
    would give last."""

    api = double.api
    old, new = await source(double), await source(double)
    early = [f"e{index}" for index in range(5)]
    async with controller(double, identity="old", access=old) as first:
        for name in early:
            await double.node(name)
        await served(double, *early)
        for name in early:
            await double.delete_node(name)
        await until(lambda: first.status()["nodes"] == 0, "all are gone")
        stopped_write = api.faults.hold(writes_of(double, "tester-0"))
        await double.node("n1")
        await until(lambda: promised(double, "n1") == ["10.244.5.0/24"], "a promise")
        stopped_all = api.faults.hold(lambda call: call.user == "tester-0")
        async with controller(double, identity="new", access=new) as second:
            await leader(second)
            await double.node("n2")
            found = await served(double, "n1", "n2")
            assert found == {"n1": ["10.244.5.0/24"], "n2": ["10.244.0.0/24"]}
            stopped_all.set()
            stopped_write.set()
            await until(lambda: not first.status()["leader"], "the old one gives up")
            assert (await served(double, "n1", "n2")) == found
            await double.node("n3")
            await served(double, "n1", "n2", "n3")


async def test_a_promise_outlives_several_leaders(double: Kube) -> None:
    """Leaders that die before they serve the Node hand the promise on."""

    api = double.api
    stopped = api.faults.hold(lambda call: call.user != "admin" and call.verb == "patch")
    other = {"uid": "gone", "cidrs": ["10.244.7.0/24"]}
    node = await double.node("n1")
    promise = {"uid": node["metadata"]["uid"], "cidrs": ["10.244.200.0/24"]}
    annotation = json.dumps({"n1": promise, "n0": other})
    meta = {"name": "podcidr", "annotations": {PENDING: annotation}}
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    await double.ok("POST", path, {"metadata": meta, "spec": {}})

    def writes() -> int:
        return sum(call.verb == "patch" for call in api.calls)

    for count, identity in enumerate(("a", "b", "c")):
        async with controller(double, identity=identity) as replica:
            await leader(replica)
            await until(lambda count=count: writes() > count, "a write")  # type: ignore[misc]  # a lambda's default
        assert promised(double, "n1") == ["10.244.200.0/24"]
    stopped.set()
    async with controller(double, identity="d"):
        await double.node("n2")
        assert await served(double, "n1", "n2") == {
            "n1": ["10.244.200.0/24"],
            "n2": ["10.244.0.0/24"],
        }


async def test_a_promise_stays_in_the_lease_through_all_batches(double: Kube) -> None:
    """A leader that dies after its first batch must not have dropped what it inherited."""

    api = double.api
    for index in range(150):
        await api.store.create(
            ("nodes", "", f"a{index}"), {"metadata": {}, "spec": {}, "status": {}}
        )
    node = await double.node("z1")
    promise = {"uid": node["metadata"]["uid"], "cidrs": ["10.244.200.0/24"]}
    meta = {"name": "podcidr", "annotations": {PENDING: json.dumps({"z1": promise})}}
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    await double.ok("POST", path, {"metadata": meta, "spec": {}})
    stopped = api.faults.hold(writes_of(double, "tester-0"))
    async with controller(double):
        await until(lambda: bool(promised(double, "a0")), "the first batch is promised")
        assert not promised(double, "a99"), "that was the first of two"
        assert promised(double, "z1") == ["10.244.200.0/24"]
        stopped.set()
        found = await served(double, "z1", *(f"a{index}" for index in range(150)))
        assert found["z1"] == ["10.244.200.0/24"]


async def test_leader_without_answers_stops_before_another_starts(
    kube: Kube,
) -> None:
    """Its Lease writes are carried out and its Node writes hang: both are cut off in time."""

    async with SwallowingProxy(kube) as proxy:
        old = await source(kube, url=proxy.url)
        new = await source(kube)
        periods = ElectionPeriods(duration=3.0, renew_deadline=1.5, retry=0.1)
        async with (
            controller(kube, identity="old", access=old, periods=periods) as first,
        ):
            await leader(first)
            async with controller(kube, identity="new", access=new, periods=periods) as second:
                proxy.swallows = lambda method, path: method in {"PUT", "PATCH"}
                await kube.node("n1")

                def handed_over() -> bool:
                    leads = first.status()["leader"], second.status()["leader"]
                    assert leads != (True, True), "two leaders"
                    return leads == (False, True)

                await until(handed_over, "the second leads")
                assert proxy.swallowed
                # Nothing of the old one is under way any more.
                await until(lambda: proxy.hanging == 0 or first.status()["nodes"] is None)
                proxy.swallows = lambda method, path: False
                await kube.node("n2")
                await served(kube, "n1", "n2")
                assert not first.status()["leader"]


async def test_a_leader_that_was_suspended_writes_to_no_node(double: Kube) -> None:
    """Its promise was written just before; when it wakes up its time is over."""

    class Suspended(SystemClock):
        slept = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.slept

    api, clock = double.api, Suspended()
    async with controller(double, clock=clock) as replica:
        await leader(replica)
        waking = api.faults.hold(lambda call: call.verb == "update" and "n1" in str(call.body))
        await double.node("n1")
        await until(lambda: any("n1" in str(c.body) for c in api.calls if c.verb == "update"))
        asked = len(api.calls)
        clock.slept = 100.0
        waking.set()
        await served(double, "n1")
        later = [call.verb for call in api.calls[asked:] if call.resource in WRITTEN]
        assert later.index("get") < later.index("patch"), "it took the Lease again first"


WRITTEN = {"leases", "nodes"}


async def test_a_promise_to_a_node_made_anew_is_void(double: Kube) -> None:
    api = double.api
    stopped = api.faults.hold(lambda call: call.user != "admin" and call.verb == "patch")
    async with controller(double, identity="a") as first:
        await leader(first)
        await double.node("n1")
        await until(
            lambda: any(c.verb == "patch" and c.user != "admin" for c in api.calls), "a write"
        )
        await double.delete_node("n1")
        await double.node("n0", "10.244.0.0/24")
        await double.node("n1")
        stopped.set()
        found = await served(double, "n0", "n1")
        assert found["n1"] == ["10.244.1.0/24"]


async def test_a_range_that_somebody_else_gave_meanwhile_is_kept(double: Kube) -> None:
    api = double.api
    stopped = api.faults.hold(lambda call: call.user != "admin" and call.verb == "patch")
    async with controller(double) as replica:
        await leader(replica)
        await double.node("n1")
        await until(
            lambda: any(c.verb == "patch" and c.user != "admin" for c in api.calls), "a write"
        )
        patch = {"spec": {"podCIDR": "10.244.9.0/24", "podCIDRs": ["10.244.9.0/24"]}}
        await double.ok("PATCH", f"{NODES}/n1", patch, content_type=MERGE)
        stopped.set()
        await double.node("n2")
        found = await served(double, "n1", "n2")
        assert found == {"n1": ["10.244.9.0/24"], "n2": ["10.244.1.0/24"]}


async def test_a_write_whose_answer_was_lost_is_found_again(double: Kube) -> None:
    api = double.api
    async with controller(double) as replica:
        await leader(replica)
        api.faults.refuse(500, lambda c: c.user != "admin" and c.verb == "patch", times=2)
        await double.node("n1")
        await double.node("n2")
        await served(double, "n1", "n2")


async def test_a_restored_api_server_gives_a_node_its_own_range_again(double: Kube) -> None:
    api = double.api
    async with controller(double) as replica:
        await leader(replica)
        await double.node("n1")
        await until(lambda: replica.status()["nodes"] == 1, "n1 is known")
        backup = api.store.backup()
        before = await served(double, "n1")
        api.store.revision += 1000  # a busy cluster went on after the backup
        await double.node("n2")
        await served(double, "n2")
        await api.stop()
        restored = backup.without_range("n1")
        api.store = restored
        await api.start()
        await double.node("n3")
        found = await served(double, "n1", "n3")
        assert found["n1"] == before["n1"]


async def test_a_thousand_nodes_are_served_in_batches(double: Kube) -> None:
    pools = pools_of(["10.240.0.0/12"], 24)
    for index in range(250):
        await double.api.store.create(
            ("nodes", "", f"n{index}"), {"metadata": {}, "spec": {}, "status": {}}
        )
    async with controller(double, pools):
        await served(double, *(f"n{index}" for index in range(250)))
    leases = [c for c in double.api.calls if c.resource == "leases" and c.verb == "update"]
    promises = [c for c in leases if c.body["metadata"].get("annotations")]
    most = max(len(json.loads(c.body["metadata"]["annotations"][PENDING])) for c in promises)
    assert most == 100
