"""Everything that can happen to an etcd, with real processes: docs/failures.md has a row for each.

In every one: no working peer loses its route, and in the end routes and registry say the same.

    hosts (Control, route sink) ── proxy ── etcd          others write beside the proxy
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.aio import in_thread, until
from tests.support.etcd import EtcdServer, cluster, grpc_proxy, running
from tests.support.host import (
    HASTY,
    PEERS,
    Host,
    host_with_peers,
    new_peer,
    patiently,
    proxy_to,
    unreachable,
)
from tests.support.network import QUICK, EtcdNetwork, plain_value
from udpoverlay.model.events import Snapshot
from udpoverlay.registry.etcd.client import EtcdTimeouts
from udpoverlay.registry.etcd.watch import FollowTiming

pytestmark = pytest.mark.etcd

SECONDS = 25.0
"""What a frozen member may cost: a check of the watch, its answer, an election, a slow machine."""


@pytest.fixture
def server(tmp_path: Any, binary: str) -> Iterator[EtcdServer]:
    with running(tmp_path, binary=binary) as started:
        yield started


# ---------------------------------------------------------------- etcd stops and comes back


async def test_killed_and_restarted(server: EtcdServer) -> None:
    host = await host_with_peers(server)
    await in_thread(server.kill)
    await until(lambda: host.count("endpoint_failures") > 2)
    assert host.sink.routes == PEERS
    await in_thread(server.start)
    await host.routes({**PEERS, **await new_peer(host)})
    assert host.sink.lost == []
    assert host.count("watch_snapshots") == 2, "both watches resumed: nothing was listed again"


async def test_changes_made_while_we_were_cut_off_arrive_one_by_one(server: EtcdServer) -> None:
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


async def test_paused_for_longer_than_a_lease_lasts(server: EtcdServer) -> None:
    """etcd stops with SIGSTOP until the term of two hosts is over by every clock."""

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


# ---------------------------------------------------------------- etcd forgets


async def test_wiped(server: EtcdServer) -> None:
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


async def test_wiped_before_we_began_to_follow_our_entry(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    host = Host(network, 1)
    lease = await host.registry.acquire(network.attrs(1), None)
    await in_thread(server.wipe)
    event = await host.registry.watch_own(lease).__anext__()
    assert event == Snapshot((), 1, lost_history=True), "no revocation"


async def test_wiped_and_a_peer_never_comes_back(server: EtcdServer) -> None:
    host = await host_with_peers(server)
    await in_thread(server.wipe)
    await until(lambda: host.alive() and host.control.counters()["peers_held"] == 3)
    await host.control._drop_overdue(host.control._clock.monotonic() + 86401)
    await host.routes({})
    assert host.truth() == {}


async def test_restored_from_an_older_snapshot(server: EtcdServer) -> None:
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


async def test_restored_and_overtaken_before_we_looked_again(server: EtcdServer) -> None:
    """The revision is higher than the one we knew, but it counts another history."""

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


async def test_compacted_under_the_watch(server: EtcdServer) -> None:
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


async def test_our_entry_deleted_and_compacted_away_is_a_revocation(server: EtcdServer) -> None:
    proxy = await proxy_to(server)
    host = await host_with_peers(server, through=proxy)
    async with unreachable(proxy):
        await in_thread(server.delete, host.network.key(str(host.lease.subnet)))
        await in_thread(server.compact)
    await until(host.task.done)
    assert host.task.exception() is None


# ---------------------------------------------------------------- etcd is slow or silent


async def test_slow(server: EtcdServer) -> None:
    proxy = await proxy_to(server)
    proxy.delay = 0.2
    host = await host_with_peers(server, through=proxy)
    await host.routes({**PEERS, **await new_peer(host)})
    assert host.count("watch_breaks") == 0


async def test_a_watch_that_fell_silent_is_noticed_and_opened_again(server: EtcdServer) -> None:
    """Its connection stands and says nothing; a new one works."""

    proxy = await proxy_to(server)
    timing = replace(QUICK, check_every=0.1, answer=0.2)
    host = await host_with_peers(server, through=proxy, timing=timing)
    proxy.mute()
    added = await new_peer(host)
    await host.routes({**PEERS, **added})
    assert host.count("watch_stalls") >= 1
    assert host.sink.lost == []
    proxy.mute()
    await in_thread(server.delete, host.network.key("10.5.50.0/24"))
    await host.routes(PEERS)


async def test_a_quiet_watch_is_left_alone(server: EtcdServer) -> None:
    timing = replace(QUICK, check_every=0.02)
    host = await host_with_peers(server, timing=timing)
    for number in range(10):  # changes elsewhere in the store
        await in_thread(server.put, f"/elsewhere/{number}", "x")
    before = host.count("requests")
    await until(lambda: host.count("watch_checks") > 20)
    assert host.count("requests") == before, "the watch itself was asked"
    assert host.count("watch_stalls") == 0
    assert host.count("watch_breaks") == 0


async def test_a_proxy_that_knows_no_progress_request_is_used(server: EtcdServer) -> None:
    """etcd's own gRPC proxy: silence is no reason to leave it, a change that it holds back is."""

    timing = replace(QUICK, check_every=0.05, answer=0.2)
    with grpc_proxy(server) as url:
        host = await host_with_peers(server, endpoints=(url,), timing=timing)
        await until(lambda: host.count("watch_checks") > 3)
        assert host.count("watch_stalls") == 0
        assert host.count("watch_breaks") == 0
        await host.routes({**PEERS, **await new_peer(host)})


@pytest.mark.deadline(90)
async def test_the_leader_dies(tmp_path: Any, binary: str) -> None:
    with cluster(tmp_path, binary=binary) as members:
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


@pytest.mark.deadline(90)
async def test_a_member_cut_off_from_the_others_lets_the_watch_go(
    tmp_path: Any, binary: str
) -> None:
    """The member we watch still answers TCP, but has no leader; the others are not listed."""

    with cluster(tmp_path, binary=binary) as members:
        host = await host_with_peers(members[0], timeouts=HASTY)
        for other in members[1:]:
            await in_thread(other.pause)
        await until(lambda: host.count("watch_breaks") > 0)
        assert host.sink.routes == PEERS
        for other in members[1:]:
            await in_thread(other.resume)
        await host.routes({**PEERS, **await patiently(host, 50)})
        assert host.sink.lost == []


@pytest.mark.parametrize("role", ["leader", "follower"])
@pytest.mark.deadline(110)
async def test_a_frozen_member_costs_seconds(tmp_path: Any, binary: str, role: str) -> None:
    """SIGSTOP: its connections stand and say nothing. With the daemon's own times."""

    with cluster(tmp_path, binary=binary) as members:
        leads = [await in_thread(member.is_leader) for member in members]
        victim = members[leads.index(role == "leader")]
        others = [member for member in members if member is not victim]
        urls = tuple(member.url for member in (victim, *others))
        host = await host_with_peers(
            others[0], endpoints=urls, timing=FollowTiming(), timeouts=EtcdTimeouts()
        )
        expected = dict(PEERS)
        frozen = victim
        for number in (60, 61):  # then the one that served meanwhile, and the first serves again
            await in_thread(frozen.pause)
            host.network.server = next(each for each in members if each is not frozen)
            expected |= await patiently(host, number)
            started = time.monotonic()
            await host.routes(expected)
            await host.registry.renew(host.lease)
            took = time.monotonic() - started
            assert took < SECONDS, f"{took:.0f} s"
            await in_thread(frozen.resume)
            frozen = next(
                each
                for each in members
                if each.url == host.registry._client.endpoints[host.registry._client._preferred]
            )
        assert host.sink.lost == []


async def test_lines_in_the_log_do_not_pile_up(
    server: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        proxy = await proxy_to(server)
        timing = replace(QUICK, first_retry=0.001, max_retry=0.001)
        host = await host_with_peers(server, through=proxy, timing=timing)
        async with unreachable(proxy):
            await until(lambda: host.count("watch_breaks") > 200)
        await host.routes(PEERS)
    lines = [record.message for record in caplog.records]
    assert lines.count("etcd watch broken") == 10


@pytest.mark.deadline(90)
async def test_a_user_whose_token_is_refused_gets_a_new_one(server: EtcdServer) -> None:
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
