"""The podCIDR controller against the API double and a real kube-apiserver, also as processes."""

from __future__ import annotations

import pytest

from tests.support.kubeapi.rbac import Rule
from tests.support.kubecluster import NODES, Kube, until
from tests.support.podcidr import (
    CONTROLLER_RULES,
    DUAL,
    controller,
    leader,
    ranges,
    served,
)
from udpoverlay.kubernetes.cidr_set import pools_of
from udpoverlay.model.config import KubeConfigSource

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/podcidr"


async def test_every_node_gets_a_range_of_its_own(kube: Kube) -> None:
    await kube.node("n1")
    async with controller(kube):
        await kube.node("n2")
        await kube.node("n3")
        found = await served(kube, "n1", "n2", "n3")
    assert sorted(cidr for cidrs in found.values() for cidr in cidrs) == [
        "10.244.0.0/24",
        "10.244.1.0/24",
        "10.244.2.0/24",
    ]
    assert (await kube.get_node("n1"))["spec"]["podCIDR"] == found["n1"][0]


async def test_two_families_give_two_ranges_in_the_order_of_the_flag(kube: Kube) -> None:
    await kube.node("n1")
    async with controller(kube, DUAL):
        found = await served(kube, "n1")
    assert found == {"n1": ["10.244.0.0/24", "fd00:10::/64"]}


async def test_what_nodes_have_is_adopted(kube: Kube) -> None:
    await kube.node("a", "10.244.0.0/24")
    await kube.node("b", "10.244.1.128/25")
    await kube.node("c", "10.99.0.0/24")
    async with controller(kube) as replica:
        await kube.node("d")
        found = await served(kube, "d")
        assert found["d"] == ["10.244.2.0/24"]
        assert replica.status()["findings"] == [
            "Node c: 10.99.0.0/24 lies outside --cluster-cidr, it is kept"
        ]


async def test_a_deleted_node_frees_its_range_for_one_that_got_none(kube: Kube) -> None:
    async with controller(kube, pools_of(["10.9.0.0/29"], 30)) as replica:
        for name in ("n1", "n2"):
            await kube.node(name)
        found = await served(kube, "n1", "n2")
        await kube.node("n3")
        await until(lambda: replica.status()["starved"] == ["n3"], "n3 gets nothing")
        await kube.delete_node("n1")
        again = await served(kube, "n3")
        assert again["n3"] == found["n1"]
        assert replica.status()["starved"] == []


async def test_a_restart_changes_nothing_and_goes_on(kube: Kube) -> None:
    await kube.node("n1")
    async with controller(kube, identity="a"):
        before = await served(kube, "n1")
    lease = await kube.ok("GET", LEASE)
    assert not lease["spec"].get("holderIdentity")
    await kube.node("n2")
    async with controller(kube, identity="b"):
        after = await served(kube, "n1", "n2")
    assert after["n1"] == before["n1"]


async def test_taints_are_removed_once_the_node_has_its_range(kube: Kube) -> None:
    no_network = {"key": "example.com/no-network", "effect": "NoSchedule"}
    other = {"key": "example.com/other", "effect": "NoSchedule"}
    await kube.node("n1", taints=[no_network, other])
    await kube.node("n2", "10.244.7.0/24", taints=[no_network])
    full = pools_of(["10.9.0.0/30"], 30)
    async with controller(kube, taints=["example.com/no-network"]):

        async def clean() -> bool:
            items = (await kube.ok("GET", NODES))["items"]
            keys = [t["key"] for node in items for t in node["spec"].get("taints", [])]
            return "example.com/no-network" not in keys and "example.com/other" in keys

        await until(clean, "taints are gone")
        assert (await ranges(kube))["n1"] == ["10.244.0.0/24"]
    for name in ("n1", "n2"):
        await kube.delete_node(name)
    await kube.node("n3", "10.9.0.0/30")
    async with controller(kube, full, identity="b", taints=[no_network["key"]]) as replica:
        await leader(replica)
        await kube.node("n4", taints=[no_network])
        await until(lambda: replica.status()["starved"] == ["n4"], "n4 gets nothing")
        node = await kube.get_node("n4")
        assert no_network in node["spec"]["taints"]


async def test_only_one_of_two_replicas_acts(kube: Kube) -> None:
    async with (
        controller(kube, identity="a") as a,
        controller(kube, identity="b") as b,
    ):
        await until(lambda: a.status()["leader"] or b.status()["leader"], "one leads")
        for index in range(5):
            await kube.node(f"n{index}")
        await served(kube, *(f"n{index}" for index in range(5)))
        await until(lambda: a.status()["leader"] != b.status()["leader"], "one leads alone")
        await until(lambda: a.healthy() and b.healthy(), "both are healthy")


async def test_missing_rights_are_named_and_waited_for(
    kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    await kube.node("n1")
    rules = (
        Rule(("get", "list", "watch"), ("nodes",)),
        *CONTROLLER_RULES[1:],
    )
    token, name = await kube.user(rules)
    access = KubeConfigSource(kubeconfig_file=str(kube.kubeconfig(token)))
    async with controller(kube, access=access):

        def said() -> bool:
            whys = [getattr(r, "fields", {}).get("why", "") for r in caplog.records]
            return any(
                f"{name} may not: patch nodes" in why and "kubectl create clusterrole" in why
                for why in whys
            )

        with caplog.at_level("INFO"):
            await until(said, "the right is named")
        await kube.grant(name, CONTROLLER_RULES)
        await served(kube, "n1")


async def test_a_restart_of_the_api_server_is_survived(kube: Kube) -> None:
    async with controller(kube):
        await kube.node("n1")
        await served(kube, "n1")
        await kube.restart()
        await kube.node("n2")
        await served(kube, "n1", "n2")
