"""One host that follows a real etcd, with a sink that remembers every route it lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.support.aio import at_end, in_thread, until
from tests.support.etcd import EtcdServer
from tests.support.leases import Sink, peers_for, subnet
from tests.support.network import EtcdNetwork, plain_value
from tests.support.proxy import Proxy
from udpoverlay.control import Control
from udpoverlay.errors import RegistryConflict
from udpoverlay.model.lease import Lease
from udpoverlay.registry.etcd.client import EtcdTimeouts
from udpoverlay.registry.etcd.registry import EtcdRegistry

PEERS = {"10.5.1.0/24": "192.0.2.1", "10.5.2.0/24": "192.0.2.2", "10.5.3.0/24": "192.0.2.3"}
HASTY = EtcdTimeouts(connect=1.0, request=1.0)


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
            self.registry,
            self.sink,
            lease,
            peers_for(lease, hold=hold),
            renew_margin=margin,
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

    @property
    def serving(self) -> str:
        """The endpoint that answers."""
        return self.registry._client.endpoint

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
    """Nothing gets through the proxy inside the with block."""
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
