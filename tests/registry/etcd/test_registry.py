"""Leases in a real etcd: the contract, flannel's bytes, what is followed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from tests.registry.contract import RenewingContract, RenewingHarness, seen
from tests.support.aio import collecting, in_thread
from tests.support.etcd import EtcdServer
from tests.support.leases import attrs, subnet
from tests.support.network import EtcdNetwork, plain_value
from udpoverlay.errors import OperatorError, RegistryUnavailable
from udpoverlay.model.lease import Lease, LeaseAttrs
from udpoverlay.registry.etcd.entries import Paths
from udpoverlay.registry.etcd.registry import EtcdRegistry

pytestmark = pytest.mark.etcd


class EtcdHarness:
    def __init__(self, server: EtcdServer) -> None:
        self.network = EtcdNetwork(server)

    def registry(self, host: int) -> EtcdRegistry:
        return self.network.registry(seed=host)

    def attrs(self, host: int) -> LeaseAttrs:
        return self.network.attrs(host)

    async def without_configuration(self) -> None:
        await in_thread(self.network.server.delete, f"{self.network.prefix}/config")

    async def delete(self, lease: Lease) -> None:
        await in_thread(self.network.server.delete, self.network.key(str(lease.subnet)))

    async def take_over(self, lease: Lease, host: int) -> None:
        ip = str(self.attrs(host).public_ip)
        await in_thread(self.network.claim, str(lease.subnet), ip)

    async def malformed(self) -> None:
        for key, value in {
            "10.5.200.0-24": "no json",
            "10.5.201.0-24": '{"PublicIP":null}',
            "10.5.202.0-24": '{"PublicIP":7}',
            "10.5.203.0-24": "[" * 50_000,
            "10.5.204.0-24": "",
            "10.5.205.0-24": '{"PublicIP":"192.0.2.1","BackendType":[]}',
            "10.5.206.0-33": '{"PublicIP":"192.0.2.66"}',
            "10.5.207.1-24": '{"PublicIP":"192.0.2.66"}',
            "x10.5.208.0-24": '{"PublicIP":"192.0.2.66"}',
            "sub/10.5.209.0-24": '{"PublicIP":"192.0.2.66"}',
            "not a subnet": "{}",
            "../subnets-old/10.5.210.0-24": '{"PublicIP":"192.0.2.66"}',
        }.items():
            path = (
                self.network.key(key)
                if "-old" not in key
                else (f"{self.network.prefix}/subnets-old/10.5.210.0-24")
            )
            await in_thread(self.network.server.put, path, value)

    async def change(self, host: int, lease: Lease) -> LeaseAttrs:
        ip = f"192.0.2.{host + 100}"
        await in_thread(self.network.claim, str(lease.subnet), ip)
        return attrs(ip)

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        await in_thread(self.network.server.kill)
        try:
            yield
        finally:
            await in_thread(self.network.server.start)


class TestContract(RenewingContract):
    @pytest.fixture
    def harness(self, server: EtcdServer) -> RenewingHarness:
        return EtcdHarness(server)


# ---------------------------------------------------------------- what is stored


async def test_a_lease_is_flannels_bytes_with_an_etcd_lease_of_a_day(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    lease = await network.registry().acquire(attrs("1.2.3.4"), subnet("10.5.72.0/24"))
    assert server.get(f"{network.prefix}/subnets/10.5.72.0-24") == (
        '{"PublicIP":"1.2.3.4","PublicIPv6":null}'
    )
    assert network.entries() == ["10.5.72.0-24"]
    reply = server.call("/lease/timetolive", {"ID": str(lease.registry_lease)})
    assert reply["grantedTTL"] == "86400"


async def test_backend_data_is_stored_as_given(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    data = '{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}'
    mine = attrs("1.2.3.4", backend_type="vxlan", backend_data=data)
    await network.registry().acquire(mine, subnet("10.5.72.0/24"))
    assert network.value("10.5.72.0/24") == (
        plain_value("1.2.3.4")[:-1] + f',"BackendType":"vxlan","BackendData":{data}}}'
    )


async def test_a_dual_stack_network_gives_dual_stack_keys(server: EtcdServer) -> None:
    network = EtcdNetwork(
        server, Network="10.5.0.0/16", EnableIPv6=True, IPv6Network="fd00:12::/48"
    )
    registry = network.registry(seed=4)
    lease = await registry.acquire(attrs("1.2.3.4"), None)
    assert lease.subnet.v6 is not None
    [key] = network.entries()
    v4, v6 = key.split("&")
    assert v4 == str(lease.subnet.v4).replace("/", "-")
    assert v6 == str(lease.subnet.v6).replace("/", "-")
    assert v6.endswith("-64")
    async with collecting(registry.watch()) as watch:
        await watch.until(lambda events: events)
        assert set(seen(watch.items)) == {str(lease.subnet)}
        again = await network.registry().acquire(attrs("1.2.3.4"), None)
        assert again.subnet == lease.subnet


async def test_ipv6_alone_is_refused_because_hosts_could_not_be_told_apart(
    server: EtcdServer,
) -> None:
    network = EtcdNetwork(server, EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00:12::/48")
    with pytest.raises(OperatorError, match="EnableIPv4"):
        await network.registry().acquire(attrs("0.0.0.0"), None)
    assert network.entries() == []


@pytest.mark.parametrize(
    ("prefix", "clean"),
    [
        ("/coreos.com/network", "/coreos.com/network"),
        ("//coreos.com//network/", "/coreos.com/network"),
        ("/coreos.com/x/../network/.", "/coreos.com/network"),
        ("net", "net"),
        ("/", ""),
        ("", None),
    ],
)
def test_prefixes_are_cleaned_like_go_paths(prefix: str, clean: str | None) -> None:
    paths = Paths(prefix)
    root = b"" if clean is None else f"{clean}/".encode()
    assert paths.config == root + b"config"
    assert paths.leases.key == root + b"subnets"
    assert paths.leases.end == root + b"subnett"
    assert paths.of(subnet("10.5.1.0/24")) == root + b"subnets/10.5.1.0-24"


# ---------------------------------------------------------------- configuration


async def test_a_missing_configuration_says_how_to_write_one(server: EtcdServer) -> None:
    network = EtcdNetwork(server, prefix="/nothing/here")
    with pytest.raises(RegistryUnavailable, match=r"ETCDCTL_API=3 etcdctl put /nothing/here/c"):
        await network.registry().network_config()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "network configuration"),
        ("{", "network configuration"),
        ('{"Network": "10.5.0.0"}', "Network"),
        ('{"Network": "10.5.0.0/16", "SubnetLen": 31}', "SubnetLen"),
    ],
)
async def test_a_wrong_configuration_names_the_key(
    server: EtcdServer, text: str, named: str
) -> None:
    network = EtcdNetwork(server)
    server.put(f"{network.prefix}/config", text)
    with pytest.raises(OperatorError, match=named):
        await network.registry().network_config()


# ---------------------------------------------------------------- watching


async def test_the_exact_key_is_followed_not_its_neighbours(server: EtcdServer) -> None:
    network = EtcdNetwork(server, Network="10.0.0.0/8", SubnetLen=24)
    registry = network.registry()
    lease = await registry.acquire(attrs("1.2.3.4"), subnet("10.5.2.0/24"))
    async with collecting(registry.watch_own(lease)) as own:
        await own.until(lambda events: events)
        for neighbour in ("10.5.2.0-24&fd00::-64", "10.5.2.0-2", "10.5.2.0-240"):
            await in_thread(server.put, network.key(neighbour), '{"PublicIP":"9.9.9.9"}')
            await in_thread(server.delete, network.key(neighbour))
        renewed = await registry.renew(lease)
        await own.until(lambda events: len(events) > 1)
        assert [event.lease.revision for event in own.items] == [  # type: ignore[union-attr] # all are Added
            lease.revision,
            renewed.revision,
        ]


async def test_skipped_entries_are_counted(server: EtcdServer) -> None:
    harness = EtcdHarness(server)
    registry = harness.registry(1)
    async with collecting(registry.watch()) as watch:
        await watch.until(lambda events: events)
        await harness.malformed()
        await harness.registry(2).acquire(harness.attrs(2), None)
        await watch.until(lambda events: len(events) > 1)
    assert registry.counters()["entries_skipped"] == 11
    assert registry.counters()["entries_beside"] == 1


async def test_nothing_is_asked_per_lease(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    for third in range(1, 40):
        grant = server.grant(600)
        network.claim(f"10.5.{third}.0/24", "1.1.1.1", grant)
    registry = network.registry()
    async with collecting(registry.watch()) as watch:
        await watch.until(lambda events: events)
        await in_thread(network.claim, "10.5.77.0/24", "1.1.1.1")
        await watch.until(lambda events: len(events) > 1)
        assert len(seen(watch.items)) == 40
    assert registry.counters()["requests"] == 4  # leases, what is beside them, the watch


async def test_the_oldest_claim_comes_first_in_a_snapshot(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    for third in (7, 3, 5):
        network.claim(f"10.5.{third}.0/24", "1.1.1.1")
    network.claim("10.5.7.0/24", "1.1.1.1")  # a renewal makes it no younger
    async with collecting(network.registry().watch()) as watch:
        await watch.until(lambda events: events)
        assert list(seen(watch.items)) == ["10.5.7.0/24", "10.5.3.0/24", "10.5.5.0/24"]


async def test_no_key_but_the_own_one_is_ever_written(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    registry = network.registry()
    lease = await registry.acquire(attrs("1.2.3.4"), None)
    async with collecting(registry.watch()) as watch:
        await watch.until(lambda events: events)
        await registry.renew(lease)
        await registry.complete(lease)
    own = str(lease.subnet).replace("/", "-")
    assert sorted(server.keys(network.prefix)) == sorted(
        [f"{network.prefix}/config", f"{network.prefix}/subnets/{own}"]
    )
    assert json.loads(str(network.value(str(lease.subnet)))).keys() == {
        "PublicIP",
        "PublicIPv6",
    }
