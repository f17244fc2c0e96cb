"""Leader election with a clock of our own: when a Lease may be taken, kept, and is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone

import pytest

from tests.support.kubecluster import Cluster, Kube
from udpoverlay.errors import RegistryUnavailable
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.kubeconfig import load_access
from udpoverlay.model.config import KubeConfigSource
from udpoverlay.podcidr.election import (
    PENDING,
    ElectionPeriods,
    Leadership,
    LeadershipLost,
)
from udpoverlay.registry.kubernetes.own_node import Times

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l"
START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=timezone.utc)


class Clock:
    """Both clocks; sleeping makes them go on, at most to `until`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.until = float("inf")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        if self.seconds + seconds > self.until:
            raise TimeoutError
        self.seconds += seconds

    def times(self) -> Times:
        return Times(
            self.sleep, lambda: self.seconds, lambda: START + timedelta(seconds=self.seconds)
        )


@asynccontextmanager
async def replica(cluster: Cluster, identity: str, clock: Clock) -> AsyncIterator[Leadership]:
    """A replica with a client of its own."""
    config = cluster.kubeconfig(cluster.admin_token)
    client = KubeClient(load_access(KubeConfigSource(kubeconfig_file=str(config))))
    try:
        yield Leadership(
            client,
            namespace="kube-system",
            name="l",
            identity=identity,
            periods=ElectionPeriods(),
            times=clock.times(),
        )
    finally:
        await client.aclose()


def test_the_first_makes_the_lease(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with replica(cluster, "a", Clock()) as a:
            assert await a.acquire() == {}
            spec = (await cluster.ok("GET", LEASE))["spec"]
            assert spec == {
                "holderIdentity": "a",
                "leaseDurationSeconds": 15,
                "acquireTime": "2026-03-01T12:00:00.123456Z",
                "renewTime": "2026-03-01T12:00:00.123456Z",
                "leaseTransitions": 0,
            }

    kube(scenario)


def test_another_takes_it_only_when_it_was_not_renewed_for_its_duration(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        clock = Clock()
        async with replica(cluster, "a", clock) as a, replica(cluster, "b", clock) as b:
            await a.acquire()
            clock.until = 14.0
            with pytest.raises(TimeoutError):
                await b.acquire()
            await a.promise({})  # renews too
            clock.until = clock.seconds + 14.0
            with pytest.raises(TimeoutError):
                await b.acquire()
            clock.until = clock.seconds + 5.0
            await b.acquire()
            spec = (await cluster.ok("GET", LEASE))["spec"]
            assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 1)
            with pytest.raises(LeadershipLost, match="held by b"):
                await a.promise({"n": 1})
            assert not a.leads

    kube(scenario)


def test_promises_go_over_to_the_successor(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        clock = Clock()
        async with replica(cluster, "a", clock) as a, replica(cluster, "b", clock) as b:
            await a.acquire()
            await a.promise({"n1": {"uid": "u", "cidrs": ["10.0.0.0/24"]}})
            await a.release()
            assert await b.acquire() == {"n1": {"uid": "u", "cidrs": ["10.0.0.0/24"]}}
            assert clock.seconds == 0.0, "a released Lease is taken at once"

    kube(scenario)


def test_unreadable_promises_are_none(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        lease = {"metadata": {"name": "l", "annotations": {PENDING: "{"}}, "spec": {}}
        await cluster.ok("POST", LEASE.rpartition("/")[0], lease)
        async with replica(cluster, "a", Clock()) as a:
            assert await a.acquire() == {}

    kube(scenario)


def test_a_leader_that_cannot_renew_stops_before_others_may_start(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        clock = Clock()
        async with replica(cluster, "a", clock) as a:
            await a.acquire()
            cluster.api.faults.refuse(503, lambda call: call.resource == "leases", times=100)
            with pytest.raises(LeadershipLost, match="not renewed for 10 s"):
                await a.keep()
            assert clock.seconds == 10.0
            assert not a.leads

    double(scenario)


def test_a_write_whose_answer_was_lost_does_not_cost_the_lease(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with replica(cluster, "a", Clock()) as a:
            await a.acquire()
            lease = await cluster.ok("GET", LEASE)
            lease["spec"]["renewTime"] = "2026-03-01T12:00:09.000000Z"
            await cluster.ok("PUT", LEASE, lease)  # as if it were ours
            await a.promise({"n": 1})
            assert a.leads

    double(scenario)


def test_a_promise_that_may_not_be_written_is_an_error(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with replica(cluster, "a", Clock()) as a:
            await a.acquire()
            cluster.api.faults.refuse(500, lambda call: call.resource == "leases")
            with pytest.raises(RegistryUnavailable):
                await a.promise({"n": 1})
            assert a.leads

    double(scenario)


def test_a_deleted_lease_is_lost(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with replica(cluster, "a", Clock()) as a:
            await a.acquire()
            await cluster.ok("DELETE", LEASE)
            with pytest.raises(LeadershipLost, match="deleted"):
                await a.promise({})

    kube(scenario)
