"""Replies that no etcd sends: none ends the daemon, none costs a working peer its route.

A host follows a real etcd through a proxy that answers oddly for a while: its watches, then all
other requests. Each time all is as before afterwards: a lease that comes then is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.aio import in_thread, until
from tests.support.etcd import EtcdServer, running
from tests.support.etcdclient import client, patiently
from tests.support.host import PEERS, Host, host_with_peers, new_peer
from tests.support.network import QUICK, plain_value
from tests.support.oddetcd import HEADERS, Odd, OddEtcd, Reply, framed
from udpoverlay.errors import RegistryError
from udpoverlay.registry.etcd.client import EtcdClient, EtcdTimeouts
from udpoverlay.registry.etcd.messages import (
    WATCH,
    delete_op,
    get_op,
    if_absent,
    put_op,
)
from udpoverlay.registry.etcd.wire import bytes_field, fields, int_field

pytestmark = pytest.mark.etcd

TIMES = EtcdTimeouts(connect=2.0, request=2.0)
ODDITIES = 3
"""How many messages of watches are odd before all is well, and then how many other replies."""


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as started:
        yield started


# ---------------------------------------------------------------- what a reply can be


def changed(change: Callable[[bytes], bytes]) -> Odd:
    async def odd(reply: Reply, message: bytes) -> None:
        await reply.message(change(message))

    return odd


def raw(data: bytes) -> Odd:
    async def odd(reply: Reply, _: bytes) -> None:
        await reply.raw(data)

    return odd


def status(code: str) -> Odd:
    async def odd(reply: Reply, _: bytes) -> None:
        await reply.status(code)

    return odd


def headers(*more: tuple[str, str], status: str = "200") -> Odd:
    async def odd(reply: Reply, message: bytes) -> None:
        await reply.headers([(":status", status), *more])
        await reply.message(message)
        await reply.trailers()

    return odd


def data(payload: Callable[[bytes], bytes]) -> Odd:
    async def odd(reply: Reply, message: bytes) -> None:
        await reply.data(payload(message))

    return odd


async def bytewise(reply: Reply, message: bytes) -> None:
    for byte in framed(message):
        await reply.data(bytes([byte]))


async def nothing(reply: Reply, _: bytes) -> None:
    await reply.trailers()


async def silence(reply: Reply, _: bytes) -> None:
    await asyncio.Event().wait()


async def no_status(reply: Reply, message: bytes) -> None:
    await reply.message(message)
    await reply.trailers([("x", "y")])


async def twice(reply: Reply, message: bytes) -> None:
    await reply.message(message)
    await reply.message(message)


async def cut_off(reply: Reply, message: bytes) -> None:
    await reply.data(framed(message)[:-1] if message else framed(b"x")[:-1])
    await reply.trailers()


async def reset(reply: Reply, _: bytes) -> None:
    await reply.reset()


async def hang_up(reply: Reply, message: bytes) -> None:
    await reply.data(framed(message)[:3])
    reply.hang_up()


async def go_away(reply: Reply, _: bytes) -> None:
    reply.h2.close_connection(11, b"enhance_your_calm")
    await reply.flush()


async def push(reply: Reply, message: bytes) -> None:
    # A PUSH_PROMISE for stream 2, which a client that did not ask for it must refuse.
    await reply.raw(b"\0\0\x05\x05\x04" + reply.stream.to_bytes(4, "big") + b"\0\0\0\x02\x88")
    await reply.message(message)


async def informational(reply: Reply, message: bytes) -> None:
    await reply.headers([(":status", "103"), ("link", "x")])
    await reply.message(message)


async def pings(reply: Reply, _: bytes) -> None:
    ping = b"\0\0\x08\x06\0\0\0\0\0" + b"abcdefgh"
    for _turn in range(50):
        await reply.raw(ping * 100)


async def messages_without_end(reply: Reply, _: bytes) -> None:
    if reply.method != WATCH:
        await reply.status("14")
        return
    for _turn in range(5_000):
        await reply.message(b"")


async def headers_without_end(reply: Reply, _: bytes) -> None:
    stream = reply.stream.to_bytes(4, "big")
    field = b"\0\x01a\x7f\x81\xff\x7f" + b"x" * 16_000
    await reply.raw(len(field).to_bytes(3, "big") + b"\x01\0" + stream + field)
    for _turn in range(200):
        await reply.raw(len(field).to_bytes(3, "big") + b"\x09\0" + stream + field)


async def settings_without_end(reply: Reply, _: bytes) -> None:
    await reply.raw((b"\0\0\x06\x04\0\0\0\0\0" + b"\0\x04\0\0\xff\xff") * 10_000)


def garbage(seed: int) -> Odd:
    rng = random.Random(seed)

    async def odd(reply: Reply, _: bytes) -> None:
        await reply.raw(rng.randbytes(rng.randrange(1, 300)))

    return odd


def flipped(seed: int) -> Odd:
    rng = random.Random(seed)

    async def odd(reply: Reply, message: bytes) -> None:
        body = bytearray(message or b"\0")
        for _ in range(rng.randrange(1, 4)):
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        # The last field that matters is gone as well: what was flipped shall not pass for a lease.
        await reply.message(bytes(body)[: len(body) // 2])

    return odd


DEEP = bytes_field(1, b"\x0a" * 3000)
HEADER = bytes_field(1, int_field(1, 7) + int_field(3, 5))
NO_KEY = bytes_field(11, bytes_field(2, int_field(3, 5)))
FOREIGN = bytes_field(11, bytes_field(2, bytes_field(1, b"/elsewhere") + int_field(3, 5)))

REPLIES: dict[str, Odd] = {
    "empty": changed(lambda _: b""),
    "header alone": changed(lambda _: HEADER),
    "half": changed(lambda message: message[: len(message) // 2]),
    "text": changed(lambda _: b'{"header":null,"kvs":[1e999]}'),
    "zeros": changed(lambda _: bytes(200)),
    "deep": changed(lambda _: DEEP),
    "huge revision": changed(lambda _: bytes_field(1, int_field(3, (1 << 63) - 1))),
    "negative revision": changed(lambda _: bytes_field(1, int_field(3, -1))),
    "event without a key": changed(lambda _: HEADER + NO_KEY),
    "event of a foreign key": changed(lambda _: HEADER + FOREIGN),
    "a million empty events": changed(lambda _: HEADER + b"\x5a\0" * 1_000_000),
    "a million empty entries": changed(lambda _: HEADER + b"\x12\0" * 1_000_000),
    "more without an end": changed(lambda _: HEADER + int_field(3, 1)),
    "4 GB announced": data(lambda message: framed(message, length=(1 << 32) - 1)),
    "20 MB": data(lambda _: framed(b"", length=20 << 20) + bytes(1 << 20)),
    "compressed": data(lambda message: framed(message, compressed=1)),
    "byte by byte": bytewise,
    "no message": nothing,
    "no answer": silence,
    "no status": no_status,
    "two messages": twice,
    "cut off": cut_off,
    "reset": reset,
    "hang up": hang_up,
    "go away": go_away,
    "push": push,
    "informational": informational,
    "pings without end": pings,
    "settings without end": settings_without_end,
    "messages without end": messages_without_end,
    "headers without end": headers_without_end,
    "HTTP/1": raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "a frame too large": raw(b"\xff\xff\xff\0\0\0\0\0\x01"),
    "a frame of an unknown kind": raw(b"\0\0\x01\xee\0\0\0\0\x01x"),
    "ALTSVC": raw(b"\0\0\x06\x0a\0\0\0\0\0\0\x03a=b"),
    "404": headers(("content-type", "text/html"), status="404"),
    "503": headers(status="503"),
    "status of 300 digits": headers(("content-type", "application/grpc"), status="9" * 300),
    "no content type": headers(),
    "another content type": headers(("content-type", "application/json")),
    "metadata that is no base64": headers(*HEADERS[1:], ("x-bin", "é=!")),
    **{f"status {code}": status(code) for code in (*map(str, range(1, 17)), "99", "-1", "1e999")},
    **{f"garbage {seed}": garbage(seed) for seed in range(4)},
    **{f"flipped {seed}": flipped(seed) for seed in range(4)},
}


async def odd_host(etcd: EtcdServer) -> tuple[OddEtcd, Host]:
    proxy = OddEtcd(etcd.url)
    await proxy.start()
    timing = replace(QUICK, check_every=0.5, answer=0.5)
    host = await host_with_peers(etcd, endpoints=(proxy.url,), timeouts=TIMES, timing=timing)
    return proxy, host


@pytest.mark.parametrize("name", REPLIES)
async def test_an_odd_reply_ends_nothing(etcd: EtcdServer, name: str) -> None:
    proxy, host = await odd_host(etcd)
    proxy.odd = REPLIES[name]
    expected = dict(PEERS)
    for number, watches in enumerate((True, False), 50):
        proxy.oddly, proxy.oddities = frozenset({watches}), 0
        while host.alive() and proxy.oddities < ODDITIES:
            await in_thread(host.network.claim, "10.5.1.0/24", "192.0.2.1")
            if not watches:
                with contextlib.suppress(RegistryError):
                    await host.registry.renew(host.lease)
        proxy.oddly = frozenset()
        expected |= await new_peer(host, number)
        await host.routes(expected)
    assert host.sink.lost == []
    await host.registry.renew(host.lease)


def requests(etcd: EtcdClient) -> dict[str, Coroutine[Any, Any, Any]]:
    key = b"/test/odd/x"
    return {
        "range": etcd.range(b"/test/", b"/test0", limit=5),
        "txn": etcd.txn([if_absent(key)], [put_op(key, b"", 0)], [get_op(key)]),
        "grant": etcd.grant(77, 100),
        "time to live": etcd.time_to_live(77),
        "revoke": etcd.revoke(77),
        "watch": etcd.watch(b"/test/", b"/test0", 1),
    }


@pytest.mark.parametrize("name", REPLIES)
async def test_an_odd_reply_to_any_request_is_a_value_or_one_error(
    etcd: EtcdServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As at the start of a daemon, before anything is followed."""
    proxy = OddEtcd(etcd.url)
    await proxy.start()
    proxy.odd, proxy.oddly = REPLIES[name], frozenset({True, False})
    made = client(proxy.url, timeouts=EtcdTimeouts(connect=2.0, request=0.3))
    for request in requests(made).values():
        with contextlib.suppress(RegistryError):
            await request
    assert proxy.oddities
    proxy.oddly = frozenset()
    assert await patiently(made) > 0
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def once(proxy: OddEtcd, name: bytes, odd: Odd) -> None:
    """Answer oddly where a watch tells of a key with `name` in it, and from then on well."""

    async def picky(reply: Reply, message: bytes) -> None:
        if name in message:
            proxy.oddly = frozenset()
            await odd(reply, message)
        else:
            await reply.message(message)

    proxy.odd, proxy.oddly = picky, frozenset({True})


async def test_changes_in_the_message_that_cancels_the_watch_are_handed_on(
    etcd: EtcdServer,
) -> None:
    proxy, host = await odd_host(etcd)
    before = host.count("watch_snapshots")
    once(proxy, b"10.5.50.0", changed(lambda message: message + int_field(4, 1)))
    added = await new_peer(host)
    await host.routes({**PEERS, **added})
    assert host.count("watch_breaks") > 0
    assert host.count("watch_snapshots") == before, "nothing was listed again"


async def test_an_event_that_cannot_be_read_is_found_by_listing(etcd: EtcdServer) -> None:
    """It says nothing, so the watch cannot go on after it: what it told is in the listing."""

    proxy, host = await odd_host(etcd)
    before = host.count("watch_snapshots")
    once(proxy, b"10.5.50.0", REPLIES["event without a key"])
    added = await new_peer(host)
    await host.routes({**PEERS, **added})
    assert host.count("watch_snapshots") == before + 1
    later = await new_peer(host, 51)
    await host.routes({**PEERS, **added, **later})


async def first_half_of_a_revision(reply: Reply, message: bytes) -> None:
    events = [message[at:end] for tag, at, end in fields(message) if tag == 0x5A]
    if len(events) > 1:
        await reply.message(HEADER + bytes_field(11, events[0]) + int_field(7, 1))
    reply.hang_up()


async def test_a_watch_that_breaks_within_a_revision_misses_nothing(etcd: EtcdServer) -> None:
    """Two leases come in one transaction; the message with the second one never arrives."""

    proxy, host = await odd_host(etcd)
    before = host.count("watch_snapshots")
    once(proxy, b"10.5.60.0", first_half_of_a_revision)
    both = {"10.5.60.0/24": "192.0.2.60", "10.5.61.0/24": "192.0.2.61"}
    puts = [
        put_op(host.network.key(net).encode(), plain_value(ip).encode(), 0)
        for net, ip in both.items()
    ]
    await client(etcd.url).txn([], puts)
    await host.routes({**PEERS, **both})
    assert host.count("watch_snapshots") == before, "nothing was listed again"


async def test_an_event_whose_key_is_no_text_is_a_point_to_resume_from(etcd: EtcdServer) -> None:
    """The last change before the watch breaks; a lease that comes meanwhile is seen after it."""
    proxy, host = await odd_host(etcd)
    before = host.count("watch_snapshots")
    skipped = host.count("entries_skipped")
    keys = [host.network.key("").encode() + name for name in (b"\xff\xfe", b"1\xff", b"\x80/")]
    for key in keys:
        await client(etcd.url).txn([], [put_op(key, b"\xff", 0)])
    await until(lambda: host.count("entries_skipped") >= skipped + 1)
    once(proxy, b"10.5.50.0", hang_up)
    added = await new_peer(host)
    await host.routes({**PEERS, **added})
    assert host.count("watch_snapshots") == before, "nothing was listed again"
    for key in keys:
        await client(etcd.url).txn([], [delete_op(key)])
    later = await new_peer(host, 51)
    await host.routes({**PEERS, **added, **later})
