"""Ten thousand leases in a real etcd: every one gets its route; requests, tables, memory are few.

How long it takes is measured in bench/bench_registry.py.
"""

from __future__ import annotations

import tracemalloc

import pytest

from tests.support.aio import run
from tests.support.etcd import EtcdServer
from tests.support.network import EtcdNetwork
from tests.support.scale import Loading, big_network

pytestmark = pytest.mark.etcd

LEASES = 10_000
EVENTS = 20


@pytest.fixture(scope="module")
def network(server: EtcdServer) -> EtcdNetwork:
    return big_network(server, LEASES)


def load(network: EtcdNetwork) -> Loading:
    async def load() -> Loading:
        host = Loading(network, LEASES)
        await host.load()
        return host

    return run(load())


def test_ten_thousand_leases_reach_the_data_path_in_one_table(network: EtcdNetwork) -> None:
    host = load(network)
    assert len(host.sink.table) >= LEASES
    assert host.sink.publications == 1


def test_requests_grow_with_pages_not_with_leases(network: EtcdNetwork) -> None:
    requests = load(network).registry.counters()["requests"]
    assert requests < 40  # two listings of eleven pages, and what one start needs


async def test_among_ten_thousand_leases_every_new_one_gets_its_route(network: EtcdNetwork) -> None:
    host = Loading(network, LEASES)
    await host.load()
    before = host.sink.publications
    for number in range(EVENTS):
        await host.routed(await host.claim(number))
    assert host.sink.publications - before <= EVENTS


def test_ten_thousand_leases_cost_little_memory(network: EtcdNetwork) -> None:
    tracemalloc.start()
    try:
        load(network)
        peak = tracemalloc.get_traced_memory()[1] / (1 << 20)
    finally:
        tracemalloc.stop()
    # A daemon starts at about 45 MiB; with this it stays far below 120.
    assert peak < 40, f"{peak:.0f} MiB"
