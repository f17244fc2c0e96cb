"""Leases in a real etcd: the contract, flannel's bytes, races, renewals, reservations."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.registry_contract import Harness, RegistryContract, seen
from tests.support.aio import at_end, collecting, in_thread, run
from tests.support.etcd import EtcdServer, running
from tests.support.leases import attrs, subnet
from tests.support.network import EtcdNetwork, plain_value
from udpoverlay.errors import OperatorError, OutOfSubnets, RegistryConflict, RegistryUnavailable
from udpoverlay.model.config import EtcdConfig
from udpoverlay.model.lease import Lease, LeaseAttrs
from udpoverlay.registry.etcd import EtcdRegistry
from udpoverlay.registry.etcd_entries import Paths

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as started:
        yield started


class EtcdHarness:
    renews = True

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


class TestContract(RegistryContract):
    @pytest.fixture
    def harness(self, server: EtcdServer) -> Harness:
        return EtcdHarness(server)


# ---------------------------------------------------------------- what is stored


def test_a_lease_is_flannels_bytes_with_an_etcd_lease_of_a_day(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        lease = await network.registry().acquire(attrs("1.2.3.4"), subnet("10.5.72.0/24"))
        assert server.get(f"{network.prefix}/subnets/10.5.72.0-24") == (
            '{"PublicIP":"1.2.3.4","PublicIPv6":null}'
        )
        assert network.entries() == ["10.5.72.0-24"]
        reply = server.call("/lease/timetolive", {"ID": str(lease.registry_lease)})
        assert reply["grantedTTL"] == "86400"

    run(scenario())


def test_backend_data_is_stored_as_given(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        data = '{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}'
        mine = attrs("1.2.3.4", backend_type="vxlan", backend_data=data)
        await network.registry().acquire(mine, subnet("10.5.72.0/24"))
        assert network.value("10.5.72.0/24") == (
            plain_value("1.2.3.4")[:-1] + f',"BackendType":"vxlan","BackendData":{data}}}'
        )

    run(scenario())


def test_a_dual_stack_network_gives_dual_stack_keys(server: EtcdServer) -> None:
    async def scenario() -> None:
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

    run(scenario())


def test_ipv6_alone_is_refused_because_hosts_could_not_be_told_apart(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server, EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00:12::/48")
        with pytest.raises(OperatorError, match="EnableIPv4"):
            await network.registry().acquire(attrs("0.0.0.0"), None)
        assert network.entries() == []

    run(scenario())


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
    assert paths.range_start == root + b"subnets"
    assert paths.range_end == root + b"subnett"
    assert paths.of(subnet("10.5.1.0/24")) == root + b"subnets/10.5.1.0-24"


# ---------------------------------------------------------------- configuration


def test_a_missing_configuration_says_how_to_write_one(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server, prefix="/nothing/here")
        with pytest.raises(RegistryUnavailable, match=r"ETCDCTL_API=3 etcdctl put /nothing/here/c"):
            await network.registry().network_config()

    run(scenario())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "network configuration"),
        ("{", "network configuration"),
        ('{"Network": "10.5.0.0"}', "Network"),
        ('{"Network": "10.5.0.0/16", "SubnetLen": 31}', "SubnetLen"),
    ],
)
def test_a_wrong_configuration_names_the_key(server: EtcdServer, text: str, named: str) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        server.put(f"{network.prefix}/config", text)
        with pytest.raises(OperatorError, match=named):
            await network.registry().network_config()

    run(scenario())


# ---------------------------------------------------------------- acquiring


OTHERS = ("10.3.1.0/24", "10.3.2.0/24", "10.3.4.0/24", "10.3.5.0/24", "10.3.31.0/24")


def acquiring_network(server: EtcdServer) -> EtcdNetwork:
    network = EtcdNetwork(
        server, Network="10.3.0.0/16", SubnetMin="10.3.1.0", SubnetMax="10.3.25.0"
    )
    for other in OTHERS:
        network.claim(other, "1.1.1.1")
    return network


def test_flannels_own_acquire_vector(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = acquiring_network(server)
        registry = network.registry()
        us = attrs("1.2.3.4")
        first = await registry.acquire(us, None)
        assert str(first.subnet) not in OTHERS
        assert str(first.subnet) in {f"10.3.{i}.0/24" for i in range(1, 26)}
        assert (await registry.acquire(us, None)).subnet == first.subnet
        network.configure(Network="10.4.0.0/16")
        moved = await registry.acquire(us, None)
        assert str(moved.subnet).startswith("10.4.")
        assert set(network.entries()) == {
            one.replace("/", "-") for one in (*OTHERS, str(moved.subnet))
        }, "the entry that did not fit any more is gone"

    run(scenario())


@pytest.mark.parametrize(
    ("previous", "taken"),
    [("10.3.6.0/24", True), ("10.4.1.0/24", False), ("10.3.5.0/24", False)],
)
def test_the_previous_subnet_is_taken_when_it_is_free_and_fits(
    server: EtcdServer, previous: str, taken: bool
) -> None:
    async def scenario() -> None:
        network = acquiring_network(server)
        lease = await network.registry().acquire(attrs("1.2.3.4"), subnet(previous))
        assert (str(lease.subnet) == previous) is taken
        assert network.value("10.3.5.0/24") == '{"PublicIP":"1.1.1.1","PublicIPv6":null}'

    run(scenario())


def test_a_lost_race_is_tried_again_with_another_subnet(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server, Network="10.5.0.0/20", SubnetLen=24)
        # All draw from the same few subnets at the same time.
        registries = [network.registry(seed=1) for _ in range(6)]
        leases = await asyncio.gather(
            *(one.acquire(network.attrs(host), None) for host, one in enumerate(registries, 1))
        )
        assert len({str(lease.subnet) for lease in leases}) == 6
        assert sorted(network.entries()) == sorted(
            str(lease.subnet).replace("/", "-") for lease in leases
        )
        assert sum(registry.counters()["lost_races"] for registry in registries) > 0

    run(scenario())


def test_a_lost_race_leaves_no_etcd_lease_behind(server: EtcdServer) -> None:
    def leases() -> int:
        reply = server.call("/lease/leases", {})
        found = reply.get("leases", [])
        assert isinstance(found, list)
        return len(found)

    async def scenario() -> None:
        network = EtcdNetwork(server)
        before = leases()
        won = await network.registry(seed=9).acquire(network.attrs(1), None)
        assert leases() == before + 1

        class Blind(EtcdRegistry):
            """Does not see what is taken, so every create loses."""

            async def _listing(self):  # type: ignore[no-untyped-def]  # a test's override
                listing = await super()._listing()
                return type(listing)(())

        loser = Blind(EtcdConfig(endpoints=(server.url,), prefix=network.prefix))
        at_end(loser.aclose)
        network.configure(
            Network="10.5.0.0/16",
            SubnetMin=str(won.subnet.v4).split("/")[0],
            SubnetMax=str(won.subnet.v4).split("/")[0],
        )
        with pytest.raises(RegistryConflict, match="other hosts were faster"):
            await loser.acquire(network.attrs(2), None)
        assert loser.counters()["lost_races"] == 11
        assert leases() == before + 1
        assert network.value(str(won.subnet)) == '{"PublicIP":"192.0.2.1","PublicIPv6":null}'

    run(scenario())


def test_a_full_network_is_out_of_subnets(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server, Network="10.5.0.0/22", SubnetLen=24)
        for third in (1, 2, 3):
            network.claim(f"10.5.{third}.0/24", "1.1.1.1")
        with pytest.raises(OutOfSubnets):
            await network.registry().acquire(attrs("1.2.3.4"), None)

    run(scenario())


def test_a_subnet_whose_entry_cannot_be_read_is_not_free(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server, Network="10.5.0.0/22", SubnetLen=24)
        server.put(network.key("10.5.1.0-24"), "damaged")
        server.put(network.key("10.5.2.1-24"), '{"PublicIP":"1.1.1.1"}')
        lease = await network.registry().acquire(attrs("1.2.3.4"), None)
        assert str(lease.subnet) == "10.5.3.0/24"
        assert network.value("10.5.1.0-24") == "damaged"

    run(scenario())


# ---------------------------------------------------------------- renewing


def test_a_renewal_hangs_the_entry_on_a_new_etcd_lease(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        registry = network.registry()
        lease = await registry.acquire(attrs("1.2.3.4"), None)
        renewed = await registry.renew(lease)
        key = network.key(str(lease.subnet))
        assert server.lease_of(key) == renewed.registry_lease != lease.registry_lease
        # The old one runs out by itself with nothing on it.
        reply = server.call("/lease/timetolive", {"ID": str(lease.registry_lease), "keys": True})
        assert "keys" not in reply

    run(scenario())


def test_a_value_damaged_by_somebody_is_written_again(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        registry = network.registry()
        lease = await registry.acquire(attrs("1.2.3.4"), None)
        server.put(network.key(str(lease.subnet)), "damaged")
        renewed = await registry.renew(lease)
        assert network.value(str(lease.subnet)) == '{"PublicIP":"1.2.3.4","PublicIPv6":null}'
        assert renewed.expires_at is not None, "damage is no reservation"

    run(scenario())


def test_flanneld_renewing_our_entry_is_still_us(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        registry = network.registry()
        lease = await registry.acquire(attrs("1.2.3.4"), None)
        network.claim(str(lease.subnet), "1.2.3.4", server.grant(86400))
        assert (await registry.renew(lease)).subnet == lease.subnet

    run(scenario())


def test_the_term_that_somebody_else_gave_our_entry_is_asked_for(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        now = 1000.0
        registry = network.registry(clock=lambda: now)
        lease = await registry.acquire(attrs("1.2.3.4"), None)
        assert lease.expires_at == now + 86400
        async with collecting(registry.watch_own(lease)) as own:
            await own.until(lambda events: events)
            grant = await in_thread(server.grant, 5000)
            await in_thread(network.claim, str(lease.subnet), "1.2.3.4", grant)
            await own.until(lambda events: len(events) == 2)
            expires_at = own.items[1].lease.expires_at  # type: ignore[union-attr]  # an Added
            assert expires_at == pytest.approx(now + 5000, abs=60)

    run(scenario())


# ---------------------------------------------------------------- reservations


def test_a_reservation_survives_start_and_renewal(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        network.claim("10.5.33.0/24", "1.2.3.4")
        registry = network.registry()
        lease = await registry.acquire(attrs("1.2.3.4"), None)
        assert (str(lease.subnet), lease.expires_at) == ("10.5.33.0/24", None)
        assert server.lease_of(network.key("10.5.33.0-24")) == 0
        lease = await registry.renew(lease)
        assert server.lease_of(network.key("10.5.33.0-24")) == 0
        assert lease.expires_at is None

    run(scenario())


def test_a_lease_turned_into_a_reservation_stays_one(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        registry = network.registry()
        lease = await registry.acquire(attrs("1.2.3.4"), None)
        async with collecting(registry.watch_own(lease)) as own:
            await own.until(lambda events: events)
            await in_thread(network.claim, str(lease.subnet), "1.2.3.4")
            await own.until(lambda events: len(events) == 2)
            assert own.items[1].lease.expires_at is None  # type: ignore[union-attr]  # an Added
        renewed = await registry.renew(lease)
        assert renewed.expires_at is None
        assert server.lease_of(network.key(str(lease.subnet))) == 0

    run(scenario())


def test_an_administrators_reservation_that_does_not_fit_is_left_alone(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        network.claim("10.99.1.0/24", "1.2.3.4")
        lease = await network.registry().acquire(attrs("1.2.3.4"), None)
        assert str(lease.subnet).startswith("10.5.")
        assert "10.99.1.0-24" in network.entries()

    run(scenario())


# ---------------------------------------------------------------- watching


def test_the_exact_key_is_followed_not_its_neighbours(server: EtcdServer) -> None:
    async def scenario() -> None:
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
            assert [event.lease.revision for event in own.items] == [  # type: ignore[union-attr]
                lease.revision,
                renewed.revision,
            ]

    run(scenario())


def test_skipped_entries_are_counted(server: EtcdServer) -> None:
    async def scenario() -> None:
        harness = EtcdHarness(server)
        registry = harness.registry(1)
        async with collecting(registry.watch()) as watch:
            await watch.until(lambda events: events)
            await harness.malformed()
            await harness.registry(2).acquire(harness.attrs(2), None)
            await watch.until(lambda events: len(events) > 1)
        assert registry.counters()["entries_skipped"] == 11
        assert registry.counters()["entries_beside"] == 1

    run(scenario())


def test_nothing_is_asked_per_lease(server: EtcdServer) -> None:
    async def scenario() -> None:
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
        assert registry.counters()["requests"] == 2  # the listing and the watch

    run(scenario())


def test_the_oldest_claim_comes_first_in_a_snapshot(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        for third in (7, 3, 5):
            network.claim(f"10.5.{third}.0/24", "1.1.1.1")
        network.claim("10.5.7.0/24", "1.1.1.1")  # a renewal makes it no younger
        async with collecting(network.registry().watch()) as watch:
            await watch.until(lambda events: events)
            assert list(seen(watch.items)) == ["10.5.7.0/24", "10.5.3.0/24", "10.5.5.0/24"]

    run(scenario())


def test_no_key_but_the_own_one_is_ever_written(server: EtcdServer) -> None:
    async def scenario() -> None:
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

    run(scenario())
