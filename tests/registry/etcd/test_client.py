"""Requests to real etcd servers: fail-over, time-outs, what is not etcd."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from tests.support.aio import in_thread
from tests.support.etcd import EtcdServer, cluster, free_port
from tests.support.etcdclient import HASTY, client, nowhere, patiently, proxy_to
from tests.support.network import EtcdNetwork
from tests.support.patience import DEADLINE
from udpoverlay.errors import OperatorError, RegistryUnavailable
from udpoverlay.registry.etcd.client import EtcdTimeouts, parse_endpoints
from udpoverlay.registry.etcd.errors import status_error

# ---------------------------------------------------------------- endpoints


@pytest.mark.parametrize(
    "text",
    ["", "http://", "ftp://host:1", "http://host:port", "http://host:99999", "unix:///run/etcd"],
)
def test_a_malformed_endpoint_is_named(text: str) -> None:
    with pytest.raises(OperatorError, match="etcd-endpoints"):
        parse_endpoints([text], tls=False)


def test_no_endpoint_at_all_is_an_error() -> None:
    with pytest.raises(OperatorError, match="etcd-endpoints is empty"):
        parse_endpoints([], tls=False)


def test_credentials_in_an_endpoint_are_not_kept() -> None:
    assert parse_endpoints(["http://me:secret@host:2379/"], tls=False) == ("http://host:2379",)


@pytest.mark.etcd
async def test_a_dead_endpoint_costs_one_attempt_only(server: EtcdServer) -> None:
    etcd = client(nowhere(), server.url)
    await etcd.range(b"/x")
    await etcd.range(b"/x")
    assert etcd.counters["endpoint_failures"] == 1
    assert etcd.counters["requests"] == 3


@pytest.mark.etcd
async def test_an_endpoint_that_accepts_and_says_nothing_is_left(server: EtcdServer) -> None:
    deaf = await proxy_to(server.url)
    deaf.deaf = True
    etcd = client(deaf.url, server.url, timeouts=HASTY)
    await patiently(etcd)
    stream = await etcd.watch(b"/x", b"", 1)
    assert stream.endpoint == server.url
    stream.close()


@pytest.mark.etcd
async def test_an_endpoint_that_was_left_is_not_asked_first(server: EtcdServer) -> None:
    proxy = await proxy_to(server.url)
    etcd = client(proxy.url, server.url)
    await etcd.range(b"/x")
    proxy.mute()
    proxy.deaf = True
    etcd.leave(proxy.url)
    assert etcd.endpoint == server.url
    etcd.leave(proxy.url)
    await etcd.range(b"/x")
    assert etcd.endpoint == server.url
    assert etcd.counters["endpoint_failures"] == 0


async def test_connection_that_is_being_made_is_closed_with_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def and_wait(*args: Any, **options: Any) -> None:
        await connect(*args, **options)
        await asyncio.Event().wait()

    async def end_of(peer: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            while await loop.sock_recv(peer, 65536):
                pass

    with socket.create_server(("127.0.0.1", free_port())) as listener:
        listener.setblocking(False)
        monkeypatch.setattr(loop, "create_connection", and_wait)
        etcd = client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        asking = asyncio.ensure_future(etcd.range(b"/x"))
        with (await loop.sock_accept(listener))[0] as peer:
            peer.setblocking(False)
            await etcd.aclose()
            await asyncio.wait_for(end_of(peer), DEADLINE)
        asking.cancel()


@pytest.mark.etcd
async def test_a_request_without_an_answer_ends_the_watch_on_a_mute_connection(
    server: EtcdServer,
) -> None:
    """Rather than that the watch finds out by itself, many seconds later."""
    proxy = await proxy_to(server.url)
    etcd = client(proxy.url, server.url, timeouts=HASTY)
    await patiently(etcd)
    etcd._preferred = 0
    stream = await etcd.watch(b"/x", b"", 1)
    assert stream.endpoint == proxy.url
    await stream.read()
    proxy.mute()
    await etcd.range(b"/x")
    with pytest.raises(RegistryUnavailable):
        await asyncio.wait_for(stream.read(), 1.0)


@pytest.mark.etcd
async def test_an_endpoint_slower_than_the_time_out_is_left(server: EtcdServer) -> None:
    slow = await proxy_to(server.url)
    slow.delay = 5.0
    etcd = client(slow.url, server.url, timeouts=HASTY)
    await patiently(etcd)
    assert etcd.counters["endpoint_failures"] >= 1


@pytest.mark.etcd
async def test_a_slow_endpoint_that_answers_in_time_is_fine(server: EtcdServer) -> None:
    slow = await proxy_to(server.url)
    slow.delay = 0.05
    etcd = client(slow.url)
    await etcd.range(b"/x")
    assert etcd.counters["endpoint_failures"] == 0


@pytest.mark.etcd
async def test_a_connection_cut_between_two_requests_is_not_an_error(server: EtcdServer) -> None:
    proxy = await proxy_to(server.url)
    etcd = client(proxy.url)
    await etcd.range(b"/x")
    await proxy.cut()
    await etcd.range(b"/x")


@pytest.mark.etcd
async def test_a_cancellation_in_the_moment_of_a_failure_is_not_lost(server: EtcdServer) -> None:
    """Who stops a follower must not find that it took the failure for all there was."""

    proxy = await proxy_to(server.url)
    etcd = client(proxy.url)
    for _ in range(50):
        await patiently(etcd)
        proxy.mute()
        request = asyncio.ensure_future(etcd.range(b"/x"))
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        etcd.leave(etcd.endpoint)
        request.cancel()
        await asyncio.wait({request})
        assert request.cancelled()


async def test_when_all_endpoints_are_dead_each_is_named() -> None:
    one, two = nowhere(), nowhere()
    with pytest.raises(RegistryUnavailable) as caught:
        await client(one, two).range(b"/x")
    assert one in str(caught.value)
    assert two in str(caught.value)


@pytest.mark.etcd
async def test_a_write_whose_reply_got_lost_is_done_once(server: EtcdServer) -> None:
    """The first endpoint carries the renewal out, but its answer never arrives."""

    network = EtcdNetwork(server)
    proxy = await proxy_to(server.url)
    registry = network.registry(
        endpoints=(proxy.url, server.url), timeouts=EtcdTimeouts(connect=2.0, request=2.0)
    )
    lease = await registry.acquire(network.attrs(1), None)
    before = server.revision()
    for number in range(1, proxy.connections + 50):
        proxy.muted[number] = asyncio.Event()
    renewed = await registry.renew(lease)
    assert server.lease_of(network.key(str(lease.subnet))) == renewed.registry_lease
    assert server.revision() == before + 1


@pytest.mark.etcd
async def test_one_of_three_members_down_and_one_cut_off(tmp_path: Any, binary: str) -> None:
    with cluster(tmp_path, binary=binary) as members:
        etcd = client(*(member.url for member in members))
        await patiently(etcd)
        await in_thread(members[0].kill)
        await patiently(etcd)
        await in_thread(members[1].kill)
        # The last one has lost its quorum: it may answer nothing from memory.
        with pytest.raises(RegistryUnavailable):
            await etcd.range(b"/x")
        await in_thread(members[0].start, wait=False)
        await patiently(etcd)


# ---------------------------------------------------------------- what is not etcd


async def test_another_web_server_is_not_etcd() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    port = free_port()
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        with pytest.raises(RegistryUnavailable, match="client port"):
            await client(f"http://127.0.0.1:{port}").range(b"/x")


def test_a_full_database_is_named_with_its_fix() -> None:
    error = status_error("http://e:1", 8, "etcdserver: mvcc: database space exceeded")
    assert "alarm disarm" in error.fix
    assert "database space exceeded" in error.what
    assert not isinstance(error, RegistryUnavailable)
