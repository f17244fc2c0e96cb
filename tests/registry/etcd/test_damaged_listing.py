"""An entry that is damaged when everything is listed again: its peer keeps its route."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.aio import in_thread
from tests.support.etcd import EtcdServer, running
from tests.support.host import PEERS, host_with_peers, new_peer, proxy_to, unreachable

pytestmark = pytest.mark.etcd

DAMAGED = [
    "",
    "damaged",
    "{}x",
    '{"PublicIP":"192.0.2.',
    '{"PublicIP":7}',
    '{"PublicIP":"::1"}',
    "\x00\xff",
    "x" * 100_000,
]


@pytest.fixture
def server(tmp_path: Path, binary: str) -> Iterator[EtcdServer]:
    with running(tmp_path, binary=binary) as started:
        yield started


async def test_damaged_entry_of_a_listing_costs_its_peer_nothing(server: EtcdServer) -> None:
    proxy = await proxy_to(server)
    host = await host_with_peers(server, through=proxy)
    key = host.network.key("10.5.2.0/24")
    routes = dict(PEERS)
    for number, value in enumerate(DAMAGED):
        snapshots = host.count("watch_snapshots")
        async with unreachable(proxy):
            await in_thread(server.put, key, value)
            routes |= await new_peer(host, 50 + number)
            await in_thread(server.compact)  # so that resuming is impossible
        await host.routes(routes)
        assert host.count("watch_snapshots") > snapshots, "nothing was listed again"
    assert host.sink.lost == []
    await in_thread(host.network.claim, "10.5.2.0/24", "192.0.2.22")
    await host.routes({**routes, "10.5.2.0/24": "192.0.2.22"})
    await in_thread(server.delete, key)
    del routes["10.5.2.0/24"]
    await host.routes(routes)
