"""What leases cost on their way from etcd into the data path, by their number.

Needs an etcd; the others of this directory need none.
"""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from netaddr import IPNetwork
from pytest_benchmark.fixture import BenchmarkFixture

from bench.conftest import Measure
from tests.support.aio import run
from tests.support.etcd import EtcdServer, running
from tests.support.leases import attrs, lease, peers_for, subnet
from tests.support.network import EtcdNetwork
from tests.support.scale import Loading, TableSink, big_network
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.acquire import Listing, decide
from udpoverlay.model.events import Added, Snapshot
from udpoverlay.model.lease import Lease
from udpoverlay.model.netconf import NetConf
from udpoverlay.registry.etcd.entries import LeaseReader, Paths
from udpoverlay.registry.etcd.values import (
    KeyValue,
)

COUNTS = [100, 1000, 10_000]
EVENTS = 100
OWN = lease("172.16.0.0/24", "172.16.0.1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as started:
        yield started


@pytest.fixture(scope="module")
def networks(server: EtcdServer) -> dict[int, EtcdNetwork]:
    return {count: big_network(server, count) for count in COUNTS}


@pytest.mark.etcd
@pytest.mark.parametrize("count", COUNTS)
def test_cold_start(measure: Measure, networks: dict[int, EtcdNetwork], count: int) -> None:
    """From nothing to every route in the table: listing, reading, deciding, publishing."""

    async def load() -> None:
        await Loading(networks[count], count).load()

    measure(lambda: run(load()), packets=count, unit="lease")


@pytest.mark.etcd
@pytest.mark.parametrize("count", COUNTS)
def test_an_event(
    benchmark: BenchmarkFixture, networks: dict[int, EtcdNetwork], count: int
) -> None:
    """From a host's put until its route is in the table of another one."""

    async def follow() -> list[float]:
        host = Loading(networks[count], count)
        await host.load()
        # As the daemon: full collections leave alone what was there at the beginning.
        gc.collect()
        gc.freeze()
        try:
            seconds = []
            for number in range(EVENTS):
                started = time.perf_counter()
                await host.routed(await host.claim(number))
                seconds.append(time.perf_counter() - started)
        finally:
            gc.unfreeze()
        return sorted(seconds)

    seconds = benchmark.pedantic(lambda: run(follow()), rounds=1)  # type: ignore[no-untyped-call]  # no types
    benchmark.extra_info["p50_ms"] = round(seconds[EVENTS // 2] * 1e3, 3)
    benchmark.extra_info["p99_ms"] = round(seconds[EVENTS * 99 // 100 - 1] * 1e3, 3)


@pytest.mark.parametrize("count", COUNTS)
def test_choosing_a_subnet(measure: Measure, count: int) -> None:
    """What a start decides on a listing: our own entry, the previous subnet, a free one."""
    leases = read(entries(count))
    conf = NetConf(network=IPNetwork("10.0.0.0/8")).validated()
    us, taken = attrs("172.16.0.1"), subnet("10.0.3.0/24")
    rng = random.Random(1)
    measure(lambda: decide(Listing(leases), us, taken, conf, rng), packets=count, unit="lease")


def entries(count: int) -> list[KeyValue]:
    paths = Paths("/net")
    return [
        KeyValue(
            paths.leases.key + f"/10.{n // 250}.{n % 250}.0-24".encode(),
            f'{{"PublicIP":"192.0.{n // 250}.{n % 250}","PublicIPv6":null}}'.encode(),
            n + 1,
            n + 1,
            1,
            n + 1,
        )
        for n in range(count)
    ]


def read(kvs: list[KeyValue]) -> tuple[Lease, ...]:
    limited = RateLimited(get_logger(__name__), lambda: 0.0)
    listed = LeaseReader(Paths("/net"), Counter(), limited, lambda _: None).listing()
    for kv in kvs:
        listed.add(kv)
    return listed.by_age()


@pytest.mark.parametrize("count", COUNTS)
def test_reading_entries(measure: Measure, count: int) -> None:
    """Keys and values to leases: the part that runs in Python for every entry of a listing."""
    kvs = entries(count)
    leases = measure(lambda: read(kvs), packets=count, unit="lease")
    assert len(leases) == count


@pytest.mark.parametrize("count", COUNTS)
def test_one_change_among_many(measure: Measure, count: int) -> None:
    """A host moves: peers and publication, which is what delays its first packet."""
    leases = read(entries(count))
    peers, sink = peers_for(OWN, "10.0.0.0/8"), TableSink()
    peers.apply(Snapshot(leases), 0.0)
    sink.replace(peers.routes)
    turn = [0]

    def change() -> None:
        turn[0] ^= 1
        moved = lease("10.200.0.0/24", f"192.0.2.{1 + turn[0]}")
        assert peers.apply(Added(moved), 0.0).routes
        sink.replace(peers.routes)

    measure(change, packets=1, unit="change")


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("overlapping", [False, True], ids=["disjoint", "overlapping"])
def test_a_snapshot(measure: Measure, count: int, overlapping: bool) -> None:
    """All leases at once; overlapping: each is claimed a second time, by a narrower range."""
    leases = read(entries(count))
    if overlapping:
        narrower = (
            lease(f"{one.subnet.v4.ip}/25", str(one.attrs.public_ip))
            for one in leases
            if one.subnet.v4 is not None
        )
        leases = (*leases, *narrower)
    measure(
        lambda: peers_for(OWN, "10.0.0.0/8").apply(Snapshot(leases), 0.0),
        packets=len(leases),
        unit="lease",
    )
