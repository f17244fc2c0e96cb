"""KubeRegistry opens and publishes: what is written to our own Node, and what it needs to open."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from netaddr import IPAddress

from tests.support.kubeapi.rbac import Rule
from tests.support.kubecluster import (
    NODES,
    STRATEGIC,
    Kube,
    flannel_annotations,
    udp_annotations,
)
from tests.support.kuberegistry import (
    ATTRS,
    QUICK,
    UDP,
    acquiring,
    opened,
    subnet,
    waits,
    watching,
)
from udpoverlay.clock import SystemClock
from udpoverlay.errors import OperatorError, RegistryUnavailable
from udpoverlay.model.subnetenv import format_subnet_env
from udpoverlay.registry.base import RenewingRegistry
from udpoverlay.registry.kubernetes.registry import KubeTiming, open_kube

# ---------------------------------------------------------------------- our own node


async def test_a_udp_node_carries_exactly_flannels_annotations(kube: Kube) -> None:
    await kube.node("n1", "10.244.1.0/24")
    async with opened(await kube.source("n1")) as registry:
        lease = await registry.acquire(ATTRS, None)
        assert lease.subnet == subnet("10.244.1.0/24")
        assert lease.attrs == ATTRS
        assert lease.expires_at is None
        assert not isinstance(registry, RenewingRegistry)
    assert flannel_annotations(await kube.get_node("n1")) == UDP


@pytest.mark.parametrize(
    "cidrs", [("10.244.1.0/24", "fd00:10::1:0:0:0/80"), ("fd00:10::1:0:0:0/80", "10.244.1.0/24")]
)
async def test_a_dual_stack_nodes_subnet_file_has_both_families(
    kube: Kube, cidrs: tuple[str, str]
) -> None:
    """In either order of podCIDRs, though the udp backend carries IPv4 alone, as flanneld does."""
    await kube.node("n1", *cidrs)
    conf = kube.net_conf(EnableIPv6=True, IPv6Network="fd00:10::/48")
    source = await kube.source("n1", net_config_path=str(conf))
    async with opened(source) as registry:
        lease = await registry.acquire(ATTRS, None)
        netconf = await registry.network_config()
    assert format_subnet_env(netconf, lease.subnet, 1472, True) == (
        "FLANNEL_NETWORK=10.244.0.0/16\n"
        "FLANNEL_SUBNET=10.244.1.1/24\n"
        "FLANNEL_IPV6_NETWORK=fd00:10::/48\n"
        "FLANNEL_IPV6_SUBNET=fd00:10::1:0:0:1/80\n"
        "FLANNEL_MTU=1472\n"
        "FLANNEL_IPMASQ=true\n"
    )


async def test_the_network_condition_is_exactly_flannels(kube: Kube) -> None:
    await kube.node("n1", "10.244.1.0/24")
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    await kube.ok("PATCH", f"{NODES}/n1/status", ready, content_type=STRATEGIC)
    async with opened(await kube.source("n1")) as registry:
        await registry.complete(await registry.acquire(ATTRS, None))
    conditions = (await kube.get_node("n1"))["status"]["conditions"]
    assert [c for c in conditions if c["type"] == "NetworkUnavailable"] == [
        {
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "FlannelIsUp",
            "message": "Flannel is running on this node",
            "lastHeartbeatTime": "2026-03-01T12:30:59Z",
            "lastTransitionTime": "2026-03-01T12:30:59Z",
        }
    ]
    assert len(conditions) == 2


async def test_the_condition_is_left_alone_when_told_so(kube: Kube) -> None:
    await kube.node("n1", "10.244.1.0/24")
    source = await kube.source("n1", set_node_network_unavailable=False)
    async with opened(source) as registry:
        await registry.complete(await registry.acquire(ATTRS, None))
    assert "conditions" not in (await kube.get_node("n1"))["status"]


async def test_both_writes_are_strategic_patches_of_the_status(double: Kube) -> None:
    await double.node("n1", "10.244.1.0/24")
    async with opened(await double.source("n1")) as registry:
        await registry.complete(await registry.acquire(ATTRS, None))
    patches = [call for call in double.api.calls if call.verb == "patch"]
    assert {(c.resource, c.name, c.content_type) for c in patches} == {
        ("nodes/status", "n1", STRATEGIC)
    }
    assert patches[0].body == {"metadata": {"annotations": udp_annotations("192.0.2.1")}}


async def test_a_restart_that_changes_nothing_writes_nothing(double: Kube) -> None:
    await double.udp_node("n1", "10.244.1.0/24", "192.0.2.1")
    async with opened(await double.source("n1")) as registry:
        await registry.acquire(ATTRS, None)
    assert not [call for call in double.api.calls if call.verb == "patch"]


async def test_an_overwrite_annotation_is_published_instead_of_our_address(kube: Kube) -> None:
    await kube.node("n1", "10.244.1.0/24")
    await kube.annotate("n1", public_ip_overwrite="198.51.100.7")
    async with opened(await kube.source("n1")) as registry:
        lease = await registry.acquire(ATTRS, None)
        assert lease.attrs.public_ip == IPAddress("198.51.100.7")
    said = flannel_annotations(await kube.get_node("n1"))
    assert said == {
        **UDP,
        "public-ip": "198.51.100.7",
        "public-ip-overwrite": "198.51.100.7",
    }


async def test_stored_public_addresses_replace_the_flags(kube: Kube) -> None:
    await kube.node("n1", "10.244.1.0/24")
    async with opened(await kube.source("n1")) as registry:
        assert await registry.stored_public_ips() == ("", "")
        await kube.annotate("n1", node_public_ip="198.51.100.9", node_public_ipv6="fd00::9")
        assert await registry.stored_public_ips() == ("198.51.100.9", "fd00::9")


async def test_manifests_without_get_nodes_still_work(kube: Kube) -> None:
    await kube.node("n1", "10.244.1.0/24")
    rules = (Rule(("list", "watch"), ("nodes",)), Rule(("patch",), ("nodes/status",)))
    token, _ = await kube.user(rules)
    async with opened(await kube.source("n1", token)) as registry:
        assert await registry.stored_public_ips() == ("", "")
        lease = await registry.acquire(ATTRS, None)
        await registry.complete(lease)
    node = await kube.get_node("n1")
    assert flannel_annotations(node) == UDP
    assert node["status"]["conditions"][0]["reason"] == "FlannelIsUp"


async def test_a_prefix_of_ones_own_is_used_everywhere(kube: Kube) -> None:
    said = {key.replace("flannel.alpha.coreos.com/", "example.com/net-"): value
            for key, value in udp_annotations("192.0.2.2").items()}  # fmt: skip
    await kube.node("n1", "10.244.1.0/24")
    await kube.node("n2", "10.244.2.0/24", annotations=said)
    await kube.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
    source = await kube.source("n1", annotation_prefix="example.com/net")
    async with opened(source) as registry, watching(registry) as told:
        await registry.acquire(ATTRS, None)
        await told.become({"10.244.1.0/24": "192.0.2.1", "10.244.2.0/24": "192.0.2.2"})
    node = await kube.get_node("n1")
    assert node["metadata"]["annotations"]["example.com/net-public-ip"] == "192.0.2.1"
    assert flannel_annotations(node) == {}


# ---------------------------------------------------------------------- opening


async def test_the_nodes_name_is_looked_up_through_the_pod(kube: Kube) -> None:
    await kube.node("n7", "10.244.7.0/24")
    spec = {"nodeName": "n7", "containers": [{"name": "c", "image": "i"}]}
    pod = {"metadata": {"name": "flannel-x"}, "spec": spec}
    await kube.ok("POST", "/api/v1/namespaces/default/pods", pod)
    source = await kube.source("", pod_name="flannel-x", pod_namespace="default")
    async with opened(source) as registry:
        assert registry.node_name == "n7"
        assert (await registry.acquire(ATTRS, None)).subnet == subnet("10.244.7.0/24")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"pod_name": "p"}, "POD_NAMESPACE"),
        ({"pod_name": "none", "pod_namespace": "default"}, "there is no Pod default/none"),
        ({"node_name": "n1", "annotation_prefix": "x"}, "--kube-annotation-prefix"),
        ({"node_name": "n1", "net_config_path": "/nowhere"}, "--net-config-path /nowhere"),
        ({"node_name": "n1", "kubeconfig_file": "/nowhere"}, "kubeconfig /nowhere"),
    ],
)
async def test_what_no_waiting_mends_is_an_operators_error(
    double: Kube, change: dict[str, Any], names: str
) -> None:
    source = replace(await double.source(""), **change)
    with pytest.raises(OperatorError, match=names):
        await open_kube(source, timing=QUICK)


async def test_a_broken_net_conf_names_the_file_and_the_key(double: Kube) -> None:
    path = double.net_conf(Network="10.244.0.0")
    source = await double.source("n1", net_config_path=str(path))
    with pytest.raises(OperatorError, match=r"net-conf\.json: .*Network"):
        await open_kube(source, timing=QUICK)


class SlowClock(SystemClock):
    """Time that passes only while a task sleeps."""

    def __init__(self) -> None:
        self.at = 1000.0
        self._over = asyncio.Event()

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        if seconds > 300:
            await self._over.wait()  # the deadline itself: all others get their turns first
        else:
            self.at += seconds
            if self.at >= 1600.0:
                self._over.set()
            await asyncio.sleep(0)


@pytest.mark.parametrize("go_on", [False, True])
async def test_the_first_sync_may_take_ten_minutes(double: Kube, go_on: bool) -> None:
    source = await double.source("n1", continue_when_cache_not_ready=go_on)
    await double.api.stop()
    clock = SlowClock()
    opening = open_kube(source, clock=clock)
    if not go_on:
        with pytest.raises(RegistryUnavailable, match=r"within 600 s: .*cannot be reached"):
            await opening
    else:
        registry = await opening
        await registry.aclose()
    assert clock.at >= 1600.0


async def test_a_daemon_that_went_on_without_a_cache_gets_its_lease_later(double: Kube) -> None:
    await double.node("n1", "10.244.1.0/24")
    source = await double.source("n1", continue_when_cache_not_ready=True)
    held = double.api.faults.hold(lambda call: call.verb == "list")
    registry = await open_kube(source, timing=KubeTiming(sync=0.05, poll=0.02))
    try:
        async with acquiring(registry) as task:
            await waits(registry, "not complete yet")
            held.set()
            await task
    finally:
        await registry.aclose()
