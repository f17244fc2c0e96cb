"""Claiming and renewing in a real etcd: flannel's order, races, reservations."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.aio import at_end, collecting, in_thread
from tests.support.clock import FakeClock
from tests.support.etcd import EtcdServer
from tests.support.leases import attrs, subnet
from tests.support.network import EtcdNetwork
from udpoverlay.errors import OutOfSubnets, RegistryConflict
from udpoverlay.model.config import EtcdConfig
from udpoverlay.registry.etcd.registry import EtcdRegistry

pytestmark = pytest.mark.etcd


# ---------------------------------------------------------------- acquiring


OTHERS = ("10.3.1.0/24", "10.3.2.0/24", "10.3.4.0/24", "10.3.5.0/24", "10.3.31.0/24")


def acquiring_network(server: EtcdServer) -> EtcdNetwork:
    network = EtcdNetwork(
        server, Network="10.3.0.0/16", SubnetMin="10.3.1.0", SubnetMax="10.3.25.0"
    )
    for other in OTHERS:
        network.claim(other, "1.1.1.1")
    return network


async def test_flannels_own_acquire_vector(server: EtcdServer) -> None:
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


@pytest.mark.parametrize(
    ("previous", "taken"),
    [("10.3.6.0/24", True), ("10.4.1.0/24", False), ("10.3.5.0/24", False)],
)
async def test_the_previous_subnet_is_taken_when_it_is_free_and_fits(
    server: EtcdServer, previous: str, taken: bool
) -> None:
    network = acquiring_network(server)
    lease = await network.registry().acquire(attrs("1.2.3.4"), subnet(previous))
    assert (str(lease.subnet) == previous) is taken
    assert network.value("10.3.5.0/24") == '{"PublicIP":"1.1.1.1","PublicIPv6":null}'


async def test_a_lost_race_is_tried_again_with_another_subnet(server: EtcdServer) -> None:
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


async def test_a_lost_race_leaves_no_etcd_lease_behind(server: EtcdServer) -> None:
    def leases() -> int:
        reply = server.call("/lease/leases", {})
        found = reply.get("leases", [])
        assert isinstance(found, list)
        return len(found)

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


async def test_a_full_network_is_out_of_subnets(server: EtcdServer) -> None:
    network = EtcdNetwork(server, Network="10.5.0.0/22", SubnetLen=24)
    for third in (1, 2, 3):
        network.claim(f"10.5.{third}.0/24", "1.1.1.1")
    with pytest.raises(OutOfSubnets):
        await network.registry().acquire(attrs("1.2.3.4"), None)


async def test_a_subnet_whose_entry_cannot_be_read_is_not_free(server: EtcdServer) -> None:
    network = EtcdNetwork(server, Network="10.5.0.0/22", SubnetLen=24)
    server.put(network.key("10.5.1.0-24"), "damaged")
    server.put(network.key("10.5.2.1-24"), '{"PublicIP":"1.1.1.1"}')
    lease = await network.registry().acquire(attrs("1.2.3.4"), None)
    assert str(lease.subnet) == "10.5.3.0/24"
    assert network.value("10.5.1.0-24") == "damaged"


# ---------------------------------------------------------------- renewing


async def test_a_renewal_hangs_the_entry_on_a_new_etcd_lease(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    registry = network.registry()
    lease = await registry.acquire(attrs("1.2.3.4"), None)
    renewed = await registry.renew(lease)
    key = network.key(str(lease.subnet))
    assert server.lease_of(key) == renewed.registry_lease != lease.registry_lease
    # The old one runs out by itself with nothing on it.
    reply = server.call("/lease/timetolive", {"ID": str(lease.registry_lease), "keys": True})
    assert "keys" not in reply


async def test_a_value_damaged_by_somebody_is_written_again(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    registry = network.registry()
    lease = await registry.acquire(attrs("1.2.3.4"), None)
    server.put(network.key(str(lease.subnet)), "damaged")
    renewed = await registry.renew(lease)
    assert network.value(str(lease.subnet)) == '{"PublicIP":"1.2.3.4","PublicIPv6":null}'
    assert renewed.expires_at is not None, "damage is no reservation"


async def test_flanneld_renewing_our_entry_is_still_us(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    registry = network.registry()
    lease = await registry.acquire(attrs("1.2.3.4"), None)
    network.claim(str(lease.subnet), "1.2.3.4", server.grant(86400))
    assert (await registry.renew(lease)).subnet == lease.subnet


async def test_the_term_that_somebody_else_gave_our_entry_is_asked_for(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    clock = FakeClock()
    now = clock.monotonic()
    registry = network.registry(clock=clock)
    lease = await registry.acquire(attrs("1.2.3.4"), None)
    assert lease.expires_at == now + 86400
    async with collecting(registry.watch_own(lease)) as own:
        await own.until(lambda events: events)
        grant = await in_thread(server.grant, 5000)
        await in_thread(network.claim, str(lease.subnet), "1.2.3.4", grant)
        await own.until(lambda events: len(events) == 2)
        expires_at = own.items[1].lease.expires_at  # type: ignore[union-attr]  # an Added
        assert expires_at == pytest.approx(now + 5000, abs=60)


# ---------------------------------------------------------------- reservations


async def test_a_reservation_survives_start_and_renewal(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    network.claim("10.5.33.0/24", "1.2.3.4")
    registry = network.registry()
    lease = await registry.acquire(attrs("1.2.3.4"), None)
    assert (str(lease.subnet), lease.expires_at) == ("10.5.33.0/24", None)
    assert server.lease_of(network.key("10.5.33.0-24")) == 0
    lease = await registry.renew(lease)
    assert server.lease_of(network.key("10.5.33.0-24")) == 0
    assert lease.expires_at is None


async def test_a_lease_turned_into_a_reservation_stays_one(server: EtcdServer) -> None:
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


async def test_an_administrators_reservation_that_does_not_fit_is_left_alone(
    server: EtcdServer,
) -> None:
    network = EtcdNetwork(server)
    network.claim("10.99.1.0/24", "1.2.3.4")
    lease = await network.registry().acquire(attrs("1.2.3.4"), None)
    assert str(lease.subnet).startswith("10.5.")
    assert "10.99.1.0-24" in network.entries()
