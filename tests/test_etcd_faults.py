"""Everything that can happen to an etcd, with real processes: docs/failures.md has a row for each.

In every one: no working peer loses its route, and in the end routes and registry say the same.

    hosts (Control, route sink) ── proxy ── etcd          others write beside the proxy
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.aio import at_end, in_thread, run, until
from tests.support.etcd import EtcdServer, cluster, running
from tests.support.leases import PORT, Sink, subnet
from tests.support.network import QUICK, EtcdNetwork, plain_value
from tests.support.proxy import Proxy
from udpoverlay.control import Control
from udpoverlay.errors import RegistryConflict
from udpoverlay.model.events import Snapshot
from udpoverlay.model.lease import Lease
from udpoverlay.registry.etcd import EtcdRegistry
from udpoverlay.registry.etcd_client import EtcdTimeouts

pytestmark = pytest.mark.etcd

PEERS = {"10.5.1.0/24": "192.0.2.1", "10.5.2.0/24": "192.0.2.2", "10.5.3.0/24": "192.0.2.3"}
HASTY = EtcdTimeouts(connect=1.0, request=1.0)


@pytest.fixture
def server(tmp_path: Any) -> Iterator[EtcdServer]:
    with running(tmp_path) as started:
        yield started


class WatchedSink(Sink):
    """Remembers every route that was ever taken away."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[str] = []

    def replace(self, routes: Any) -> None:
        before = self.routes
        super().replace(routes)
        self.lost += [net for net in before if net not in self.routes]


class Host:
    """One host with its registry, control and sink, following since `start`."""

    def __init__(self, network: EtcdNetwork, number: int, **registry: Any) -> None:
        self.network = network
        self.number = number
        self.sink = WatchedSink()
        self.registry: EtcdRegistry = network.registry(**registry)
        self.control: Control
        self.task: asyncio.Task[None]

    async def start(self, *, margin: float = 3600.0, hold: float = 86400.0) -> None:
        previous = subnet(f"10.5.{100 + self.number}.0/24")
        lease = await self.registry.acquire(self.network.attrs(100 + self.number), previous)
        self.control = Control(
            self.registry, self.sink, lease, port=PORT, renew_margin=margin, hold_seconds=hold
        )
        self.task = asyncio.ensure_future(self.control.run())
        at_end(self.stop)

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, RegistryConflict):
            await self.task

    @property
    def lease(self) -> Lease:
        return self.control.lease

    def count(self, name: str) -> int:
        return self.registry.counters()[name]

    def truth(self) -> dict[str, str]:
        """What the registry says that our routes should be."""
        own = str(self.lease.subnet).replace("/", "-")
        routes = {}
        for key in self.network.entries():
            if key != own:
                value = self.network.value(key) or ""
                routes[key.replace("-", "/")] = value.split('"')[3]
        return routes

    async def routes(self, expected: dict[str, str]) -> None:
        """Wait until the routes are these."""
        await until(lambda: self.alive() and self.sink.routes == expected)

    def alive(self) -> bool:
        if self.task.done():
            self.task.result()
            raise AssertionError("the daemon ended")
        return True

    async def claimed(self) -> None:
        """Wait until etcd has our entry (again)."""
        want = plain_value(str(self.lease.attrs.public_ip))
        while await in_thread(self.network.value, str(self.lease.subnet)) != want:
            self.alive()


async def host_with_peers(
    server: EtcdServer, *, through: Proxy | None = None, **options: Any
) -> Host:
    network = EtcdNetwork(server)
    for net, ip in PEERS.items():
        network.claim(net, ip, server.grant(86400))
    if through is not None:
        options["endpoints"] = (through.url,)
    host = Host(network, 1, **options)
    await host.start()
    await host.routes(PEERS)
    return host


async def proxy_to(server: EtcdServer) -> Proxy:
    proxy = Proxy(server.url)
    await proxy.start()
    at_end(proxy.stop)
    return proxy


@contextlib.asynccontextmanager
async def unreachable(proxy: Proxy) -> AsyncIterator[None]:
    """Nobody gets through the proxy inside the with block."""
    await proxy.stop()
    try:
        yield
    finally:
        await proxy.start()


async def new_peer(host: Host, number: int = 50) -> dict[str, str]:
    """Another host comes; the routes from then on."""
    net, ip = f"10.5.{number}.0/24", f"192.0.2.{number}"
    await in_thread(host.network.claim, net, ip)
    return {net: ip}


async def patiently(host: Host, number: int) -> dict[str, str]:
    """`new_peer`, tried until the cluster has a leader again."""
    while True:
        with contextlib.suppress(OSError):
            return await new_peer(host, number)


# ---------------------------------------------------------------- etcd stops and comes back


def test_killed_and_restarted(server: EtcdServer) -> None:
    async def scenario() -> None:
        host = await host_with_peers(server)
        await in_thread(server.kill)
        await until(lambda: host.count("endpoint_failures") > 2)
        assert host.sink.routes == PEERS
        await in_thread(server.start)
        await host.routes({**PEERS, **await new_peer(host)})
        assert host.sink.lost == []
        assert host.count("watch_snapshots") == 2, "both watches resumed: nothing was listed again"

    run(scenario())


def test_changes_made_while_we_were_cut_off_arrive_one_by_one(server: EtcdServer) -> None:
    async def scenario() -> None:
        proxy = await proxy_to(server)
        host = await host_with_peers(server, through=proxy)
        async with unreachable(proxy):
            await in_thread(server.delete, host.network.key("10.5.2.0/24"))
            added = await new_peer(host)
        await until(lambda: "10.5.50.0/24" in host.sink.routes)
        assert host.sink.routes == {
            "10.5.1.0/24": "192.0.2.1",
            "10.5.3.0/24": "192.0.2.3",
            **added,
        }
        assert host.sink.lost == ["10.5.2.0/24"]
        assert host.count("watch_snapshots") == 2

    run(scenario())


def test_paused_for_longer_than_a_lease_lasts(server: EtcdServer) -> None:
    """etcd stops with SIGSTOP until the term of two hosts is over by every clock."""

    async def scenario() -> None:
        network = EtcdNetwork(server)
        hosts = [Host(network, n, term=3, timeouts=HASTY) for n in (1, 2)]
        for host in hosts:
            await host.start(margin=1.0)
        one, two = hosts
        mine, theirs = str(one.lease.subnet), str(two.lease.subnet)
        await one.routes({theirs: "192.0.2.102"})
        await in_thread(server.pause)
        await until(lambda: all(host.control.expires_in() == 0 for host in hosts))
        assert one.sink.routes == {theirs: "192.0.2.102"}
        await in_thread(server.resume)
        for host in hosts:
            host.control._renew_now()  # rather than wait for the minute between two attempts
        await until(lambda: all((host.control.expires_in() or 0) > 1 for host in hosts))
        await one.routes({theirs: "192.0.2.102"})
        await two.routes({mine: "192.0.2.101"})
        assert (str(one.lease.subnet), str(two.lease.subnet)) == (mine, theirs)

    run(scenario())


# ---------------------------------------------------------------- etcd forgets


def test_wiped(server: EtcdServer) -> None:
    async def scenario() -> None:
        host = await host_with_peers(server)
        await in_thread(server.wipe)
        await host.claimed()
        await until(lambda: host.alive() and host.control.counters()["peers_held"] == 3)
        assert host.sink.routes == PEERS
        # One comes back, one moved, one's subnet is given to another; then all is as registered.
        await in_thread(host.network.claim, "10.5.1.0/24", "192.0.2.1")
        await in_thread(host.network.claim, "10.5.22.0/24", "192.0.2.2")
        await in_thread(host.network.claim, "10.5.3.0/24", "192.0.2.33")
        await until(lambda: host.alive() and host.control.counters()["peers_held"] == 0)
        await host.routes(
            {
                "10.5.1.0/24": "192.0.2.1",
                "10.5.22.0/24": "192.0.2.2",
                "10.5.3.0/24": "192.0.2.33",
            }
        )
        assert host.sink.routes == host.truth()
        assert host.sink.lost == ["10.5.2.0/24"]

    run(scenario())


def test_wiped_before_we_began_to_follow_our_entry(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        host = Host(network, 1)
        lease = await host.registry.acquire(network.attrs(1), None)
        await in_thread(server.wipe)
        event = await host.registry.watch_own(lease).__anext__()
        assert event == Snapshot((), 1, lost_history=True), "no revocation"

    run(scenario())


def test_wiped_and_a_peer_never_comes_back(server: EtcdServer) -> None:
    async def scenario() -> None:
        host = await host_with_peers(server)
        await in_thread(server.wipe)
        await until(lambda: host.alive() and host.control.counters()["peers_held"] == 3)
        now = host.control._clock.now().monotonic
        host.control._apply(host.control._holdover.expire(now + 86401))
        await host.routes({})
        assert host.truth() == {}

    run(scenario())


def test_restored_from_an_older_snapshot(server: EtcdServer) -> None:
    async def scenario() -> None:
        host = await host_with_peers(server)
        backup = await in_thread(server.save)
        # Since then: one peer left, one came, and others' renewals moved the revision on.
        await in_thread(server.delete, host.network.key("10.5.2.0/24"))
        added = await new_peer(host)
        for _ in range(5):
            await in_thread(host.network.claim, "10.5.1.0/24", "192.0.2.1")
        await host.routes({"10.5.1.0/24": "192.0.2.1", "10.5.3.0/24": "192.0.2.3", **added})
        revision = server.revision()
        await in_thread(server.restore, backup)
        assert server.revision() < revision
        # The one who came is kept though this etcd never heard of it; the one who left is back.
        await host.routes({**PEERS, **added})
        assert host.count("watch_history_lost") >= 1
        await host.claimed()
        again = await new_peer(host, 51)
        await host.routes({**PEERS, **added, **again})
        assert host.sink.lost == ["10.5.2.0/24"]
        await in_thread(host.network.claim, "10.5.50.0/24", "192.0.2.50")
        await until(lambda: host.alive() and host.control.counters()["peers_held"] == 0)
        assert host.sink.routes == host.truth()

    run(scenario())


def test_restored_and_overtaken_before_we_looked_again(server: EtcdServer) -> None:
    """The revision is higher than the one we knew, but it counts another history."""

    async def scenario() -> None:
        proxy = await proxy_to(server)
        host = await host_with_peers(server, through=proxy)
        backup = await in_thread(server.save)
        added = await new_peer(host)
        await host.routes({**PEERS, **added})
        revision = server.revision()
        async with unreachable(proxy):
            await in_thread(server.restore, backup)
            await in_thread(server.delete, host.network.key("10.5.3.0/24"))
            for _ in range(20):
                await in_thread(host.network.claim, "10.5.60.0/24", "192.0.2.60")
            assert server.revision() > revision
        await until(lambda: "10.5.60.0/24" in host.sink.routes)
        assert host.count("watch_history_lost") >= 1
        # 10.5.3.0/24 cannot be told from an entry that the restored store never had: it is held.
        assert host.sink.routes == {**PEERS, **added, "10.5.60.0/24": "192.0.2.60"}
        assert host.sink.lost == []

    run(scenario())


def test_compacted_under_the_watch(server: EtcdServer) -> None:
    async def scenario() -> None:
        proxy = await proxy_to(server)
        host = await host_with_peers(server, through=proxy)
        async with unreachable(proxy):
            await in_thread(server.delete, host.network.key("10.5.2.0/24"))
            added = await new_peer(host)
            await in_thread(host.network.claim, "10.5.1.0/24", "192.0.2.11")
            await in_thread(server.compact)
        await until(lambda: "10.5.50.0/24" in host.sink.routes)
        assert host.sink.routes == {
            "10.5.1.0/24": "192.0.2.11",
            "10.5.3.0/24": "192.0.2.3",
            **added,
        }
        assert host.sink.lost == ["10.5.2.0/24"]
        assert host.count("watch_history_lost") == 0, "compaction is no loss"
        assert host.alive()

    run(scenario())


def test_our_entry_deleted_and_compacted_away_is_a_revocation(server: EtcdServer) -> None:
    async def scenario() -> None:
        proxy = await proxy_to(server)
        host = await host_with_peers(server, through=proxy)
        async with unreachable(proxy):
            await in_thread(server.delete, host.network.key(str(host.lease.subnet)))
            await in_thread(server.compact)
        await until(host.task.done)
        assert host.task.exception() is None

    run(scenario())


# ---------------------------------------------------------------- etcd is slow or silent


def test_slow(server: EtcdServer) -> None:
    async def scenario() -> None:
        proxy = await proxy_to(server)
        proxy.delay = 0.2
        host = await host_with_peers(server, through=proxy)
        await host.routes({**PEERS, **await new_peer(host)})
        assert host.count("watch_breaks") == 0

    run(scenario())


def test_a_watch_that_fell_silent_is_noticed_and_opened_again(server: EtcdServer) -> None:
    """Its connection stands and says nothing; requests on other connections are answered."""

    async def scenario() -> None:
        proxy = await proxy_to(server)
        timing = replace(QUICK, check_every=0.1, catch_up=0.2)
        host = await host_with_peers(server, through=proxy, timing=timing)
        await until(lambda: len(proxy.watching()) == 2)  # all leases, and our own
        for number in proxy.watching():
            proxy.muted[number] = asyncio.Event()
        added = await new_peer(host)
        await host.routes({**PEERS, **added})
        assert host.count("watch_stalls") >= 1
        assert host.sink.lost == []
        # A deletion is no newer key, only one key fewer.
        for number in proxy.watching():
            proxy.muted[number] = asyncio.Event()
        await in_thread(server.delete, host.network.key("10.5.50.0/24"))
        await host.routes(PEERS)

    run(scenario())


def test_a_quiet_watch_is_left_alone(server: EtcdServer) -> None:
    async def scenario() -> None:
        timing = replace(QUICK, check_every=0.02, catch_up=0.05)
        host = await host_with_peers(server, timing=timing)
        before = host.count("requests")
        for number in range(10):  # changes elsewhere in the store
            await in_thread(server.put, f"/elsewhere/{number}", "x")
        await until(lambda: host.count("requests") > before + 20)
        assert host.count("watch_stalls") == 0
        assert host.count("watch_breaks") == 0

    run(scenario())


def test_the_leader_dies(tmp_path: Any) -> None:
    async def scenario(members: list[EtcdServer]) -> None:
        urls = tuple(member.url for member in members)
        host = await host_with_peers(members[0], endpoints=urls, timeouts=HASTY)
        host.network.server = members[2]
        expected = dict(PEERS)
        for number, victim in enumerate(members[:2], 60):
            await in_thread(victim.kill)
            expected |= await patiently(host, number)
            await host.routes(expected)
            await in_thread(victim.start)
        assert host.sink.lost == []

    with cluster(tmp_path) as members:
        run(scenario(members), deadline=90)


def test_a_member_cut_off_from_the_others_lets_the_watch_go(tmp_path: Any) -> None:
    """The member we watch still answers TCP, but has no leader; the others are not listed."""

    async def scenario(members: list[EtcdServer]) -> None:
        host = await host_with_peers(members[0], timeouts=HASTY)
        for other in members[1:]:
            await in_thread(other.pause)
        await until(lambda: host.count("watch_breaks") > 0)
        assert host.sink.routes == PEERS
        for other in members[1:]:
            await in_thread(other.resume)
        await host.routes({**PEERS, **await patiently(host, 50)})
        assert host.sink.lost == []

    with cluster(tmp_path) as members:
        run(scenario(members), deadline=90)


def test_lines_in_the_log_do_not_pile_up(
    server: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        proxy = await proxy_to(server)
        timing = replace(QUICK, first_retry=0.001, max_retry=0.001)
        host = await host_with_peers(server, through=proxy, timing=timing)
        async with unreachable(proxy):
            await until(lambda: host.count("watch_breaks") > 200)
        await host.routes(PEERS)

    with caplog.at_level(logging.INFO):
        run(scenario())
    lines = [record.message for record in caplog.records]
    assert lines.count("etcd watch broken") == 10


# ---------------------------------------------------------------- what others write


def test_malformed_and_hostile_values_cost_nobody_a_route(server: EtcdServer) -> None:
    async def scenario() -> None:
        proxy = await proxy_to(server)
        host = await host_with_peers(server, through=proxy)
        hostile = {
            "10.5.70.0-24": "\x00\xff",
            "10.5.71.0-24": "{" * 100_000,
            "10.5.72.0-24": '{"PublicIP":"192.0.2.1\\n192.0.2.2"}',
            "10.5.73.0-24": '{"PublicIP":["192.0.2.1"]}',
            "10.5.74.0-24": '{"PublicIP":"999.0.2.1"}',
            "10.5.75.0-24": '{"PublicIP":"192.0.2.1","PublicIPv6":"zz"}',
            "10.5.76.0-24": '{"PublicIP":1e999}',
            "10.5.77.0-24": '{"PublicIP":"192.0.2.1"}{"PublicIP":"192.0.2.2"}',
            "10.5.1.0-24/deeper": plain_value("192.0.2.66"),
            "10.5.1.7-24": plain_value("192.0.2.66"),
            "evil10.5.1.0-24": plain_value("192.0.2.66"),
            "10.5.1.0-24 ": plain_value("192.0.2.66"),
            "\n10.5.1.0-24": plain_value("192.0.2.66"),
            "x" * 5000: plain_value("192.0.2.66"),
        }
        for key, value in hostile.items():
            await in_thread(server.put, host.network.key("") + key, value)
        added = await new_peer(host)
        await host.routes({**PEERS, **added})
        assert host.count("entries_skipped") >= len(hostile)
        await proxy.cut()
        await in_thread(server.compact)  # the same in a snapshot
        again = await new_peer(host, 51)
        await host.routes({**PEERS, **added, **again})
        assert host.sink.lost == []

    run(scenario())


def test_a_peers_value_that_was_damaged_keeps_its_route(server: EtcdServer) -> None:
    async def scenario() -> None:
        proxy = await proxy_to(server)
        host = await host_with_peers(server, through=proxy)
        await in_thread(server.put, host.network.key("10.5.1.0/24"), "damaged")
        added = await new_peer(host)
        await host.routes({**PEERS, **added})
        async with unreachable(proxy):
            await in_thread(server.compact)
        again = await new_peer(host, 51)
        await host.routes({**PEERS, **added, **again})
        await in_thread(host.network.claim, "10.5.1.0/24", "192.0.2.12")
        await until(lambda: host.sink.routes["10.5.1.0/24"] == "192.0.2.12")
        await in_thread(server.delete, host.network.key("10.5.1.0/24"))
        await until(lambda: "10.5.1.0/24" not in host.sink.routes)
        assert host.sink.lost == ["10.5.1.0/24"]

    run(scenario())


def test_huge_values_fit_neither_a_lease_nor_our_memory(server: EtcdServer) -> None:
    async def scenario() -> None:
        network = EtcdNetwork(server)
        for net, ip in PEERS.items():
            network.claim(net, ip)
        huge = b'{"PublicIP":"192.0.2.66","BackendData":"' + b"x" * 1_400_000 + b'"}'
        for number in range(30):  # 42 MB: more than one reply may have
            server.put(network.key(f"10.5.{150 + number}.0-24"), huge)
        host = Host(network, 1)
        await host.start()
        await host.routes(PEERS)
        await in_thread(server.put, network.key("10.5.199.0-24"), huge)
        await host.routes({**PEERS, **await new_peer(host)})
        assert host.count("entries_skipped") >= 31

    run(scenario())


def test_duplicate_and_overlapping_claims(server: EtcdServer) -> None:
    async def scenario() -> None:
        host = await host_with_peers(server)
        own = str(host.lease.subnet)
        inside_ours = own.replace("0/24", "128/25")
        for net in ("10.5.1.0/25", "10.5.0.0/20", "10.0.0.0/8", inside_ours, "10.5.2.64/26"):
            await in_thread(host.network.claim, net, "192.0.2.66")
        # The same subnet under a second, dual-stack key; and a second subnet of one host.
        await in_thread(host.network.claim, "10.5.2.0-24&fd00::-64", "192.0.2.66")
        await in_thread(host.network.claim, "10.5.90.0/24", "192.0.2.1")
        await host.routes({**PEERS, "10.5.90.0/24": "192.0.2.1"})
        await until(lambda: host.alive() and host.control.counters()["leases_waiting"] == 6)
        # When the rightful one leaves, the range is free for who waits.
        await in_thread(server.delete, host.network.key("10.5.2.0/24"))
        await until(
            lambda: (
                host.sink.routes.get("10.5.2.64/26") == "192.0.2.66"
                or host.sink.routes.get("10.5.2.0/24") == "192.0.2.66"
            )
        )

    run(scenario())


def test_our_own_subnet_claimed_by_another_host(
    server: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        host = await host_with_peers(server)
        await in_thread(host.network.claim, str(host.lease.subnet), "192.0.2.66")
        await until(host.task.done)
        with pytest.raises(RegistryConflict, match=r"192\.0\.2\.66"):
            host.task.result()
        assert host.network.value(str(host.lease.subnet)) == plain_value("192.0.2.66")

    run(scenario())


def test_our_entry_is_deleted_by_an_administrator(server: EtcdServer) -> None:
    async def scenario() -> None:
        host = await host_with_peers(server)
        await in_thread(server.delete, host.network.key(str(host.lease.subnet)))
        await until(host.task.done)
        assert host.task.exception() is None
        assert host.network.value(str(host.lease.subnet)) is None, "not claimed again"

    run(scenario())


def test_all_leases_deleted_by_an_administrator_are_gone(server: EtcdServer) -> None:
    """An etcd that is told to forget did not lose its memory."""

    async def scenario() -> None:
        host = await host_with_peers(server)
        for net in PEERS:
            await in_thread(server.delete, host.network.key(net))
        await host.routes({})
        assert host.control.counters()["peers_held"] == 0

    run(scenario())


def test_a_user_whose_token_is_refused_gets_a_new_one(server: EtcdServer) -> None:
    async def scenario() -> None:
        for command in (
            "user add root:rootpass",
            "user grant-role root root",
        ):
            server.etcdctl(*command.split())
        host = Host(EtcdNetwork(server), 1, username="root", password="rootpass")
        await host.start()
        server.etcdctl("auth", "enable")
        proxyless = host.registry._client
        proxyless._token = "ranout.1"
        await in_thread(server.restart)
        grant = ("--user=root:rootpass", "put", host.network.key("10.5.50.0-24"))
        await in_thread(server.etcdctl, *grant, plain_value("192.0.2.50"))
        await host.routes({"10.5.50.0/24": "192.0.2.50"})

    run(scenario(), deadline=90)
