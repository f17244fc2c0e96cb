"""What leases cost on their way from etcd into the data path, by their number.

Needs an etcd; the others of this directory need none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from bench.conftest import Measure
from tests.support.aio import run
from tests.support.etcd import EtcdServer, running
from tests.support.leases import lease
from tests.support.network import EtcdNetwork
from tests.support.scale import Loading, TableSink, big_network
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.events import Added, Snapshot
from udpoverlay.model.leasetable import LeaseTable
from udpoverlay.model.routeplan import RoutePlan
from udpoverlay.registry.etcd_entries import LeaseReader, Paths
from udpoverlay.registry.etcd_json import KeyValue

COUNTS = [100, 1000, 10_000]
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


def entries(count: int) -> list[KeyValue]:
    paths = Paths("/net")
    return [
        KeyValue(
            paths.range_start + f"/10.{n // 250}.{n % 250}.0-24".encode(),
            f'{{"PublicIP":"192.0.{n // 250}.{n % 250}","PublicIPv6":null}}'.encode(),
            n + 1,
            n + 1,
            1,
            n + 1,
        )
        for n in range(count)
    ]


def reader() -> LeaseReader:
    limited = RateLimited(get_logger(__name__), lambda: 0.0)
    return LeaseReader(Paths("/net"), Counter(), limited, lambda _: None)


@pytest.mark.parametrize("count", COUNTS)
def test_reading_entries(measure: Measure, count: int) -> None:
    """Keys and values to leases: the part that runs in Python for every entry of a listing."""
    kvs = entries(count)
    leases = measure(lambda: asyncio.run(reader().all(kvs)), packets=count, unit="lease")
    assert len(leases) == count


@pytest.mark.parametrize("count", COUNTS)
def test_one_change_among_many(measure: Measure, count: int) -> None:
    """A host moves: table, plan and publication, which is what delays its first packet."""
    leases = asyncio.run(reader().all(entries(count)))
    table, plan, sink = LeaseTable(OWN), RoutePlan(OWN.subnet, 8285), TableSink()
    plan.apply(table.apply(Snapshot(leases)))
    sink.replace(plan.routes)
    turn = [0]

    def change() -> None:
        turn[0] ^= 1
        moved = lease("11.0.0.0/24", f"192.0.2.{turn[0]}")
        assert plan.apply(table.apply(Added(moved)))
        sink.replace(plan.routes)

    measure(change, packets=1, unit="change")
