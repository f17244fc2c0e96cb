"""What KubeRegistry waits for, with the cause and the command that fixes it."""

from __future__ import annotations

import pytest

from tests.support.kubeapi.rbac import Rule
from tests.support.kubecluster import (
    MERGE,
    NODES,
    Kube,
    flannel_annotations,
)
from tests.support.kuberegistry import (
    ATTRS,
    acquiring,
    opened,
    subnet,
    waits,
)
from udpoverlay.errors import OperatorError

# ---------------------------------------------------------------------- what is waited for


async def test_a_pod_cidr_that_comes_later_is_waited_for(kube: Kube) -> None:
    await kube.node("n1")
    async with opened(await kube.source("n1")) as registry, acquiring(registry) as task:
        await waits(
            registry,
            "nothing hands them out",
            "--allocate-node-cidrs=true --cluster-cidr=10.244.0.0/16",
            "kubectl apply -f deploy/kubernetes/podcidr-controller.yaml",
        )
        assert flannel_annotations(await kube.get_node("n1")) == {}
        patch = {"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}}
        await kube.ok("PATCH", f"{NODES}/n1", patch, content_type=MERGE)
        assert (await task).subnet == subnet("10.244.1.0/24")
        assert registry.waiting == ""


async def test_a_node_that_registers_later_is_waited_for(kube: Kube) -> None:
    async with opened(await kube.source("n1")) as registry, acquiring(registry) as task:
        await waits(registry, "Node n1 is not in the cluster", "NODE_NAME")
        await kube.node("n1", "10.244.1.0/24")
        await task


async def test_others_have_a_pod_cidr_and_we_have_not(kube: Kube) -> None:
    await kube.node("n1")
    await kube.node("n2", "10.244.0.0/24")
    async with opened(await kube.source("n1")) as registry, acquiring(registry):
        await waits(registry, "1 of 2 Nodes have one", "kubectl describe node n1")
        assert (
            """kubectl patch node n1 -p '{"spec":{"podCIDR":"10.244.1.0/24","""
            """"podCIDRs":["10.244.1.0/24"]}}'"""
        ) in registry.waiting


async def test_a_range_that_is_used_up_is_named(kube: Kube) -> None:
    net_conf = kube.net_conf(Network="10.244.0.0/23")
    await kube.node("n1")
    await kube.node("n2", "10.244.0.0/24")
    await kube.node("n3", "10.244.1.0/24")
    source = await kube.source("n1", net_config_path=str(net_conf))
    async with opened(source) as registry, acquiring(registry):
        await waits(registry, "all ranges of 10.244.0.0/23 are held", "kubectl delete node")


async def test_a_missing_right_is_named_with_the_commands_that_grant_it(kube: Kube) -> None:
    await kube.node("n1", "10.244.1.0/24")
    token, name = await kube.user((Rule(("list", "watch"), ("nodes",)),))
    async with (
        opened(await kube.source("n1", token)) as registry,
        acquiring(registry) as task,
    ):
        await waits(
            registry,
            f"{name} may not: get nodes, patch nodes/status",
            "kubectl create clusterrole udpoverlay-nodes-status --verb=patch "
            "--resource=nodes/status && kubectl create clusterrolebinding "
            f"udpoverlay-nodes-status --clusterrole=udpoverlay-nodes-status --user={name}",
        )
        rules = (Rule(("list", "watch"), ("nodes",)), Rule(("patch",), ("nodes/status",)))
        await kube.grant(name, rules)
        await task


async def test_an_api_server_that_is_away_is_waited_for(double: Kube) -> None:
    await double.node("n1", "10.244.1.0/24")
    async with opened(await double.source("n1")) as registry:
        await double.api.stop()
        async with acquiring(registry) as task:
            await waits(registry, "cannot be reached")
            await double.api.start()
            await task


async def test_a_wrong_overwrite_annotation_is_waited_for(kube: Kube) -> None:
    await kube.node("n1", "10.244.1.0/24")
    await kube.annotate("n1", public_ip_overwrite="gateway")
    async with opened(await kube.source("n1")) as registry, acquiring(registry) as task:
        await waits(registry, "'gateway'", "kubectl annotate node n1 --overwrite")
        await kube.annotate("n1", public_ip_overwrite="198.51.100.7")
        await task


async def test_a_pod_cidr_outside_the_network_cannot_be_waited_out(kube: Kube) -> None:
    await kube.node("n1", "10.99.1.0/24")
    async with opened(await kube.source("n1")) as registry:
        with pytest.raises(OperatorError, match=r"10\.99\.1\.0/24 of Node n1 is not part of"):
            await registry.acquire(ATTRS, None)
    assert flannel_annotations(await kube.get_node("n1")) == {}


async def test_udp_without_ipv4_is_an_operators_error(kube: Kube) -> None:
    conf = kube.net_conf(EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00::/48")
    await kube.node("n1", "10.244.1.0/24")
    async with opened(await kube.source("n1", net_config_path=str(conf))) as registry:
        with pytest.raises(OperatorError, match="EnableIPv4"):
            await registry.acquire(ATTRS, None)
