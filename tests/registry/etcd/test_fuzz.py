"""Whatever bytes come from an etcd: a value, or a registry's error, and never anything else.

UDPOVERLAY_FUZZ_SECONDS makes each of these run longer than the moment that it usually takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.aio import at_end, run
from tests.support.etcd import EtcdServer, free_port, running
from tests.support.etcdclient import client
from tests.support.mutate import mutated
from udpoverlay.errors import RegistryError
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.registry.etcd import messages as m
from udpoverlay.registry.etcd.client import EtcdTimeouts
from udpoverlay.registry.etcd.entries import LeaseReader, Paths
from udpoverlay.registry.etcd.values import RangeReply, WatchReply
from udpoverlay.registry.etcd.wire import bytes_field, int_field

SECONDS = float(os.environ.get("UDPOVERLAY_FUZZ_SECONDS", "0.3"))
PREFIX = b"/net/subnets/"
END = b"/net/subnets0"


def entry(number: int, **more: int) -> bytes:
    """A key-value pair as etcd sends it."""
    revision = more.get("revision", 10 + number)
    return (
        bytes_field(1, PREFIX + f"10.5.{number}.0-24".encode())
        + int_field(2, 5)
        + int_field(3, revision)
        + int_field(4, 3)
        + bytes_field(5, f'{{"PublicIP":"192.0.2.{number}","PublicIPv6":null}}'.encode())
        + int_field(6, 7_587_884_738_383 + number)
    )


HEADER = bytes_field(
    1, int_field(1, 1 << 63) + int_field(2, 9) + int_field(3, 99) + int_field(4, 2)
)
RANGE = HEADER + b"".join(bytes_field(2, entry(n)) for n in range(1, 6)) + int_field(4, 5)
TXN = HEADER + int_field(2, 1) + bytes_field(3, bytes_field(2, HEADER))
LOST = HEADER + bytes_field(3, bytes_field(1, bytes_field(2, entry(1))))
GRANT = HEADER + int_field(2, 77) + int_field(3, 86400)
LEFT = HEADER + int_field(2, 77) + int_field(3, 86399) + int_field(4, 86400) + bytes_field(5, b"k")
TOKEN = HEADER + bytes_field(2, b"abcdefgh.17")
EVENTS = HEADER + b"".join(
    bytes_field(11, int_field(1, n % 2) + bytes_field(2, entry(n))) for n in range(1, 5)
)
CANCELED = HEADER + int_field(4, 1) + int_field(5, 7) + bytes_field(6, b"why") + int_field(7, 1)
KEY = PREFIX + b"10.5.1.0-24"
PUT, GET = [m.put_op(KEY, b"", 0)], [m.get_op(KEY)]

READERS: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "range": (RANGE, lambda data: m.range_reply(data, PREFIX, END, limit=5)),
    "txn": (TXN, lambda data: m.txn_reply(data, PUT, GET)),
    "lost txn": (LOST, lambda data: m.txn_reply(data, PUT, GET)),
    "grant": (GRANT, lambda data: m.grant_reply(data, 77)),
    "time to live": (LEFT, m.time_to_live_reply),
    "revoke": (HEADER, m.revoke_reply),
    "authenticate": (TOKEN, m.authenticate_reply),
    "watch": (EVENTS, lambda data: m.watch_reply(data, PREFIX, END)),
    "canceled": (CANCELED, lambda data: m.watch_reply(data, PREFIX, END)),
}
SEEDS = [seed for seed, _ in READERS.values()]


@pytest.mark.parametrize("name", READERS)
def test_what_etcd_sends_is_read(name: str) -> None:
    seed, read = READERS[name]
    read(seed)


def paths_and_reader() -> LeaseReader:
    limited = RateLimited(get_logger(__name__), lambda: 0.0)
    return LeaseReader(Paths("/net"), Counter(), limited, lambda _: None)


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_message_is_a_value_or_one_error(name: str) -> None:
    seed, read = READERS[name]
    rng = random.Random(name)
    reader = paths_and_reader()
    accepted = refused = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        data = mutated(seed, rng, SEEDS)
        try:
            reply = read(data)
        except m.BadMessage:
            refused += 1
            continue
        accepted += 1
        if isinstance(reply, RangeReply):
            listed = reader.listing()
            for kv in reply.kvs:
                listed.add(kv)
            reader.adopt(listed)
        elif isinstance(reply, WatchReply):
            for event in reply.events:
                reader.deleted(event.kv.key) if event.deleted else reader.put(event.kv)
    assert accepted + refused > 20


@pytest.mark.parametrize("name", READERS)
def test_random_bytes_are_a_value_or_one_error(name: str) -> None:
    _, read = READERS[name]
    rng = random.Random(name)
    end = time.monotonic() + SECONDS / 2
    while time.monotonic() < end:
        try:
            read(rng.randbytes(rng.randrange(80)))
        except m.BadMessage:
            continue


def test_a_message_of_a_million_fields_holds_nobody_up() -> None:
    for tag in (b"\x12\0", b"\x5a\0", b"\x1a\0", b"\x7a\0", b"\x78\0"):
        for name, (_, read) in READERS.items():
            started = time.process_time()
            with pytest.raises(m.BadMessage):
                read(HEADER + tag * 1_000_000)
            assert time.process_time() - started < 0.5, name


# ---------------------------------------------------------------- whole connections


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """What a real etcd sends on a connection with a read and a watch."""
    with running(tmp_path_factory.mktemp("etcd")) as server:
        return run(_record(server))


async def _record(server: EtcdServer) -> list[bytes]:
    server.put("/net/subnets/10.5.1.0-24", '{"PublicIP":"192.0.2.1"}')
    chunks: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, onward = await asyncio.open_connection("127.0.0.1", server.port)

        async def copy() -> None:
            while data := await back.read(65536):
                chunks.append(data)
                writer.write(data)

        copying = asyncio.ensure_future(copy())
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                onward.write(data)
        copying.cancel()
        for each in (onward, writer):
            each.transport.abort()

    url = await listening(serve)
    await use(url)
    return chunks


async def listening(serve: Any) -> str:
    port = free_port()
    server = await asyncio.start_server(serve, "127.0.0.1", port)

    async def stop() -> None:
        server.close()

    at_end(stop)
    return f"http://127.0.0.1:{port}"


async def use(url: str) -> None:
    """One read, one watch with its events."""
    etcd = client(url, timeouts=EtcdTimeouts(connect=0.2, request=0.2))
    try:
        await etcd.range(PREFIX, END)
        stream = await etcd.watch(PREFIX, END, 1)
        try:
            await asyncio.wait_for(stream.read(), 0.2)
        except asyncio.TimeoutError:
            pass
        finally:
            stream.close()
    finally:
        await etcd.aclose()


@pytest.mark.etcd
@pytest.mark.deadline(60 + SECONDS * 4)
async def test_a_damaged_connection_is_a_value_or_one_error(recorded: list[bytes]) -> None:
    rng = random.Random(8)
    whole = b"".join(recorded)

    def pieces() -> Iterator[bytes]:
        if rng.randrange(2):  # each reply to its request, one of them damaged
            damaged = rng.randrange(len(recorded) + 1)
            for number, chunk in enumerate(recorded):
                yield mutated(chunk, rng, recorded) if number == damaged else chunk
            return
        data = mutated(whole, rng, recorded)
        while data:
            size = rng.randrange(1, len(data) + 1)
            yield data[:size]
            data = data[size:]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces():
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(65536), 0.01)
            if writer.transport.is_closing():
                return
            writer.write(piece)
        writer.close()

    url = await listening(serve)
    ended: Counter[str] = Counter()
    end = time.monotonic() + SECONDS * 3
    while time.monotonic() < end or len(ended) < 2:
        try:
            await use(url)
            ended["well"] += 1
        except RegistryError as error:
            ended[type(error).__name__] += 1
    assert sum(ended.values()) > 3
