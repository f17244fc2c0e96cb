"""KubeRegistry against the API double and a real kube-apiserver: what is written, read and told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from netaddr import IPAddress, IPNetwork

from tests.support.kubeapi.rbac import Rule
from tests.support.kubecluster import (
    MERGE,
    NODES,
    STRATEGIC,
    Cluster,
    Kube,
    flannel_annotations,
    udp_annotations,
    until,
)
from udpoverlay.errors import OperatorError, RegistryUnavailable
from udpoverlay.model.config import KubeConfigSource
from udpoverlay.model.events import Added, Event, Removed, Snapshot
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.registry.kube import KubeRegistry, KubeTiming, open_kube

QUICK = KubeTiming(sync=30.0, poll=0.02)
ATTRS = LeaseAttrs(IPAddress("192.0.2.1"))
UDP = {
    "backend-data": "null",
    "backend-type": "",
    "kube-subnet-manager": "true",
    "public-ip": "192.0.2.1",
}
NOW = datetime(2026, 3, 1, 12, 30, 59, 999999, tzinfo=timezone.utc)


def subnet(text: str) -> Subnet:
    return Subnet(IPNetwork(text))


@asynccontextmanager
async def opened(source: KubeConfigSource, **options: Any) -> AsyncIterator[KubeRegistry]:
    registry = await open_kube(source, timing=QUICK, now=lambda: NOW, **options)
    try:
        yield registry
    finally:
        await registry.aclose()


class Told:
    """Reads a watch in the background; `leases` is what a follower knows now."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self.events: list[Event] = []
        self.leases: dict[str, str] = {}
        self._task = asyncio.ensure_future(self._read(events))

    async def _read(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            self.events.append(event)
            if isinstance(event, Snapshot):
                self.leases = {str(x.subnet): str(x.attrs.public_ip) for x in event.leases}
            elif isinstance(event, Added):
                self.leases[str(event.lease.subnet)] = str(event.lease.attrs.public_ip)
            else:
                self.leases.pop(str(event.subnet), None)

    async def become(self, leases: dict[str, str]) -> None:
        await until(lambda: self._task.done() or self.leases == leases, f"{leases}")
        if self._task.done():
            self._task.result()

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@asynccontextmanager
async def watching(registry: KubeRegistry) -> AsyncIterator[Told]:
    told = Told(registry.watch())
    try:
        yield told
    finally:
        await told.close()


# ---------------------------------------------------------------------- our own node


def test_a_udp_node_carries_exactly_flannels_annotations(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        async with opened(await cluster.source("n1")) as registry:
            lease = await registry.acquire(ATTRS, None)
            assert lease.subnet == subnet("10.244.1.0/24")
            assert lease.attrs == ATTRS
            assert lease.expires_at is None
            assert not registry.renews()
            assert await registry.renew(lease) == lease
        assert flannel_annotations(await cluster.get_node("n1")) == UDP

    kube(scenario)


def test_the_network_condition_is_exactly_flannels(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        await cluster.ok("PATCH", f"{NODES}/n1/status", ready, content_type=STRATEGIC)
        async with opened(await cluster.source("n1")) as registry:
            await registry.complete(await registry.acquire(ATTRS, None))
        conditions = (await cluster.get_node("n1"))["status"]["conditions"]
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

    kube(scenario)


def test_the_condition_is_left_alone_when_told_so(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        source = await cluster.source("n1", set_node_network_unavailable=False)
        async with opened(source) as registry:
            await registry.complete(await registry.acquire(ATTRS, None))
        assert "conditions" not in (await cluster.get_node("n1"))["status"]

    kube(scenario)


def test_both_writes_are_strategic_patches_of_the_status(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        async with opened(await cluster.source("n1")) as registry:
            await registry.complete(await registry.acquire(ATTRS, None))
        patches = [call for call in cluster.api.calls if call.verb == "patch"]
        assert {(c.resource, c.name, c.content_type) for c in patches} == {
            ("nodes/status", "n1", STRATEGIC)
        }
        assert patches[0].body == {"metadata": {"annotations": udp_annotations("192.0.2.1")}}

    double(scenario)


def test_a_restart_that_changes_nothing_writes_nothing(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.udp_node("n1", "10.244.1.0/24", "192.0.2.1")
        async with opened(await cluster.source("n1")) as registry:
            await registry.acquire(ATTRS, None)
        assert not [call for call in cluster.api.calls if call.verb == "patch"]

    double(scenario)


def test_an_overwrite_annotation_is_published_instead_of_our_address(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        await cluster.annotate("n1", public_ip_overwrite="198.51.100.7")
        async with opened(await cluster.source("n1")) as registry:
            lease = await registry.acquire(ATTRS, None)
            assert lease.attrs.public_ip == IPAddress("198.51.100.7")
        said = flannel_annotations(await cluster.get_node("n1"))
        assert said == {
            **UDP,
            "public-ip": "198.51.100.7",
            "public-ip-overwrite": "198.51.100.7",
        }

    kube(scenario)


def test_stored_public_addresses_replace_the_flags(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        async with opened(await cluster.source("n1")) as registry:
            assert await registry.stored_public_ips() == ("", "")
            await cluster.annotate("n1", node_public_ip="198.51.100.9", node_public_ipv6="fd00::9")
            assert await registry.stored_public_ips() == ("198.51.100.9", "fd00::9")

    kube(scenario)


def test_manifests_without_get_nodes_still_work(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        rules = (Rule(("list", "watch"), ("nodes",)), Rule(("patch",), ("nodes/status",)))
        token, _ = await cluster.user(rules)
        async with opened(await cluster.source("n1", token)) as registry:
            assert await registry.stored_public_ips() == ("", "")
            lease = await registry.acquire(ATTRS, None)
            await registry.complete(lease)
        node = await cluster.get_node("n1")
        assert flannel_annotations(node) == UDP
        assert node["status"]["conditions"][0]["reason"] == "FlannelIsUp"

    kube(scenario)


def test_a_prefix_of_ones_own_is_used_everywhere(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        said = {key.replace("flannel.alpha.coreos.com/", "example.com/net-"): value
                for key, value in udp_annotations("192.0.2.2").items()}  # fmt: skip
        await cluster.node("n1", "10.244.1.0/24")
        await cluster.node("n2", "10.244.2.0/24", annotations=said)
        await cluster.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
        source = await cluster.source("n1", annotation_prefix="example.com/net")
        async with opened(source) as registry, watching(registry) as told:
            await registry.acquire(ATTRS, None)
            await told.become({"10.244.1.0/24": "192.0.2.1", "10.244.2.0/24": "192.0.2.2"})
        node = await cluster.get_node("n1")
        assert node["metadata"]["annotations"]["example.com/net-public-ip"] == "192.0.2.1"
        assert flannel_annotations(node) == {}

    kube(scenario)


# ---------------------------------------------------------------------- what is waited for


async def waits(registry: KubeRegistry, *words: str) -> None:
    await until(lambda: all(word in registry.waiting for word in words), f"{words}")


@asynccontextmanager
async def acquiring(registry: KubeRegistry) -> AsyncIterator[asyncio.Task[Lease]]:
    task = asyncio.ensure_future(registry.acquire(ATTRS, None))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, OperatorError):
            await task


def test_a_pod_cidr_that_comes_later_is_waited_for(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        async with opened(await cluster.source("n1")) as registry, acquiring(registry) as task:
            await waits(
                registry,
                "nobody hands them out",
                "--allocate-node-cidrs=true --cluster-cidr=10.244.0.0/16",
                "kubectl apply -f deploy/kubernetes/podcidr-controller.yaml",
            )
            assert flannel_annotations(await cluster.get_node("n1")) == {}
            patch = {"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}}
            await cluster.ok("PATCH", f"{NODES}/n1", patch, content_type=MERGE)
            assert (await task).subnet == subnet("10.244.1.0/24")
            assert registry.waiting == ""

    kube(scenario)


def test_a_node_that_registers_later_is_waited_for(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with opened(await cluster.source("n1")) as registry, acquiring(registry) as task:
            await waits(registry, "Node n1 is not in the cluster", "NODE_NAME")
            await cluster.node("n1", "10.244.1.0/24")
            await task

    kube(scenario)


def test_others_have_a_pod_cidr_and_we_have_not(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1")
        await cluster.node("n2", "10.244.0.0/24")
        async with opened(await cluster.source("n1")) as registry, acquiring(registry):
            await waits(registry, "1 of 2 Nodes have one", "kubectl describe node n1")
            assert (
                """kubectl patch node n1 -p '{"spec":{"podCIDR":"10.244.1.0/24","""
                """"podCIDRs":["10.244.1.0/24"]}}'"""
            ) in registry.waiting

    kube(scenario)


def test_a_range_that_is_used_up_is_named(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        net_conf = cluster.net_conf(Network="10.244.0.0/23")
        await cluster.node("n1")
        await cluster.node("n2", "10.244.0.0/24")
        await cluster.node("n3", "10.244.1.0/24")
        source = await cluster.source("n1", net_config_path=str(net_conf))
        async with opened(source) as registry, acquiring(registry):
            await waits(registry, "all ranges of 10.244.0.0/23 are held", "kubectl delete node")

    kube(scenario)


def test_a_missing_right_is_named_with_the_commands_that_grant_it(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        token, name = await cluster.user((Rule(("list", "watch"), ("nodes",)),))
        async with (
            opened(await cluster.source("n1", token)) as registry,
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
            await cluster.grant(name, rules)
            await task

    kube(scenario)


def test_an_api_server_that_is_away_is_waited_for(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        async with opened(await cluster.source("n1")) as registry:
            await cluster.api.stop()
            async with acquiring(registry) as task:
                await waits(registry, "cannot be reached")
                await cluster.api.start()
                await task

    double(scenario)


def test_a_wrong_overwrite_annotation_is_waited_for(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        await cluster.annotate("n1", public_ip_overwrite="gateway")
        async with opened(await cluster.source("n1")) as registry, acquiring(registry) as task:
            await waits(registry, "'gateway'", "kubectl annotate node n1 --overwrite")
            await cluster.annotate("n1", public_ip_overwrite="198.51.100.7")
            await task

    kube(scenario)


def test_a_pod_cidr_outside_the_network_cannot_be_waited_out(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.99.1.0/24")
        async with opened(await cluster.source("n1")) as registry:
            with pytest.raises(OperatorError, match=r"10\.99\.1\.0/24 of Node n1 is not part of"):
                await registry.acquire(ATTRS, None)
        assert flannel_annotations(await cluster.get_node("n1")) == {}

    kube(scenario)


def test_udp_without_ipv4_is_an_operators_error(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        conf = cluster.net_conf(EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00::/48")
        await cluster.node("n1", "10.244.1.0/24")
        async with opened(await cluster.source("n1", net_config_path=str(conf))) as registry:
            with pytest.raises(OperatorError, match="EnableIPv4"):
                await registry.acquire(ATTRS, None)

    kube(scenario)


# ---------------------------------------------------------------------- everybody's leases


def test_nodes_are_told_as_leases(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
        await cluster.node("n9", "10.244.9.0/24")
        async with opened(await cluster.source("n1")) as registry, watching(registry) as told:
            await told.become({"10.244.2.0/24": "192.0.2.2"})
            await cluster.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
            await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.3"})
            await cluster.annotate("n2", public_ip="192.0.2.22")
            await told.become({"10.244.2.0/24": "192.0.2.22", "10.244.3.0/24": "192.0.2.3"})
            await cluster.delete_node("n3")
            await told.become({"10.244.2.0/24": "192.0.2.22"})
            assert [type(event) for event in told.events] == [Snapshot, Added, Added, Removed]

    kube(scenario)


def test_the_loss_of_the_annotation_is_a_removal(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
        async with opened(await cluster.source("n1")) as registry, watching(registry) as told:
            await told.become({"10.244.2.0/24": "192.0.2.2"})
            await cluster.annotate("n2", kube_subnet_manager=None)
            await told.become({})
            await cluster.annotate("n2", kube_subnet_manager="true")
            await told.become({"10.244.2.0/24": "192.0.2.2"})

    kube(scenario)


def test_a_node_made_anew_with_another_pod_cidr_moves(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
        async with opened(await cluster.source("n1")) as registry, watching(registry) as told:
            await told.become({"10.244.2.0/24": "192.0.2.2"})
            await cluster.delete_node("n2")
            await cluster.udp_node("n2", "10.244.7.0/24", "192.0.2.2")
            await told.become({"10.244.7.0/24": "192.0.2.2"})

    kube(scenario)


def test_a_broken_annotation_takes_no_peer_down(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
        async with opened(await cluster.source("n1")) as registry, watching(registry) as told:
            await told.become({"10.244.2.0/24": "192.0.2.2"})
            await cluster.annotate("n2", public_ip="not an address")
            await cluster.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
            await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.3"})
            assert registry.counters()["skipped_entries"] == 1
            await cluster.forget_history()
            await cluster.annotate("n3", public_ip="192.0.2.33")
            await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.33"})

    kube(scenario)


def test_udp_peers_are_seen_with_ipv6_enabled_too(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        conf = cluster.net_conf(EnableIPv6=True, IPv6Network="fd00:10::/48")
        await cluster.node("n1", "10.244.1.0/24", "fd00:10:0:1::/64")
        said = udp_annotations("192.0.2.2")
        await cluster.node("n2", "10.244.2.0/24", "fd00:10:0:2::/64", annotations=said)
        source = await cluster.source("n1", net_config_path=str(conf))
        async with opened(source) as registry, watching(registry) as told:
            lease = await registry.acquire(ATTRS, None)
            assert lease.subnet == subnet("10.244.1.0/24")
            await told.become({"10.244.1.0/24": "192.0.2.1", "10.244.2.0/24": "192.0.2.2"})

    kube(scenario)


def test_of_two_nodes_with_one_range_the_first_is_believed_until_it_goes(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
        await cluster.udp_node("n3", "10.244.2.0/24", "192.0.2.3")
        async with opened(await cluster.source("n1")) as registry, watching(registry) as told:
            await told.become({"10.244.2.0/24": "192.0.2.2"})
            await cluster.delete_node("n2")
            await told.become({"10.244.2.0/24": "192.0.2.3"})
            await cluster.delete_node("n3")
            await told.become({})

    kube(scenario)


def test_alloc_needs_no_informer_and_no_right_to_list(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        conf = cluster.net_conf(Backend={"Type": "alloc"})
        await cluster.node("n1", "10.244.1.0/24")
        token, _ = await cluster.user(
            (Rule(("get",), ("nodes",)), Rule(("patch",), ("nodes/status",)))
        )
        source = await cluster.source("n1", token, net_config_path=str(conf))
        async with opened(source) as registry, watching(registry) as told:
            lease = await registry.acquire(ATTRS, None)
            assert lease.subnet == subnet("10.244.1.0/24")
            await until(lambda: told.events == [Snapshot(())])
            assert registry.counters().get("watches", 0) == 0
        assert flannel_annotations(await cluster.get_node("n1")) == UDP

    kube(scenario)


# ---------------------------------------------------------------------- faults


def test_a_restart_of_the_api_server_loses_no_peer_and_no_event(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
        await cluster.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
        async with opened(await cluster.source("n1")) as registry, watching(registry) as told:
            await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.3"})
            await cluster.restart()
            await cluster.delete_node("n2")
            await cluster.udp_node("n4", "10.244.4.0/24", "192.0.2.4")
            await told.become({"10.244.3.0/24": "192.0.2.3", "10.244.4.0/24": "192.0.2.4"})
            assert sum(isinstance(event, Snapshot) for event in told.events) == 1
            assert registry.counters()["lists"] == 1

    kube(scenario)


def test_denials_right_after_a_restart_are_waited_out(double: Kube) -> None:
    """kube-apiserver denies everything until it has read its roles."""

    async def scenario(cluster: Cluster) -> None:
        await cluster.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
        async with opened(await cluster.source("n1")) as registry, watching(registry) as told:
            await told.become({"10.244.2.0/24": "192.0.2.2"})
            cluster.api.faults.refuse(
                403, lambda c: c.user != "admin" and c.resource == "nodes", times=2
            )
            await cluster.restart()
            await cluster.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
            await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.3"})

    double(scenario)


def test_forgotten_history_is_answered_with_a_fresh_snapshot(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
        await cluster.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
        gate = asyncio.Event()

        async def sleep(seconds: float) -> None:
            await gate.wait()  # what happens meanwhile is not seen
            await asyncio.sleep(min(seconds, 0.02))

        async with (
            opened(await cluster.source("n1"), sleep=sleep) as registry,
            watching(registry) as told,
        ):
            await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.3"})
            await cluster.restart()
            await cluster.delete_node("n2")
            await cluster.annotate("n3", public_ip="192.0.2.33")
            await cluster.forget_history()
            gate.set()
            await told.become({"10.244.3.0/24": "192.0.2.33"})
            assert [type(event) for event in told.events] == [Snapshot, Snapshot]
            assert registry.counters()["watch_compactions"] == 1

    kube(scenario)


def test_our_node_made_anew_is_annotated_again_with_its_condition(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        async with opened(await cluster.source("n1")) as registry:
            await registry.complete(await registry.acquire(ATTRS, None))
            await cluster.delete_node("n1")
            await cluster.node("n1")
            patch = {"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}}
            await cluster.ok("PATCH", f"{NODES}/n1", patch, content_type=MERGE)

            async def published() -> bool:
                node = await cluster.get_node("n1")
                conditions = node["status"].get("conditions", [])
                return flannel_annotations(node) == UDP and bool(conditions)

            await until(published, "annotations and condition")

    kube(scenario)


def test_our_node_made_anew_with_another_pod_cidr_is_an_error_in_the_log(
    kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        async with opened(await cluster.source("n1")) as registry:
            await registry.acquire(ATTRS, None)
            await cluster.delete_node("n1")
            await cluster.node("n1", "10.244.8.0/24")
            await until(lambda: "made anew with another podCIDR" in caplog.text, "a line")
            assert flannel_annotations(await cluster.get_node("n1")) == {}

    kube(scenario)


def test_our_own_entry_is_followed(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        async with opened(await cluster.source("n1")) as registry:
            lease = await registry.acquire(ATTRS, None)
            told = Told(registry.watch_own(lease))
            try:
                await told.become({"10.244.1.0/24": "192.0.2.1"})
                await cluster.delete_node("n1")
                await told.become({})
                await cluster.node("n1", "10.244.8.0/24")
                await cluster.annotate("n1", public_ip="192.0.2.1")
                assert [type(event) for event in told.events] == [Added, Removed]
            finally:
                await told.close()

    kube(scenario)


def test_somebody_elses_annotation_on_the_living_node_is_left_alone(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        async with opened(await cluster.source("n1")) as registry, watching(registry) as told:
            await registry.acquire(ATTRS, None)
            await told.become({"10.244.1.0/24": "192.0.2.1"})
            await cluster.annotate("n1", public_ip="192.0.2.99")
            await told.become({"10.244.1.0/24": "192.0.2.99"})
            writes = [call for call in cluster.api.calls if call.verb == "patch"]
            assert [call.user for call in writes].count("tester-0") == 1

    double(scenario)


def test_a_condition_that_could_not_be_set_is_set_later(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        async with opened(await cluster.source("n1")) as registry:
            lease = await registry.acquire(ATTRS, None)
            cluster.api.faults.refuse(500, lambda call: call.resource == "nodes/status", times=3)
            await registry.complete(lease)
            assert "conditions" not in (await cluster.get_node("n1"))["status"]

            async def there() -> bool:
                return "conditions" in (await cluster.get_node("n1"))["status"]

            await until(there, "condition")

    double(scenario)


# ---------------------------------------------------------------------- opening


def test_the_nodes_name_is_looked_up_through_the_pod(kube: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n7", "10.244.7.0/24")
        spec = {"nodeName": "n7", "containers": [{"name": "c", "image": "i"}]}
        pod = {"metadata": {"name": "flannel-x"}, "spec": spec}
        await cluster.ok("POST", "/api/v1/namespaces/default/pods", pod)
        source = await cluster.source("", pod_name="flannel-x", pod_namespace="default")
        async with opened(source) as registry:
            assert registry.node_name == "n7"
            assert (await registry.acquire(ATTRS, None)).subnet == subnet("10.244.7.0/24")

    kube(scenario)


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
def test_what_no_waiting_mends_is_an_operators_error(
    double: Kube, change: dict[str, Any], names: str
) -> None:
    async def scenario(cluster: Cluster) -> None:
        source = replace(await cluster.source(""), **change)
        with pytest.raises(OperatorError, match=names):
            await open_kube(source, timing=QUICK)

    double(scenario)


def test_a_broken_net_conf_names_the_file_and_the_key(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        path = cluster.net_conf(Network="10.244.0.0")
        source = await cluster.source("n1", net_config_path=str(path))
        with pytest.raises(OperatorError, match=r"net-conf\.json: .*Network"):
            await open_kube(source, timing=QUICK)

    double(scenario)


class SlowClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._over = asyncio.Event()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds > 300:
            await self._over.wait()  # the deadline itself: everybody else gets his turns first
        else:
            self.now += seconds
            if self.now >= 1600.0:
                self._over.set()
            await asyncio.sleep(0)


@pytest.mark.parametrize("go_on", [False, True])
def test_the_first_sync_may_take_ten_minutes(double: Kube, go_on: bool) -> None:
    async def scenario(cluster: Cluster) -> None:
        source = await cluster.source("n1", continue_when_cache_not_ready=go_on)
        await cluster.api.stop()
        time = SlowClock()
        opening = open_kube(source, sleep=time.sleep, clock=time.clock)
        if not go_on:
            with pytest.raises(RegistryUnavailable, match=r"within 600 s: .*cannot be reached"):
                await opening
        else:
            registry = await opening
            await registry.aclose()
        assert time.now >= 1600.0

    double(scenario)


def test_a_daemon_that_went_on_without_a_cache_gets_its_lease_later(double: Kube) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.node("n1", "10.244.1.0/24")
        source = await cluster.source("n1", continue_when_cache_not_ready=True)
        held = cluster.api.faults.hold(lambda call: call.verb == "list")
        registry = await open_kube(source, timing=KubeTiming(sync=0.05, poll=0.02))
        try:
            async with acquiring(registry) as task:
                await waits(registry, "not complete yet")
                held.set()
                await task
        finally:
            await registry.aclose()

    double(scenario)
