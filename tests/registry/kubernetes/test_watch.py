"""KubeRegistry follows all Nodes and its own, through restarts and lost history."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.kubeapi.rbac import Rule
from tests.support.kubecluster import (
    MERGE,
    NODES,
    Kube,
    flannel_annotations,
    udp_annotations,
    until,
)
from tests.support.kuberegistry import (
    ATTRS,
    UDP,
    NoonClock,
    opened,
    subnet,
    watching,
)
from udpoverlay.model.events import Added, Removed, Snapshot

# ---------------------------------------------------------------------- all leases


async def test_nodes_are_told_as_leases(kube: Kube) -> None:
    await kube.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
    await kube.node("n9", "10.244.9.0/24")
    async with opened(await kube.source("n1")) as registry, watching(registry) as told:
        await told.become({"10.244.2.0/24": "192.0.2.2"})
        await kube.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
        await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.3"})
        await kube.annotate("n2", public_ip="192.0.2.22")
        await told.become({"10.244.2.0/24": "192.0.2.22", "10.244.3.0/24": "192.0.2.3"})
        await kube.delete_node("n3")
        await told.become({"10.244.2.0/24": "192.0.2.22"})
        assert [type(event) for event in told.events] == [Snapshot, Added, Added, Removed]


async def test_the_loss_of_the_annotation_is_a_removal(kube: Kube) -> None:
    await kube.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
    async with opened(await kube.source("n1")) as registry, watching(registry) as told:
        await told.become({"10.244.2.0/24": "192.0.2.2"})
        await kube.annotate("n2", kube_subnet_manager=None)
        await told.become({})
        await kube.annotate("n2", kube_subnet_manager="true")
        await told.become({"10.244.2.0/24": "192.0.2.2"})


async def test_a_node_made_anew_with_another_pod_cidr_moves(kube: Kube) -> None:
    await kube.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
    async with opened(await kube.source("n1")) as registry, watching(registry) as told:
        await told.become({"10.244.2.0/24": "192.0.2.2"})
        await kube.delete_node("n2")
        await kube.udp_node("n2", "10.244.7.0/24", "192.0.2.2")
        await told.become({"10.244.7.0/24": "192.0.2.2"})


async def test_a_broken_annotation_takes_no_peer_down(kube: Kube) -> None:
    await kube.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
    async with opened(await kube.source("n1")) as registry, watching(registry) as told:
        await told.become({"10.244.2.0/24": "192.0.2.2"})
        await kube.annotate("n2", public_ip="not an address")
        await kube.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
        await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.3"})
        assert registry.counters()["skipped_entries"] == 1
        await kube.forget_history()
        await kube.annotate("n3", public_ip="192.0.2.33")
        await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.33"})


async def test_udp_peers_are_seen_with_ipv6_enabled_too(kube: Kube) -> None:
    conf = kube.net_conf(EnableIPv6=True, IPv6Network="fd00:10::/48")
    await kube.node("n1", "10.244.1.0/24", "fd00:10:0:1::/64")
    said = udp_annotations("192.0.2.2")
    await kube.node("n2", "10.244.2.0/24", "fd00:10:0:2::/64", annotations=said)
    source = await kube.source("n1", net_config_path=str(conf))
    async with opened(source) as registry, watching(registry) as told:
        lease = await registry.acquire(ATTRS, None)
        assert str(lease.subnet) == "10.244.1.0/24&fd00:10:0:1::/64"
        one, two = str(lease.subnet), "10.244.2.0/24&fd00:10:0:2::/64"
        await told.become({one: "192.0.2.1", two: "192.0.2.2"})
        await kube.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
        three = "10.244.3.0/24"
        await told.become({one: "192.0.2.1", two: "192.0.2.2", three: "192.0.2.3"})
        # Another IPv6 range makes no second claim of what carries packets.
        await kube.node("n4", "10.244.2.0/24", "fd00:10:0:4::/64", annotations=said)
        await kube.delete_node("n2")
        four = "10.244.2.0/24&fd00:10:0:4::/64"
        await told.become({one: "192.0.2.1", four: "192.0.2.2", three: "192.0.2.3"})
        assert [str(e.subnet) for e in told.events if isinstance(e, Removed)] == [two]


async def test_of_two_nodes_with_one_range_the_first_is_believed_until_it_goes(kube: Kube) -> None:
    await kube.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
    await kube.udp_node("n3", "10.244.2.0/24", "192.0.2.3")
    async with opened(await kube.source("n1")) as registry, watching(registry) as told:
        await told.become({"10.244.2.0/24": "192.0.2.2"})
        await kube.delete_node("n2")
        await told.become({"10.244.2.0/24": "192.0.2.3"})
        await kube.delete_node("n3")
        await told.become({})


async def test_alloc_needs_no_informer_and_no_right_to_list(kube: Kube) -> None:
    conf = kube.net_conf(Backend={"Type": "alloc"})
    await kube.node("n1", "10.244.1.0/24")
    token, _ = await kube.user((Rule(("get",), ("nodes",)), Rule(("patch",), ("nodes/status",))))
    source = await kube.source("n1", token, net_config_path=str(conf))
    async with opened(source) as registry, watching(registry) as told:
        lease = await registry.acquire(ATTRS, None)
        assert lease.subnet == subnet("10.244.1.0/24")
        await until(lambda: told.events == [Snapshot(())])
        assert registry.counters().get("watches", 0) == 0
    assert flannel_annotations(await kube.get_node("n1")) == UDP


# ---------------------------------------------------------------------- faults


async def test_a_restart_of_the_api_server_loses_no_peer_and_no_event(kube: Kube) -> None:
    await kube.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
    await kube.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
    async with opened(await kube.source("n1")) as registry, watching(registry) as told:
        await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.3"})
        await kube.restart()
        await kube.delete_node("n2")
        await kube.udp_node("n4", "10.244.4.0/24", "192.0.2.4")
        await told.become({"10.244.3.0/24": "192.0.2.3", "10.244.4.0/24": "192.0.2.4"})
        assert sum(isinstance(event, Snapshot) for event in told.events) == 1
        assert registry.counters()["lists"] == 1


async def test_denials_right_after_a_restart_are_waited_out(double: Kube) -> None:
    """kube-apiserver denies everything until it has read its roles."""

    await double.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
    async with opened(await double.source("n1")) as registry, watching(registry) as told:
        await told.become({"10.244.2.0/24": "192.0.2.2"})
        double.api.faults.refuse(
            403, lambda c: c.user != "admin" and c.resource == "nodes", times=2
        )
        await double.restart()
        await double.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
        await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.3"})


async def test_forgotten_history_is_answered_with_a_fresh_snapshot(kube: Kube) -> None:
    await kube.udp_node("n2", "10.244.2.0/24", "192.0.2.2")
    await kube.udp_node("n3", "10.244.3.0/24", "192.0.2.3")
    gate = asyncio.Event()

    class Gated(NoonClock):
        async def sleep(self, seconds: float) -> None:
            await gate.wait()  # what happens meanwhile is not seen
            await asyncio.sleep(min(seconds, 0.02))

    async with (
        opened(await kube.source("n1"), Gated()) as registry,
        watching(registry) as told,
    ):
        await told.become({"10.244.2.0/24": "192.0.2.2", "10.244.3.0/24": "192.0.2.3"})
        await kube.restart()
        await kube.delete_node("n2")
        await kube.annotate("n3", public_ip="192.0.2.33")
        await kube.forget_history()
        gate.set()
        await told.become({"10.244.3.0/24": "192.0.2.33"})
        assert [type(event) for event in told.events] == [Snapshot, Snapshot]
        assert registry.counters()["watch_compactions"] == 1


async def test_our_node_made_anew_is_annotated_again_with_its_condition(kube: Kube) -> None:
    await kube.node("n1", "10.244.1.0/24")
    async with opened(await kube.source("n1")) as registry:
        await registry.complete(await registry.acquire(ATTRS, None))
        await kube.delete_node("n1")
        await kube.node("n1")
        patch = {"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}}
        await kube.ok("PATCH", f"{NODES}/n1", patch, content_type=MERGE)

        async def published() -> bool:
            node = await kube.get_node("n1")
            conditions = node["status"].get("conditions", [])
            return flannel_annotations(node) == UDP and bool(conditions)

        await until(published, "annotations and condition")


async def test_our_node_made_anew_with_another_pod_cidr_is_an_error_in_the_log(
    kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    await kube.node("n1", "10.244.1.0/24")
    async with opened(await kube.source("n1")) as registry:
        await registry.acquire(ATTRS, None)
        await kube.delete_node("n1")
        await kube.node("n1", "10.244.8.0/24")
        await until(lambda: "recreated with another podCIDR" in caplog.text, "a line")
        assert registry.troubles()["node"].startswith("our Node has 10.244.8.0/24 now")
        assert flannel_annotations(await kube.get_node("n1")) == {}


async def test_somebody_elses_annotation_on_the_living_node_is_left_alone(double: Kube) -> None:
    await double.node("n1", "10.244.1.0/24")
    async with opened(await double.source("n1")) as registry, watching(registry) as told:
        await registry.acquire(ATTRS, None)
        await told.become({"10.244.1.0/24": "192.0.2.1"})
        await double.annotate("n1", public_ip="192.0.2.99")
        await told.become({"10.244.1.0/24": "192.0.2.99"})
        writes = [call for call in double.api.calls if call.verb == "patch"]
        assert [call.user for call in writes].count("tester-0") == 1


async def test_a_condition_that_could_not_be_set_is_set_later(double: Kube) -> None:
    await double.node("n1", "10.244.1.0/24")
    async with opened(await double.source("n1")) as registry:
        lease = await registry.acquire(ATTRS, None)
        double.api.faults.refuse(500, lambda call: call.resource == "nodes/status", times=3)
        await registry.complete(lease)
        assert "conditions" not in (await double.get_node("n1"))["status"]

        async def there() -> bool:
            return "conditions" in (await double.get_node("n1"))["status"]

        await until(there, "condition")
