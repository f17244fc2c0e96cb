"""etcd leases, on which entries hang: none is revoked that an entry may need, none is left behind.

A revocation takes the entry with it, which every daemon must take for an administrator's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.support.aio import at_end, in_thread, run, until
from tests.support.etcd import EtcdServer
from tests.support.etcdclient import proxy_to
from tests.support.leases import attrs, subnet
from tests.support.network import EtcdNetwork
from tests.support.proxy import Proxy
from udpoverlay.errors import RegistryDenied, RegistryUnavailable
from udpoverlay.model.lease import Lease
from udpoverlay.registry.etcd.client import EtcdTimeouts
from udpoverlay.registry.etcd.registry import EtcdRegistry
from udpoverlay.registry.etcd.values import (
    TxnReply,
)

pytestmark = pytest.mark.etcd

US = attrs("192.0.2.1")
HASTY = EtcdTimeouts(connect=1.0, request=1.0)


def leases(server: EtcdServer) -> set[int]:
    """Ids of all etcd leases."""
    found = server.call("/lease/leases", {}).get("leases", [])
    assert isinstance(found, list)
    return {int(each["ID"]) for each in found}


# ---------------------------------------------------------------- none is left behind


def test_restarts_and_renewals_leave_one_etcd_lease(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    before = leases(server)

    async def start() -> Lease:
        registry = network.registry()
        lease = await registry.acquire(US, None)
        return await registry.renew(lease)

    for _ in range(20):
        lease = run(start())
    assert leases(server) - before == {lease.registry_lease}
    assert server.lease_of(network.key(str(lease.subnet))) == lease.registry_lease


def test_killed_daemons_leave_one_etcd_lease(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    before = leases(server)
    script = (
        "import asyncio, sys\n"
        "from netaddr import IPAddress\n"
        "from udpoverlay.model.config import EtcdConfig\n"
        "from udpoverlay.model.lease import LeaseAttrs\n"
        "from udpoverlay.registry.etcd.registry import EtcdRegistry\n"
        "async def main():\n"
        "    registry = EtcdRegistry(EtcdConfig(endpoints=(sys.argv[1],), prefix=sys.argv[2]))\n"
        "    await registry.acquire(LeaseAttrs(IPAddress('192.0.2.1')), None)\n"
        "    print('leased', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", script, server.url, network.prefix], stdout=subprocess.PIPE
        ) as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == b"leased\n"
            os.kill(daemon.pid, signal.SIGKILL)
    assert len(leases(server) - before) == 1


async def test_a_refused_claim_leaves_no_etcd_lease(server: EtcdServer) -> None:
    """The user may read the network, not write it."""
    network = EtcdNetwork(server)
    before = leases(server)
    for command in (
        "user add root:rootpass",
        "user grant-role root root",
        "user add reader:sesame",
        "role add reader",
        f"role grant-permission reader --prefix=true read {network.prefix}",
        "user grant-role reader reader",
        "auth enable",
    ):
        server.etcdctl(*command.split())
    try:
        with pytest.raises(RegistryDenied):
            await network.registry(username="reader", password="sesame").acquire(US, None)
    finally:
        server.etcdctl("--user=root:rootpass", "auth", "disable")
        for command in ("user delete reader", "role delete reader", "user delete root"):
            server.etcdctl(*command.split())
    assert leases(server) == before


# ---------------------------------------------------------------- none is revoked that is needed


class Interrupted:
    """A host behind a proxy that goes mute while a put is under way."""

    def __init__(self, network: EtcdNetwork, proxy: Proxy) -> None:
        self.proxy = proxy
        self.registry: EtcdRegistry = network.registry(endpoints=(proxy.url,), timeouts=HASTY)
        self.granted = 0
        """The etcd lease of the put."""

    def interrupt(self, *, for_good: bool) -> None:
        """Let the next put be carried out, and no try of it be answered."""
        etcd = self.registry._client
        real_grant, real_txn = etcd.grant, etcd.txn

        async def grant(lease_id: int, ttl: int) -> int:
            self.granted = lease_id
            return await real_grant(lease_id, ttl)

        async def txn(*operations: Any) -> TxnReply:
            self.proxy.mute()
            self.proxy.deaf = True
            try:
                return await real_txn(*operations)
            finally:
                etcd.grant, etcd.txn = real_grant, real_txn  # type: ignore[method-assign]
                if not for_good:
                    await self.restore()

        etcd.grant, etcd.txn = grant, txn  # type: ignore[method-assign, assignment]  # a test's

    async def restore(self) -> None:
        self.proxy.deaf = False
        await self.proxy.cut()


async def carried_out(network: EtcdNetwork, lease: Lease, grant: int) -> None:
    """Wait until the entry hangs on that etcd lease."""
    key = network.key(str(lease.subnet))
    while await in_thread(network.server.lease_of, key) != grant:
        pass


async def test_a_renewal_whose_answers_are_lost_is_found_carried_out(server: EtcdServer) -> None:
    """A stalled disk: both tries run into their time-out, then etcd answers again."""

    network = EtcdNetwork(server)
    before = leases(server)
    host = Interrupted(network, await proxy_to(server.url))
    lease = await host.registry.acquire(US, subnet("10.5.6.0/24"))
    host.interrupt(for_good=False)
    renewed = await host.registry.renew(lease)
    assert renewed.registry_lease == host.granted
    assert network.value("10.5.6.0/24") is not None, "not revoked with its etcd lease"
    assert server.lease_of(network.key("10.5.6.0/24")) == host.granted
    assert leases(server) - before == {host.granted}


async def test_a_renewal_that_cannot_be_read_back_keeps_the_entry(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    before = leases(server)
    host = Interrupted(network, await proxy_to(server.url))
    lease = await host.registry.acquire(US, subnet("10.5.7.0/24"))
    host.interrupt(for_good=True)
    with pytest.raises(RegistryUnavailable):
        await host.registry.renew(lease)
    await host.restore()
    await carried_out(network, lease, host.granted)
    # A minute later, as control.py does it.
    renewed = await host.registry.renew(lease)
    assert server.lease_of(network.key("10.5.7.0/24")) == renewed.registry_lease
    assert leases(server) - before == {renewed.registry_lease}


async def test_a_renewal_that_a_signal_cuts_short_keeps_the_entry(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    host = Interrupted(network, await proxy_to(server.url))
    lease = await host.registry.acquire(US, subnet("10.5.8.0/24"))
    host.interrupt(for_good=True)
    renewal = asyncio.ensure_future(host.registry.renew(lease))
    await until(lambda: host.granted)
    await carried_out(network, lease, host.granted)
    renewal.cancel()
    await asyncio.wait({renewal})
    assert renewal.cancelled()
    await host.restore()
    await host.registry.aclose()
    assert network.value("10.5.8.0/24") is not None, "not revoked with its etcd lease"
    assert server.lease_of(network.key("10.5.8.0/24")) == host.granted
    # The next start finds its subnet, and one etcd lease is left.
    again = network.registry()
    at_end(again.aclose)
    assert (await again.acquire(US, None)).subnet == lease.subnet
    assert host.granted not in leases(server)


async def test_a_claim_whose_answer_is_lost_is_found_by_the_next_start(server: EtcdServer) -> None:
    network = EtcdNetwork(server)
    before = leases(server)
    host = Interrupted(network, await proxy_to(server.url))
    host.interrupt(for_good=True)
    with pytest.raises(RegistryUnavailable):
        await host.registry.acquire(US, subnet("10.5.9.0/24"))
    await host.restore()
    lease = await network.registry().acquire(US, None)
    assert str(lease.subnet) == "10.5.9.0/24"
    assert leases(server) - before == {lease.registry_lease}
