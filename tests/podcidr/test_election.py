"""Leader election with a clock of our own: when a Lease may be taken, kept, and is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.kubeclock import Busy, KubeClock
from tests.support.kubecluster import Kube
from tests.support.kubeproxy import SwallowingProxy
from udpoverlay.errors import RegistryUnavailable
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.kubeconfig import load_access
from udpoverlay.model.config import KubeConfigSource
from udpoverlay.podcidr.election import (
    PENDING,
    ElectionPeriods,
    Leadership,
    LeadershipLost,
    Promise,
)

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l"
PROMISES = {"n1": Promise("u", ("10.0.0.0/24",))}


class World:
    """Replicas that share one virtual time."""

    def __init__(self, cluster: Kube, hanging: Callable[[], int] = lambda: 0) -> None:
        self.busy = Busy(hanging)
        self.clock = KubeClock(self.busy)
        self._cluster = cluster

    @asynccontextmanager
    async def replica(self, identity: str, url: str = "") -> AsyncIterator[Leadership]:
        """A replica with a client of its own, that reaches the server by `url`."""
        config = self._cluster.kubeconfig(self._cluster.admin_token, f"config-{identity}", url)
        client = KubeClient(load_access(KubeConfigSource(kubeconfig_file=str(config))))
        self.busy.count(client._transport)
        try:
            yield Leadership(
                client,
                namespace="kube-system",
                name="l",
                identity=identity,
                periods=ElectionPeriods(),
                clock=self.clock,
            )
        finally:
            await client.aclose()


def leads(replica: Leadership) -> bool:
    """mypy takes a property that was true once for true for ever."""
    return replica.leads


@asynccontextmanager
async def running(work: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LeadershipLost):
            await task


async def test_the_first_makes_the_lease(kube: Kube) -> None:
    async with World(kube).replica("a") as a:
        assert await a.acquire() == {}
        assert a.leads
        spec = (await kube.ok("GET", LEASE))["spec"]
        assert spec == {
            "holderIdentity": "a",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-03-01T12:00:00.123456Z",
            "renewTime": "2026-03-01T12:00:00.123456Z",
            "leaseTransitions": 0,
        }


async def test_another_takes_it_only_when_it_was_not_renewed_for_its_duration(kube: Kube) -> None:
    world = World(kube)
    clock = world.clock
    async with world.replica("a") as a, world.replica("b") as b:
        await a.acquire()
        async with running(b.acquire()) as taking:
            await clock.run_to(9.0)
            await a.promise({})  # renews too
            await clock.run_to(23.0)
            assert not taking.done()
            await clock.run_to(9.0 + 15.0 + 2 * 2.4)
            assert taking.done()
        spec = (await kube.ok("GET", LEASE))["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 1)
        assert b.leads
        with pytest.raises(LeadershipLost):
            await a.promise(PROMISES)
        assert not a.leads


async def test_a_holder_that_was_overtaken_learns_it_from_its_next_write(kube: Kube) -> None:
    world = World(kube)
    async with world.replica("a") as a:
        await a.acquire()
        lease = await kube.ok("GET", LEASE)
        lease["spec"]["holderIdentity"] = "b"
        await kube.ok("PUT", LEASE, lease)
        with pytest.raises(LeadershipLost, match="held by b"):
            await a.promise(PROMISES)
        assert not a.leads


async def test_promises_go_over_to_the_successor(kube: Kube) -> None:
    world = World(kube)
    async with world.replica("a") as a, world.replica("b") as b:
        await a.acquire()
        await a.promise(PROMISES)
        await a.release()
        assert await b.acquire() == PROMISES
        assert world.clock.seconds == 0.0, "a released Lease is taken at once"


async def test_what_others_keep_in_the_lease_stays(kube: Kube) -> None:
    mark = {"labels": {"a.b/c": "d"}, "annotations": {"e.f/g": "h"}}
    lease = {"metadata": {"name": "l", **mark}, "spec": {}}
    await kube.ok("POST", LEASE.rpartition("/")[0], lease)
    async with World(kube).replica("a") as a:
        await a.acquire()
        await a.promise(PROMISES)
    meta = (await kube.ok("GET", LEASE))["metadata"]
    assert meta["labels"] == mark["labels"]
    assert meta["annotations"].pop(PENDING)
    assert meta["annotations"] == mark["annotations"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "1e999",
        "[" * 5000,
        '{"n2":{"uid":7,"cidrs":[]},"n3":{"cidrs":["10.0.0.0/24"]},"n4":null}',
    ],
    ids=lambda text: text[:20],
)
async def test_unreadable_promises_hide_no_readable_one(kube: Kube, text: str) -> None:
    good = json.dumps({"n1": {"uid": "u", "cidrs": ["10.0.0.0/24"]}})
    some = text.startswith("{") and text.endswith("}")
    annotation = good[:-1] + "," + text[1:] if some else text
    lease = {"metadata": {"name": "l", "annotations": {PENDING: annotation}}, "spec": {}}
    await kube.ok("POST", LEASE.rpartition("/")[0], lease)
    async with World(kube).replica("a") as a:
        assert await a.acquire() == (PROMISES if some else {})


async def test_a_leader_that_cannot_renew_stops_at_its_deadline(double: Kube) -> None:
    world = World(double)
    async with world.replica("a") as a:
        await a.acquire()
        double.api.faults.refuse(503, lambda call: call.resource == "leases", times=100)
        async with running(a.keep()) as keeping:
            await world.clock.run_to(9.999)
            assert leads(a)
            await world.clock.run_to(10.0)
            assert not leads(a)
            with pytest.raises(LeadershipLost, match="not renewed for 10 s"):
                await keeping
        with pytest.raises(LeadershipLost):
            a.check()


async def test_a_renewal_that_is_never_answered_keeps_no_leader_past_its_deadline(
    kube: Kube,
) -> None:
    """The server carries the writes out, and the leader never hears of it."""

    async with SwallowingProxy(kube) as proxy:
        world = World(kube, lambda: proxy.hanging)
        clock = world.clock
        async with world.replica("a", proxy.url) as a, world.replica("b") as b:
            await a.acquire()
            proxy.swallows = lambda method, path: method == "PUT"
            async with running(a.keep()) as keeping, running(b.acquire()) as taking:
                await clock.run_to(9.999)
                assert leads(a)
                assert ("PUT", LEASE, 200) in proxy.swallowed, "the server renewed it"
                await clock.run_to(10.0)
                assert not leads(a)
                with pytest.raises(LeadershipLost):
                    await keeping
                await clock.run_to(15.0)
                assert not taking.done(), "others respect what the server shows"
                while not b.leads:
                    assert clock.seconds < 30.0
                    await clock.run_to(clock.seconds + 0.5)
                assert taking.done()
                assert not a.leads


async def test_a_promise_that_is_never_answered_lets_the_lease_be_renewed(double: Kube) -> None:
    async with SwallowingProxy(double) as proxy:
        world = World(double, lambda: proxy.hanging)
        async with world.replica("a", proxy.url) as a:
            await a.acquire()
            proxy.swallows = lambda method, path: method == "PUT"
            async with running(a.keep()) as keeping:
                promising = asyncio.ensure_future(a.promise(PROMISES))
                await world.clock.run_to(1.0)
                proxy.swallows = lambda method, path: False
                await world.clock.run_to(60.0)
                with pytest.raises(RegistryUnavailable, match="no answer"):
                    await promising
                assert a.leads
                assert not keeping.done()


async def test_the_time_to_act_counts_from_when_the_lease_was_asked_for(double: Kube) -> None:
    answer = double.api.faults.hold(lambda call: call.verb == "create")

    def hanging() -> int:
        asked = any(call.verb == "create" for call in double.api.calls)
        return asked and not answer.is_set()

    world = World(double, hanging)
    async with world.replica("a") as a, running(a.acquire()) as taking:
        await world.clock.run_to(4.0)
        answer.set()
        await taking
        await world.clock.run_to(9.999)
        assert leads(a)
        await world.clock.run_to(10.0)
        assert not leads(a)


async def test_a_write_whose_answer_was_lost_does_not_cost_the_lease(double: Kube) -> None:
    async with World(double).replica("a") as a:
        await a.acquire()
        lease = await double.ok("GET", LEASE)
        lease["spec"]["renewTime"] = "2026-03-01T12:00:09.000000Z"
        await double.ok("PUT", LEASE, lease)  # as if it were ours
        await a.promise(PROMISES)
        assert a.leads


async def test_a_promise_that_may_not_be_written_is_an_error(double: Kube) -> None:
    async with World(double).replica("a") as a:
        await a.acquire()
        double.api.faults.refuse(500, lambda call: call.resource == "leases")
        with pytest.raises(RegistryUnavailable):
            await a.promise(PROMISES)
        assert a.leads


async def test_a_deleted_lease_is_lost(kube: Kube) -> None:
    async with World(kube).replica("a") as a:
        await a.acquire()
        await kube.ok("DELETE", LEASE)
        with pytest.raises(LeadershipLost, match="deleted"):
            await a.promise({})
