"""A watch that says nothing while its member answers all else: what it holds back is noticed.

host ── OddEtcd (swallows what watches say) ── etcd          others write beside it
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.aio import in_thread, until
from tests.support.etcd import EtcdServer, running
from tests.support.host import PEERS, Host, host_with_peers, new_peer
from tests.support.network import QUICK
from tests.support.oddetcd import OddEtcd, Reply
from udpoverlay.registry.etcd.client import EtcdTimeouts

pytestmark = pytest.mark.etcd

BEFORE = {**PEERS, "10.5.40.0/24": "192.0.2.40"}


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as started:
        yield started


async def swallow(reply: Reply, message: bytes) -> None:
    pass


async def silenced(etcd: EtcdServer) -> tuple[OddEtcd, Host]:
    proxy = OddEtcd(etcd.url)
    await proxy.start()
    timing = replace(QUICK, check_every=0.1, answer=0.5)
    times = EtcdTimeouts(connect=2.0, request=2.0)
    host = await host_with_peers(etcd, endpoints=(proxy.url,), timing=timing, timeouts=times)
    # Routes come with the listing, before the watch is open: what it tells shows that it is.
    await new_peer(host, 40)
    await host.routes(BEFORE)
    proxy.odd, proxy.oddly = swallow, frozenset({True})
    return proxy, host


async def test_lease_that_a_silent_watch_holds_back_is_seen(etcd: EtcdServer) -> None:
    proxy, host = await silenced(etcd)
    added = await new_peer(host)
    await until(lambda: host.count("watch_stalls") >= 1)
    proxy.oddly = frozenset()
    await host.routes({**BEFORE, **added})
    assert host.sink.lost == []


async def test_deletion_that_a_silent_watch_holds_back_is_seen(etcd: EtcdServer) -> None:
    """No key is newer than what we saw: their number tells."""
    proxy, host = await silenced(etcd)
    await in_thread(etcd.delete, host.network.key("10.5.2.0/24"))
    await until(lambda: host.count("watch_stalls") >= 1)
    proxy.oddly = frozenset()
    await until(lambda: host.sink.lost == ["10.5.2.0/24"])


async def test_silent_watch_that_holds_nothing_back_is_left_alone(etcd: EtcdServer) -> None:
    _, host = await silenced(etcd)
    for number in range(5):
        await in_thread(etcd.put, f"/elsewhere/{number}", "x")
    await until(lambda: host.count("watch_checks") >= 4)
    assert host.count("watch_stalls") == 0
    assert host.sink.routes == BEFORE
