"""Requests to real etcd servers: fail-over, authentication, what is not a gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from tests.support.aio import at_end, in_thread, run
from tests.support.etcd import EtcdServer, cluster, free_port, running
from tests.support.network import PATIENT, EtcdNetwork
from tests.support.proxy import Proxy
from udpoverlay.errors import OperatorError, RegistryDenied, RegistryError, RegistryUnavailable
from udpoverlay.model.config import EtcdConfig
from udpoverlay.registry.etcd_client import EtcdClient, EtcdTimeouts, parse_endpoints
from udpoverlay.registry.etcd_errors import EtcdNoGateway, reply_error
from udpoverlay.registry.etcd_json import if_absent, prefix_end, put_op

HASTY = EtcdTimeouts(connect=2.0, request=2.0)
"""For endpoints that will not answer; a healthy one may need a second try."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as started:
        yield started


def client(*endpoints: str, timeouts: EtcdTimeouts = PATIENT, **config: Any) -> EtcdClient:
    made = EtcdClient(EtcdConfig(endpoints=endpoints, **config), timeouts=timeouts)
    at_end(made.aclose)
    return made


async def proxy_to(url: str) -> Proxy:
    proxy = Proxy(url)
    await proxy.start()
    at_end(proxy.stop)
    return proxy


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


async def patiently(etcd: EtcdClient, key: bytes = b"/x", deadline: float = 30.0) -> int:
    """Read until it works, as callers do; the revision."""
    end = time.monotonic() + deadline
    while True:
        try:
            return (await etcd.range(key)).header.revision
        except RegistryUnavailable:
            assert time.monotonic() < end, "no endpoint answers"


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
def test_a_dead_endpoint_costs_one_attempt_only(server: EtcdServer) -> None:
    async def scenario() -> None:
        etcd = client(nowhere(), server.url)
        await etcd.range(b"/x")
        await etcd.range(b"/x")
        assert etcd.counters["endpoint_failures"] == 1
        assert etcd.counters["requests"] == 3

    run(scenario())


@pytest.mark.etcd
def test_an_endpoint_that_accepts_and_says_nothing_is_left(server: EtcdServer) -> None:
    async def scenario() -> None:
        deaf = await proxy_to(server.url)
        deaf.deaf = True
        etcd = client(deaf.url, server.url, timeouts=HASTY)
        await patiently(etcd)
        stream = await etcd.watch(b"/x", b"", 1)
        assert stream.endpoint == server.url
        stream.close()

    run(scenario())


@pytest.mark.etcd
def test_an_endpoint_slower_than_the_time_out_is_left(server: EtcdServer) -> None:
    async def scenario() -> None:
        slow = await proxy_to(server.url)
        slow.delay = 5.0
        etcd = client(slow.url, server.url, timeouts=HASTY)
        await patiently(etcd)
        assert etcd.counters["endpoint_failures"] >= 1

    run(scenario())


@pytest.mark.etcd
def test_a_slow_endpoint_that_answers_in_time_is_fine(server: EtcdServer) -> None:
    async def scenario() -> None:
        slow = await proxy_to(server.url)
        slow.delay = 0.05
        etcd = client(slow.url)
        await etcd.range(b"/x")
        assert etcd.counters["endpoint_failures"] == 0

    run(scenario())


@pytest.mark.etcd
def test_a_connection_cut_between_two_requests_is_not_an_error(server: EtcdServer) -> None:
    async def scenario() -> None:
        proxy = await proxy_to(server.url)
        etcd = client(proxy.url)
        await etcd.range(b"/x")
        await proxy.cut()
        await etcd.range(b"/x")

    run(scenario())


def test_when_all_endpoints_are_dead_each_is_named() -> None:
    async def scenario() -> None:
        one, two = nowhere(), nowhere()
        with pytest.raises(RegistryUnavailable) as caught:
            await client(one, two).range(b"/x")
        assert one in str(caught.value)
        assert two in str(caught.value)

    run(scenario())


@pytest.mark.etcd
def test_a_write_whose_reply_got_lost_is_done_once(server: EtcdServer) -> None:
    """The first endpoint carries the renewal out, but its answer never arrives."""

    async def scenario() -> None:
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

    run(scenario())


@pytest.mark.etcd
def test_one_of_three_members_down_and_one_cut_off(tmp_path: Any) -> None:
    async def scenario(members: list[EtcdServer]) -> None:
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

    with cluster(tmp_path) as members:
        run(scenario(members))


# ---------------------------------------------------------------- authentication


@pytest.fixture
def secured(tmp_path: Any) -> Iterator[EtcdServer]:
    """etcd with users: root, and flannel who may read and write /net only."""
    with running(tmp_path) as started:
        started.put("/net/config", '{"Network":"10.5.0.0/16"}')
        for command in (
            "user add root:rootpass",
            "user grant-role root root",
            "user add flannel:open,sesame",
            "role add net",
            "role grant-permission net --prefix=true readwrite /net",
            "user grant-role flannel net",
            "auth enable",
        ):
            started.etcdctl(*command.split())
        yield started


def root(server: EtcdServer, *args: str) -> None:
    server.etcdctl("--user=root:rootpass", *args)


@pytest.mark.etcd
def test_a_user_gets_a_lease_and_follows_it(secured: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(secured, prefix="/net")
        registry = network.registry(username="flannel", password="open,sesame")
        lease = await registry.acquire(network.attrs(1), None)
        watch = registry.watch()
        event = await watch.__anext__()
        assert [found.subnet for found in event.leases] == [lease.subnet]  # type: ignore[union-attr]
        await watch.aclose()  # type: ignore[attr-defined]  # it is a generator

    run(scenario())


@pytest.mark.etcd
def test_a_token_that_etcd_does_not_know_any_more_is_replaced(secured: EtcdServer) -> None:
    async def scenario() -> None:
        etcd = client(secured.url, username="flannel", password="open,sesame")
        await etcd.range(b"/net/x")
        assert etcd.counters["authentications"] == 1
        etcd._token = "ranout.1"
        await etcd.range(b"/net/x")
        assert etcd.counters["authentications"] == 2
        stream = await etcd.watch(b"/net/", prefix_end(b"/net/"), 1)
        assert (await stream.read())[0].created
        stream.close()

    run(scenario())


@pytest.mark.etcd
def test_a_token_from_the_future_of_a_restored_etcd_is_given_up(secured: EtcdServer) -> None:
    """etcd does not answer a token whose log index it has not reached."""

    async def scenario() -> None:
        etcd = client(secured.url, timeouts=HASTY, username="flannel", password="open,sesame")
        etcd._token = "restored.1000000"
        await patiently(etcd, b"/net/x")
        assert etcd.counters["authentications"] >= 1

    run(scenario())


@pytest.mark.etcd
def test_changed_users_and_roles_need_no_restart(secured: EtcdServer) -> None:
    async def scenario() -> None:
        etcd = client(secured.url, username="flannel", password="open,sesame")
        await etcd.range(b"/net/x")
        await in_thread(root, secured, "user", "add", "other:pass")
        await etcd.txn([if_absent(b"/net/y")], [put_op(b"/net/y", b"1", 0)])

    run(scenario())


def denial(url: str, **config: Any) -> str:
    async def scenario() -> None:
        await client(url, **config).range(b"/elsewhere")

    with pytest.raises(RegistryDenied) as caught:
        run(scenario())
    assert caught.value.fix
    return str(caught.value)


@pytest.mark.etcd
def test_every_refusal_of_a_user_has_its_fix(secured: EtcdServer) -> None:
    assert "etcd-username and etcd-password" in denial(secured.url)
    assert "common name does not count" in denial(secured.url)
    wrong = denial(secured.url, username="flannel", password="hunter2")
    assert "refused the user name or password" in wrong
    assert "hunter2" not in wrong
    assert "refused the user name" in denial(secured.url, username="nobody", password="x")
    foreign = denial(secured.url, username="flannel", password="open,sesame")
    assert "role grant-permission" in foreign


@pytest.mark.etcd
def test_a_user_name_where_authentication_is_off_is_harmless(server: EtcdServer) -> None:
    async def scenario() -> None:
        etcd = client(server.url, username="flannel", password="open,sesame")
        await etcd.range(b"/x")
        await etcd.range(b"/x")
        assert etcd.counters["authentications"] == 1

    run(scenario())


def test_a_password_never_shows() -> None:
    config = EtcdConfig(username="me", password="open,sesame")
    assert "sesame" not in repr(config)
    with pytest.raises(RegistryError) as caught:
        run(client_of(config).range(b"/x"))
    assert "sesame" not in repr(caught.value) + str(caught.value)


def client_of(config: EtcdConfig) -> EtcdClient:
    dead = EtcdConfig(endpoints=(nowhere(),), username=config.username, password=config.password)
    made = EtcdClient(dead)
    at_end(made.aclose)
    return made


# ---------------------------------------------------------------- what is not a gateway


@pytest.mark.etcd
def test_an_etcd_without_its_gateway_is_named(tmp_path: Any) -> None:
    async def scenario(url: str) -> None:
        with pytest.raises(EtcdNoGateway, match=r"etcd 3.*--enable-grpc-gateway") as caught:
            await client(url).range(b"/x")
        assert caught.value.fix

    with running(tmp_path, flags=["--enable-grpc-gateway=false"]) as bare:
        run(scenario(bare.url))


@pytest.mark.etcd
def test_the_peer_port_is_not_the_client_port(server: EtcdServer) -> None:
    async def scenario() -> None:
        # The peer port has /version too, so it answers like an etcd without its gateway.
        with pytest.raises(RegistryError, match=r"gateway|2379 is etcd's client port"):
            await client(server.peer_url).range(b"/x")

    run(scenario())


async def web_server(handler: Any) -> str:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    at_end(runner.cleanup)
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return f"http://127.0.0.1:{port}"


def test_another_web_server_is_not_etcd() -> None:
    async def scenario() -> None:
        async def missing(_: web.Request) -> web.Response:
            return web.Response(status=404, text="nothing here")

        with pytest.raises(RegistryUnavailable, match="is not etcd's client port"):
            await client(await web_server(missing)).range(b"/x")

    run(scenario())


@pytest.mark.parametrize("text", ["", "[]", "hello", '{"header":', "[" * 100_000])
def test_an_answer_that_is_not_etcds_is_refused(text: str) -> None:
    async def scenario() -> None:
        async def odd(_: web.Request) -> web.Response:
            return web.Response(text=text, content_type="application/json")

        with pytest.raises(RegistryUnavailable):
            await client(await web_server(odd)).range(b"/x")

    run(scenario())


def test_etcd_3_3_has_its_gateway_elsewhere() -> None:
    """Only the path differs; a binary that old is not to be had for every machine."""

    async def scenario() -> None:
        paths = []

        async def old(request: web.Request) -> web.Response:
            paths.append(request.path)
            if not request.path.startswith("/v3beta/"):
                return web.Response(status=404, text="404 page not found")
            return web.json_response({"header": {"revision": "7"}})

        etcd = client(await web_server(old))
        assert (await etcd.range(b"/x")).header.revision == 7
        assert (await etcd.range(b"/x")).header.revision == 7
        assert paths == ["/v3/kv/range", "/v3beta/kv/range", "/v3beta/kv/range"]

    run(scenario())


def test_a_full_database_is_named_with_its_fix() -> None:
    error = reply_error("http://e:1", 429, 8, "etcdserver: mvcc: database space exceeded")
    assert "alarm disarm" in error.fix
    assert not isinstance(error, RegistryUnavailable)
