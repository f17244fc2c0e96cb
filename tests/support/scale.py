"""Thousands of leases in a real etcd, and a host that follows them into the C route table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from netaddr import IPAddress, IPNetwork

from tests.support.aio import at_end, in_thread
from tests.support.etcd import EtcdServer, b64
from tests.support.leases import attrs, peers_for
from tests.support.network import EtcdNetwork, plain_value
from udpoverlay import _fastpath as fp
from udpoverlay.control import Control
from udpoverlay.dataplane.sink import Publisher
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.registry.etcd.registry import EtcdRegistry

_TXN = 100
"""Operations a transaction; etcd's own limit is 128."""


def big_network(server: EtcdServer, leases: int) -> EtcdNetwork:
    """A network with so many hosts."""
    network = EtcdNetwork(server, Network="10.0.0.0/8", SubnetLen=24)
    puts = []
    for number in range(leases):
        key = network.key(f"10.{number // 250}.{number % 250}.0/24")
        address = str(IPAddress(0xC0000000 + number))
        puts.append(
            {
                "request_put": {
                    "key": b64(key.encode()),
                    "value": b64(plain_value(address).encode()),
                }
            }
        )
    for start in range(0, leases, _TXN):
        server.call("/kv/txn", {"success": puts[start : start + _TXN]})
    return network


class TableSink:
    """The engine's table without its device."""

    def __init__(self) -> None:
        self.table = fp.RouteTable()
        self._publisher = Publisher(self.table)
        self._published = asyncio.Event()
        self.publications = 0

    def replace(self, routes: Mapping[IPNetwork, Endpoint]) -> None:
        self._publisher.publish(routes)
        self.publications += 1
        self._published.set()

    async def until(self, condition: Callable[[fp.RouteTable], bool]) -> None:
        """Return at the publication that makes `condition` true."""
        while not condition(self.table):
            self._published.clear()
            await self._published.wait()


class Loading:
    """One host of a big network."""

    def __init__(self, network: EtcdNetwork, leases: int) -> None:
        self.network = network
        self.leases = leases
        self.sink = TableSink()
        self.registry: EtcdRegistry = network.registry()

    async def load(self) -> None:
        """Get a lease and follow the others; returns when all of them have their route."""
        lease = await self.registry.acquire(attrs("172.16.0.1"), None)
        peers = peers_for(lease, "10.0.0.0/8")
        control = Control(self.registry, self.sink, lease, peers)
        task = asyncio.ensure_future(control.run())

        async def stop() -> None:
            task.cancel()
            await asyncio.wait({task})

        at_end(stop)
        await self.sink.until(lambda table: len(table) >= self.leases)

    async def claim(self, number: int) -> bytes:
        """Another host comes; an address in its subnet, once etcd has answered that host."""
        start = f"10.{200 + number // 250}.{number % 250}"
        await in_thread(self.network.claim, f"{start}.0/24", "172.16.3.3")
        address: bytes = IPAddress(f"{start}.1").packed
        return address

    async def routed(self, address: bytes) -> None:
        """Return when `address` has a route in the table."""
        await self.sink.until(lambda table: table.lookup(address) is not None)
