"""What a peer may make a connection hold: answers not taken, messages not read."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.support.aio import at_end, until
from tests.support.etcd import EtcdServer
from tests.support.etcdclient import client
from udpoverlay.errors import RegistryUnavailable
from udpoverlay.registry.etcd import channel, grpc
from udpoverlay.registry.etcd.messages import put_op

PING = b"\0\0\x08\x06\0\0\0\0\0" + b"abcdefgh"
PINGS = 400_000


async def test_peer_that_asks_and_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ping wants an answer of 17 bytes."""
    monkeypatch.setattr(grpc, "_MOST_UNSENT", 1 << 16)
    sent = 0

    async def serve(connection: socket.socket) -> None:
        nonlocal sent
        loop = asyncio.get_running_loop()
        h2 = H2Connection(H2Configuration(client_side=False))
        h2.initiate_connection()
        with contextlib.suppress(OSError):
            await loop.sock_sendall(connection, h2.data_to_send())
            for _ in range(PINGS // 100):
                await loop.sock_sendall(connection, PING * 100)
                sent += 100

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.setblocking(False)
    accepted: list[socket.socket] = []

    async def accept() -> None:
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        accepted.append(connection)
        await serve(connection)

    serving = asyncio.ensure_future(accept())

    async def stop() -> None:
        serving.cancel()
        for each in (listener, *accepted):
            each.close()

    at_end(stop)
    etcd = client(f"http://127.0.0.1:{listener.getsockname()[1]}")
    with pytest.raises(RegistryUnavailable):
        await etcd._channel(etcd.endpoint).unary("/x/y", b"", {}, timeout=1.0, most=1000)
    await serving
    assert 0 < sent < PINGS, "it was not hung up on"


@pytest.mark.etcd
async def test_messages_that_are_not_read_wait_at_the_peer(server: EtcdServer) -> None:
    etcd = client(server.url)
    watch = await etcd.watch(b"/big", b"", 1)
    for _ in range(24):
        await etcd.txn([], [put_op(b"/big", bytes(1_000_000), 0)])
    call = watch._call
    await until(lambda: call._waiting > channel._MOST_WAITING)
    for _ in range(200):  # time enough for all 24 MB
        await etcd.range(b"/small")
    assert call._waiting < channel._MOST_WAITING + 2_100_000
    events = 0
    while events < 24:
        events += sum(len(reply.events) for reply in await watch.read())
    watch.close()
