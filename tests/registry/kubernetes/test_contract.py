"""Kubernetes keeps the contract of registries, on the API double and a real kube-apiserver."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from netaddr import IPAddress

from tests.registry.contract import Harness, RegistryContract, seen
from tests.support.aio import at_end, collecting, run
from tests.support.kubeapi import KubeApi
from tests.support.kubecluster import NODES, Kube
from udpoverlay.errors import OperatorError
from udpoverlay.model.events import Event
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.registry.base import Registry
from udpoverlay.registry.kubernetes.registry import KubeRegistry, KubeTiming, open_kube


class Opening:
    """A registry that is opened by its first request, as the contract's harness wants it."""

    def __init__(self, harness: KubeHarness, host: int) -> None:
        self._harness = harness
        self._host = host
        self._opened: KubeRegistry | None = None
        self._lock = asyncio.Lock()
        at_end(self.aclose)

    async def open(self) -> KubeRegistry:
        async with self._lock:
            if self._opened is None:
                self._opened = await self._harness.open(self._host)
            return self._opened

    async def network_config(self) -> NetConf:
        return await (await self.open()).network_config()

    async def stored_public_ips(self) -> tuple[str, str]:
        return await (await self.open()).stored_public_ips()

    async def acquire(
        self, attrs: LeaseAttrs, previous: Subnet | None, conf: NetConf | None = None
    ) -> Lease:
        return await (await self.open()).acquire(attrs, previous, conf)

    async def republish(self, lease: Lease, attrs: LeaseAttrs) -> Lease:
        return await (await self.open()).republish(lease, attrs)

    async def complete(self, lease: Lease) -> None:
        await (await self.open()).complete(lease)

    async def watch(self) -> AsyncIterator[Event]:
        async for event in (await self.open()).watch():
            yield event

    def counters(self) -> dict[str, int]:
        if self._opened is None:
            return dict.fromkeys(KubeRegistry.COUNTERS, 0)
        return self._opened.counters()

    def troubles(self) -> dict[str, str]:
        return {} if self._opened is None else self._opened.troubles()

    def watch_age(self) -> float | None:
        return None if self._opened is None else self._opened.watch_age()

    async def aclose(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()


class KubeHarness:
    def __init__(self, directory: Path, cluster: Kube | None) -> None:
        self._directory = directory
        self._cluster = cluster
        self._lock = asyncio.Lock()

    async def cluster(self) -> Kube:
        async with self._lock:
            if self._cluster is None:
                api = KubeApi()
                await api.start()
                at_end(api.stop)
                self._cluster = Kube(self._directory, api, None)
            return self._cluster

    async def open(self, host: int) -> KubeRegistry:
        cluster = await self.cluster()
        code, _ = await cluster.call("GET", f"{NODES}/n{host}")
        if code == 404:
            await cluster.node(f"n{host}", f"10.5.{host}.0/24")
        path = str(cluster.net_conf(Network="10.5.0.0/16"))
        source = await cluster.source(f"n{host}", net_config_path=path)
        return await open_kube(source, timing=KubeTiming(poll=0.02))

    def registry(self, host: int) -> Registry:
        return Opening(self, host)

    def attrs(self, host: int) -> LeaseAttrs:
        return LeaseAttrs(IPAddress(f"192.0.2.{host}"))

    async def without_configuration(self) -> None:
        """Kubernetes has it in a file; see the test that takes this one's place."""

    async def delete(self, lease: Lease) -> None:
        await (await self.cluster()).delete_node(f"n{_host(lease)}")

    async def malformed(self) -> None:
        cluster = await self.cluster()
        prefix = "flannel.alpha.coreos.com/"
        good = {f"{prefix}kube-subnet-manager": "true", f"{prefix}public-ip": "192.0.2.66"}
        for name, cidr, values in (
            ("no-ip", "10.5.200.0/24", {"public-ip": ""}),
            ("bad-ip", "10.5.201.0/24", {"public-ip": "192.0.2.300"}),
            ("v6-ip", "10.5.202.0/24", {"public-ip": "fd00::1"}),
            ("not-managed", "10.5.203.0/24", {"kube-subnet-manager": "false"}),
            ("only-v6", "fd00:1::/64", {}),
        ):
            said = {**good, **{f"{prefix}{key}": value for key, value in values.items()}}
            await cluster.node(name, cidr, annotations=said)
        await cluster.node("no-cidr", annotations=good)

    async def change(self, host: int, lease: Lease) -> LeaseAttrs:
        ip = f"192.0.2.{host + 100}"
        await (await self.cluster()).annotate(f"n{_host(lease)}", public_ip=ip)
        return LeaseAttrs(IPAddress(ip))

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        cluster = await self.cluster()
        await cluster.stop()
        yield
        await cluster.start()


def _host(lease: Lease) -> int:
    assert lease.subnet.v4 is not None
    return int(str(lease.subnet.v4).split(".")[2])


class TestKubeContract(RegistryContract):
    @pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.kube)])
    def harness(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
        if request.param == "double":
            yield KubeHarness(tmp_path, None)
            return
        cluster = Kube(tmp_path, None, request.getfixturevalue("real_apiserver"))
        yield KubeHarness(tmp_path, cluster)
        run(cluster.clean())

    async def test_no_configuration_yet_is_something_to_wait_for(self, harness: Harness) -> None:
        """Not in Kubernetes: it is a file of the pod, and flanneld ends without it as well."""

        assert isinstance(harness, KubeHarness)
        source = await (await harness.cluster()).source("n1", net_config_path="/nowhere")
        with pytest.raises(OperatorError, match="--net-config-path /nowhere"):
            await open_kube(source)

    async def test_an_outage_ends_no_watch_and_hides_no_change(self, harness: Harness) -> None:
        """As everywhere, save that the configuration does not come from the API server."""

        assert isinstance(harness, KubeHarness)
        first = await harness.registry(1).acquire(harness.attrs(1), None)
        registry = Opening(harness, 2)
        async with collecting(registry.watch()) as watch:
            await watch.until(lambda events: events)
            async with harness.outage():
                assert str((await registry.network_config()).network) == "10.5.0.0/16"
            second = await harness.registry(3).acquire(harness.attrs(3), None)
            await watch.until(lambda events: str(second.subnet) in seen(events))
            assert set(seen(watch.items)) == {str(first.subnet), str(second.subnet)}
