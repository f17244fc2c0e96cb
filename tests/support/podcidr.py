"""podCIDR controllers in the test's own loop, and what they gave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from netaddr import IPNetwork

from tests.support.kubeapi.rbac import Rule
from tests.support.kubecluster import NODES, Kube, until
from udpoverlay.clock import SYSTEM_CLOCK, Clock
from udpoverlay.kubernetes.cidr_set import Pool, pools_of
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.kubeconfig import load_access
from udpoverlay.model.config import KubeConfigSource
from udpoverlay.podcidr.controller import PodCidrController
from udpoverlay.podcidr.election import ElectionPeriods, Leadership

CONTROLLER_RULES = (
    Rule(("get", "list", "watch", "patch"), ("nodes",)),
    Rule(("create",), ("leases",), (), ("kube-system",)),
    Rule(("get", "update"), ("leases",), ("podcidr",), ("kube-system",)),
)
PERIODS = ElectionPeriods(duration=1.0, renew_deadline=0.7, retry=0.05)
V4 = pools_of(["10.244.0.0/16"])
DUAL = pools_of(["10.244.0.0/16", "fd00:10::/48"])


async def source(
    cluster: Kube, rules: Sequence[Rule] = CONTROLLER_RULES, url: str = ""
) -> KubeConfigSource:
    token, _ = await cluster.user(rules)
    return KubeConfigSource(kubeconfig_file=str(cluster.kubeconfig(token, f"config-{token}", url)))


@asynccontextmanager
async def controller(
    cluster: Kube,
    pools: Sequence[Pool] = V4,
    *,
    identity: str = "a",
    taints: Sequence[str] = (),
    access: KubeConfigSource | None = None,
    periods: ElectionPeriods = PERIODS,
    clock: Clock = SYSTEM_CLOCK,
) -> AsyncIterator[PodCidrController]:
    client = KubeClient(load_access(access or await source(cluster)))
    leadership = Leadership(
        client,
        namespace="kube-system",
        name="podcidr",
        identity=identity,
        periods=periods,
        clock=clock,
    )
    replica = PodCidrController(client, leadership, pools, taints, clock)
    task = asyncio.ensure_future(replica.run())
    try:
        yield replica
        assert not task.done() or task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await client.aclose()


async def ranges(cluster: Kube) -> dict[str, list[str]]:
    nodes = (await cluster.ok("GET", NODES))["items"]
    return {node["metadata"]["name"]: node["spec"].get("podCIDRs", []) for node in nodes}


async def served(cluster: Kube, *names: str) -> dict[str, list[str]]:
    """Wait until the Nodes `names` have a range; all ranges."""

    async def done() -> bool:
        found = await ranges(cluster)
        return all(found.get(name) for name in names)

    await until(done, f"{names} have ranges")
    found = await ranges(cluster)
    assert_disjoint(found)
    return found


def assert_disjoint(found: dict[str, list[str]]) -> None:
    networks = [IPNetwork(cidr) for cidrs in found.values() for cidr in cidrs]
    for index, one in enumerate(networks):
        for other in networks[index + 1 :]:
            assert one not in other, found
            assert other not in one, found


async def leader(replica: PodCidrController) -> None:
    await until(lambda: replica.status()["nodes"] is not None, "it leads")
