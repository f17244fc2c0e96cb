"""Calls that are given up, in every way there is, end on etcd's side of the connection too."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.support.aio import until
from tests.support.etcd import EtcdServer
from tests.support.etcdclient import client, patiently, proxy_to
from udpoverlay.errors import RegistryUnavailable
from udpoverlay.registry.etcd.client import EtcdClient, EtcdTimeouts

pytestmark = pytest.mark.etcd


def open_streams(etcd: EtcdClient) -> int:
    """Streams of the only connection that either side has not ended, or that are remembered."""
    [channel] = etcd._channels.values()
    protocol: Any = channel._grpc._protocol
    h2 = protocol.connection._connection
    return int(max(h2.open_outbound_streams, len(protocol.processor.streams)))


async def test_cancelled_requests_leave_no_stream_open(server: EtcdServer) -> None:
    """At random moments: connecting, sending, waiting, reading."""
    rng = random.Random(8)
    proxy = await proxy_to(server.url)
    etcd = client(proxy.url)
    await patiently(etcd)
    for _ in range(100):
        requests = [asyncio.ensure_future(etcd.range(b"/x")) for _ in range(3)]
        for _ in range(rng.randrange(12)):
            await asyncio.sleep(0)
        for request in requests:
            request.cancel()
        await asyncio.wait(requests)
    await until(lambda: open_streams(etcd) == 0)
    await etcd.range(b"/x")
    assert proxy.connections == 1, "the connection outlives its calls"


async def test_requests_that_are_never_answered_leave_no_stream_open(server: EtcdServer) -> None:
    proxy = await proxy_to(server.url)
    etcd = client(proxy.url)
    await patiently(etcd)
    proxy.mute()
    requests = [asyncio.ensure_future(etcd.range(b"/x")) for _ in range(10)]
    await until(lambda: open_streams(etcd) == 10)
    for request in requests:
        request.cancel()
    await until(lambda: open_streams(etcd) == 0)


async def test_closed_watches_leave_no_stream_open(server: EtcdServer) -> None:
    proxy = await proxy_to(server.url)
    etcd = client(proxy.url)
    watches = [await etcd.watch(b"/x", b"", 1) for _ in range(10)]
    assert open_streams(etcd) == 10
    for watch in watches:
        watch.close()
    await until(lambda: open_streams(etcd) == 0)
    # And those whose opening is given up.
    proxy.mute()
    opening = [asyncio.ensure_future(etcd.watch(b"/x", b"", 1)) for _ in range(10)]
    await until(lambda: open_streams(etcd) == 10)
    for each in opening:
        each.cancel()
    await until(lambda: open_streams(etcd) == 0)
    assert proxy.connections == 1


async def test_watch_that_is_not_opened_in_time_leaves_no_stream_open(server: EtcdServer) -> None:
    proxy = await proxy_to(server.url)
    etcd = client(proxy.url, timeouts=EtcdTimeouts(connect=20.0, request=0.2))
    await patiently(etcd)
    proxy.mute()
    with pytest.raises(RegistryUnavailable):
        await etcd.watch(b"/x", b"", 1)
    await until(lambda: open_streams(etcd) == 0)
