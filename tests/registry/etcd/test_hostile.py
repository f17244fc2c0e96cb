"""What others write into etcd, by mistake or on purpose: docs/failures.md has a row for each.

In every one: no working peer loses its route, and in the end routes and registry say the same.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.aio import in_thread, run, until
from tests.support.etcd import EtcdServer, running
from tests.support.etcdclient import client
from tests.support.host import (
    PEERS,
    Host,
    host_with_peers,
    new_peer,
    proxy_to,
    unreachable,
)
from tests.support.network import EtcdNetwork, plain_value
from udpoverlay.errors import RegistryConflict
from udpoverlay.registry.etcd.messages import put_op

pytestmark = pytest.mark.etcd


@pytest.fixture
def server(tmp_path: Any, binary: str) -> Iterator[EtcdServer]:
    with running(tmp_path, binary=binary) as started:
        yield started


# ---------------------------------------------------------------- what others write


async def test_malformed_and_hostile_values_cost_nobody_a_route(server: EtcdServer) -> None:
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


async def test_a_peers_value_that_was_damaged_keeps_its_route(server: EtcdServer) -> None:
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


async def test_huge_values_fit_neither_a_lease_nor_our_memory(server: EtcdServer) -> None:
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


FOLLOWER = """
import asyncio, sys, time
from netaddr import IPAddress
from udpoverlay.model.config import EtcdConfig
from udpoverlay.model.lease import LeaseAttrs
from udpoverlay.registry.etcd.registry import EtcdRegistry

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

async def main():
    before, cpu_before = peak(), time.process_time()
    registry = EtcdRegistry(EtcdConfig(endpoints=(sys.argv[1],), prefix=sys.argv[2]))
    await registry.acquire(LeaseAttrs(IPAddress("192.0.2.101")), None)
    async for event in registry.watch():
        print(
            *(type(event).__name__, len(getattr(event, "leases", "1"))),
            *(peak() - before, time.process_time() - cpu_before),
            flush=True,
        )

asyncio.run(main())
"""
JUNK = b"x" * 1_450_000
PIECES = 130


async def write_junk(server: EtcdServer, network: EtcdNetwork, name: str) -> None:
    etcd = client(server.url)
    for number in range(PIECES):
        key = network.key(name.format(number)).encode()
        await etcd.txn([], [put_op(key, JUNK, 0)])


@pytest.mark.parametrize("name", ["10.5.{}.0-24", "junk-{}"])
def test_190_mb_of_junk_cost_neither_memory_nor_the_start(tmp_path: Path, name: str) -> None:
    """What is there at the start, and again what comes while the watch is open."""
    with running(tmp_path) as server:
        network = EtcdNetwork(server)
        for net, ip in PEERS.items():
            network.claim(net, ip)
        run(write_junk(server, network, name.replace("{}", "1{}")))
        started = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-c", FOLLOWER, server.url, network.prefix],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as daemon:
            try:
                assert daemon.stdout is not None
                kind, leases, growth, cpu = daemon.stdout.readline().split()
                # What cannot be a lease is known by its name: nothing else of it is read.
                assert float(cpu) < (0.5 if name == "junk-{}" else 5.0), "seconds"
                assert time.monotonic() - started < 30, "even on a busy machine"
                assert (kind, int(leases)) == ("Snapshot", len(PEERS) + 1)
                assert float(growth) < 20, "MB"
                run(write_junk(server, network, name.replace("{}", "2{}")))
                network.claim("10.5.4.0/24", "192.0.2.4")
                kind, _, growth, _ = daemon.stdout.readline().split()
                assert kind == "Added"
                assert float(growth) < 20, "MB"
            finally:
                daemon.kill()


async def test_duplicate_and_overlapping_claims(server: EtcdServer) -> None:
    host = await host_with_peers(server)
    own = str(host.lease.subnet)
    inside_ours = own.replace("0/24", "128/25")
    for net in ("10.5.1.0/25", "10.5.0.0/20", "10.0.0.0/8", inside_ours, "10.5.2.64/26"):
        await in_thread(host.network.claim, net, "192.0.2.66")
    # The same subnet under a second, dual-stack key; and a second subnet of one host.
    await in_thread(host.network.claim, "10.5.2.0-24&fd00::-64", "192.0.2.66")
    await in_thread(host.network.claim, "10.5.90.0/24", "192.0.2.1")
    await host.routes({**PEERS, "10.5.90.0/24": "192.0.2.1"})
    await until(lambda: host.alive() and host.control.counters()["leases_waiting"] == 5)
    assert host.control.counters()["leases_refused"] == 1, "the /8 is no host's subnet"
    # When the rightful one leaves, the range is free for who waits.
    await in_thread(server.delete, host.network.key("10.5.2.0/24"))
    await until(
        lambda: (
            host.sink.routes.get("10.5.2.64/26") == "192.0.2.66"
            or host.sink.routes.get("10.5.2.0/24") == "192.0.2.66"
        )
    )


WIDE = {
    "10.0.0.0/8": "192.0.2.61",
    "10.5.0.0/16": "192.0.2.62",
    "10.5.0.0/17": "192.0.2.63",
    "10.5.128.0/17": "192.0.2.64",
    "127.0.0.0/8": "192.0.2.65",
    "224.0.0.0/4": "192.0.2.66",
}


async def test_wide_and_outside_leases_written_first_block_neither_us_nor_a_peer(
    server: EtcdServer,
) -> None:
    network = EtcdNetwork(server)
    for net, ip in {**WIDE, **PEERS}.items():
        network.claim(net, ip)
    host = Host(network, 1)
    await host.start()
    assert str(host.lease.subnet) == "10.5.101.0/24", "its previous subnet"
    await host.routes(PEERS)
    assert host.control.counters()["leases_refused"] == len(WIDE)
    await in_thread(server.wipe)
    for net, ip in WIDE.items():
        await in_thread(network.claim, net, ip)
    await until(lambda: host.alive() and host.control.counters()["peers_held"] == 3)
    await host.claimed()
    assert host.sink.lost == []


async def test_peer_whose_address_leads_into_the_overlay_has_no_route(server: EtcdServer) -> None:
    host = await host_with_peers(server)
    odd = {
        "10.5.199.0/24": "10.5.199.5",
        "10.5.198.0/24": "10.5.197.5",
        "10.5.196.0/24": "127.0.0.1",
        "10.5.195.0/24": "224.0.0.1",
        "10.5.194.0/24": "255.255.255.255",
        "10.5.193.0/24": "0.0.0.0",
        "10.5.192.0/24": "192.0.2.101",  # ours
    }
    for net, ip in odd.items():
        await in_thread(host.network.claim, net, ip)
    added = await new_peer(host)
    await host.routes({**PEERS, **added})
    assert host.control.counters()["leases_refused"] == len(odd)
    await in_thread(host.network.claim, "10.5.199.0/24", "192.0.2.199")
    await host.routes({**PEERS, **added, "10.5.199.0/24": "192.0.2.199"})
    assert host.control.counters()["leases_refused"] == len(odd) - 1


async def test_dozens_of_stale_leases_of_our_own_end_in_a_lease(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    grant = server.grant(86400)
    for number in range(30):
        network.claim(f"10.4.{number}.0/24", "192.0.2.101", grant)
    host = Host(network, 1)
    await host.start()
    assert network.entries() == ["10.5.101.0-24"]


async def test_renewals_by_a_host_with_our_public_ip_are_noticed(
    server: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    host = await host_with_peers(server)
    twin = host.network.registry()
    shared = await twin.acquire(host.network.attrs(101), None)
    assert shared.subnet == host.lease.subnet
    await until(lambda: host.control.counters()["foreign_renewals"] == 1)
    # As flanneld renews: a put that compares nothing, with an etcd lease of its own.
    grant = await in_thread(server.grant, 86400)
    await in_thread(host.network.claim, str(host.lease.subnet), "192.0.2.101", grant)
    await until(lambda: host.control.counters()["foreign_renewals"] == 2)
    for _ in range(3):
        await host.registry.renew(host.lease)
    last = (await host.registry.renew(host.lease)).revision
    await until(lambda: host.lease.revision == last)
    assert host.alive()
    assert host.control.counters()["foreign_renewals"] == 2
    said = [r for r in caplog.records if r.message == "another daemon renews our lease"]
    assert len(said) == 2


async def test_our_own_subnet_claimed_by_another_host(
    server: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    host = await host_with_peers(server)
    await in_thread(host.network.claim, str(host.lease.subnet), "192.0.2.66")
    await until(host.task.done)
    with pytest.raises(RegistryConflict, match=r"192\.0\.2\.66"):
        host.task.result()
    assert host.network.value(str(host.lease.subnet)) == plain_value("192.0.2.66")


async def test_our_entry_is_deleted_by_an_administrator(server: EtcdServer) -> None:
    host = await host_with_peers(server)
    await in_thread(server.delete, host.network.key(str(host.lease.subnet)))
    await until(host.task.done)
    assert host.task.exception() is None
    assert host.network.value(str(host.lease.subnet)) is None, "not claimed again"


async def test_all_leases_deleted_by_an_administrator_are_gone(server: EtcdServer) -> None:
    """An etcd that is told to forget did not lose its memory."""

    host = await host_with_peers(server)
    for net in PEERS:
        await in_thread(server.delete, host.network.key(net))
    await host.routes({})
    assert host.control.counters()["peers_held"] == 0
