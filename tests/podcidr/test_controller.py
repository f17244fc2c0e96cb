"""The podCIDR controller against the API double and a real kube-apiserver, also as processes."""

from __future__ import annotations

import pytest

from tests.support.kubeapi.rbac import Rule
from tests.support.kubecluster import NODES, Cluster, Kube, until
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


def test_every_node_gets_a_range_of_its_own(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        async with controller(cluster):
            await cluster.node("n2")
            await cluster.node("n3")
            found = await served(cluster, "n1", "n2", "n3")
        assert sorted(cidr for cidrs in found.values() for cidr in cidrs) == [
            "10.244.0.0/24",
            "10.244.1.0/24",
            "10.244.2.0/24",
        ]
        assert (await cluster.get_node("n1"))["spec"]["podCIDR"] == found["n1"][0]

    kube(scenario)


def test_two_families_give_two_ranges_in_the_order_of_the_flag(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        async with controller(cluster, DUAL):
            found = await served(cluster, "n1")
        assert found == {"n1": ["10.244.0.0/24", "fd00:10::/64"]}

    kube(scenario)


def test_what_nodes_have_is_adopted(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("a", "10.244.0.0/24")
        await cluster.node("b", "10.244.1.128/25")
        await cluster.node("c", "10.99.0.0/24")
        async with controller(cluster) as replica:
            await cluster.node("d")
            found = await served(cluster, "d")
            assert found["d"] == ["10.244.2.0/24"]
            assert replica.status()["findings"] == [
                "Node c: 10.99.0.0/24 lies outside --cluster-cidr, it is kept"
            ]

    kube(scenario)


def test_a_deleted_node_frees_its_range_for_one_that_got_none(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with controller(cluster, pools_of(["10.9.0.0/29"], 30)) as replica:
            for name in ("n1", "n2"):
                await cluster.node(name)
            found = await served(cluster, "n1", "n2")
            await cluster.node("n3")
            await until(lambda: replica.status()["starved"] == ["n3"], "n3 gets nothing")
            await cluster.delete_node("n1")
            again = await served(cluster, "n3")
            assert again["n3"] == found["n1"]
            assert replica.status()["starved"] == []

    kube(scenario)


def test_a_restart_changes_nothing_and_goes_on(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        async with controller(cluster, identity="a"):
            before = await served(cluster, "n1")
        lease = await cluster.ok("GET", LEASE)
        assert not lease["spec"].get("holderIdentity")
        await cluster.node("n2")
        async with controller(cluster, identity="b"):
            after = await served(cluster, "n1", "n2")
        assert after["n1"] == before["n1"]

    kube(scenario)


def test_taints_are_removed_once_the_node_has_its_range(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        no_network = {"key": "example.com/no-network", "effect": "NoSchedule"}
        other = {"key": "example.com/other", "effect": "NoSchedule"}
        await cluster.node("n1", taints=[no_network, other])
        await cluster.node("n2", "10.244.7.0/24", taints=[no_network])
        full = pools_of(["10.9.0.0/30"], 30)
        async with controller(cluster, taints=["example.com/no-network"]):

            async def clean() -> bool:
                items = (await cluster.ok("GET", NODES))["items"]
                keys = [t["key"] for node in items for t in node["spec"].get("taints", [])]
                return "example.com/no-network" not in keys and "example.com/other" in keys

            await until(clean, "taints are gone")
            assert (await ranges(cluster))["n1"] == ["10.244.0.0/24"]
        for name in ("n1", "n2"):
            await cluster.delete_node(name)
        await cluster.node("n3", "10.9.0.0/30")
        async with controller(cluster, full, identity="b", taints=[no_network["key"]]) as replica:
            await leader(replica)
            await cluster.node("n4", taints=[no_network])
            await until(lambda: replica.status()["starved"] == ["n4"], "n4 gets nothing")
            node = await cluster.get_node("n4")
            assert no_network in node["spec"]["taints"]

    kube(scenario)


def test_only_one_of_two_replicas_acts(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with (
            controller(cluster, identity="a") as a,
            controller(cluster, identity="b") as b,
        ):
            await until(lambda: a.status()["leader"] or b.status()["leader"], "one leads")
            for index in range(5):
                await cluster.node(f"n{index}")
            await served(cluster, *(f"n{index}" for index in range(5)))
            await until(lambda: a.status()["leader"] != b.status()["leader"], "one leads alone")
            await until(lambda: a.healthy() and b.healthy(), "both are healthy")

    kube(scenario)


def test_missing_rights_are_named_and_waited_for(
    kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        rules = (
            Rule(("get", "list", "watch"), ("nodes",)),
            *CONTROLLER_RULES[1:],
        )
        token, name = await cluster.user(rules)
        access = KubeConfigSource(kubeconfig_file=str(cluster.kubeconfig(token)))
        async with controller(cluster, access=access):

            def said() -> bool:
                whys = [getattr(r, "fields", {}).get("why", "") for r in caplog.records]
                return any(
                    f"{name} may not: patch nodes" in why and "kubectl create clusterrole" in why
                    for why in whys
                )

            with caplog.at_level("INFO"):
                await until(said, "the right is named")
            await cluster.grant(name, CONTROLLER_RULES)
            await served(cluster, "n1")

    kube(scenario)


def test_a_restart_of_the_api_server_is_survived(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with controller(cluster):
            await cluster.node("n1")
            await served(cluster, "n1")
            await cluster.restart()
            await cluster.node("n2")
            await served(cluster, "n1", "n2")

    kube(scenario)
