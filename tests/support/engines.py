"""Two hosts on one cable, each with an engine: real TUN devices, real sockets, no registry.

       a  10.5.1.1 ── flannel0 ── 192.0.2.1 ══ veth ══ 192.0.2.2 ── flannel0 ── 10.5.2.1  b

Each host is a network namespace with a thread that runs an event loop in it, and further threads
for code that blocks. Everything vanishes with close().
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop
from netaddr import IPAddress, IPNetwork
from pyroute2 import IPRoute

from tests.support.patience import DEADLINE
from udpoverlay.dataplane.engine import Engine
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.host.netlink import Netlink
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.endpoint import Endpoint

__all__ = ["EnginePair", "Host", "engine_pair"]

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
PORT = 8285
UNDERLAY_MTU = 1500
MTU = UNDERLAY_MTU - 28
SECONDS = DEADLINE / 2


def _namespace(call: str, argument: int, *more: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), call)(argument, *more) != 0:
        raise OSError(ctypes.get_errno(), call)


class Host:
    """A network namespace; `number` is the last part of its underlay address."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.underlay = self.public_ip = f"192.0.2.{number}"
        self.address = f"10.5.{number}.1"
        self.network = IPNetwork(f"10.5.{number}.0/24")
        self.namespace = -1
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main)
        self._thread.start()
        assert self._ready.wait(SECONDS)
        self._pool = ThreadPoolExecutor(
            initializer=_namespace, initargs=("setns", self.namespace, CLONE_NEWNET)
        )

    def _main(self) -> None:
        _namespace("unshare", CLONE_NEWNET)
        self.namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._loop = uvloop.new_event_loop()
        self._loop.call_soon(self._ready.set)
        self._loop.run_forever()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` in the host's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SECONDS)

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` in a thread of the host."""
        return self._pool.submit(function).result(SECONDS)

    def socket(self, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """A socket in the host's namespace, bound to its overlay address; calls give up in time."""
        made = self.call(lambda: socket.socket(socket.AF_INET, kind))
        made.settimeout(SECONDS)
        made.bind((self.address, 0))
        return made

    def close(self) -> None:
        self._pool.shutdown()
        self.run(_end_all_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        os.close(self.namespace)


async def _end_all_tasks() -> None:
    """Cancel what a test left running, and see its end: a child process of it has to be gone before
    the loop closes."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class EnginePair:
    """Both hosts and their engines."""

    def __init__(
        self, *, public_ips: tuple[str, str] = ("", ""), routes: bool = True, **settings: Any
    ) -> None:
        """`public_ips`: where the hosts say that they are reached, if not where they send from.

        Without `routes` both know nothing of each other yet.
        """
        self.routes_at_start = routes
        self.hosts = (Host(1), Host(2))
        for host, public_ip in zip(self.hosts, public_ips, strict=True):
            host.public_ip = public_ip or host.underlay
        self.engines: list[Engine] = []
        self.a, self.b = self.hosts
        try:
            self._cable()
            for host, other in ((self.a, self.b), (self.b, self.a)):
                self.engines.append(host.run(self._start(host, other, settings)))
        except BaseException:
            self.close()
            raise

    def _cable(self) -> None:
        def lay() -> None:
            with IPRoute() as ipr:
                ipr.link("add", ifname="eth0", kind="veth", peer={"ifname": "eth1"})
                ipr.link("set", index=ipr.link_lookup(ifname="eth1")[0], net_ns_fd=self.b.namespace)

        self.a.call(lay)
        for host, name in ((self.a, "eth0"), (self.b, "eth1")):

            def configure(host: Host = host, name: str = name) -> None:
                with IPRoute() as ipr:
                    index = ipr.link_lookup(ifname=name)[0]
                    ipr.addr("add", index=index, address=host.underlay, prefixlen=24)
                    if host.public_ip != host.underlay:
                        ipr.addr("add", index=index, address=host.public_ip, prefixlen=24)
                    ipr.addr("add", index=1, address=host.address, prefixlen=32)
                    for each in (1, index):
                        ipr.link("set", index=each, state="up")

            host.call(configure)

    @staticmethod
    def routes_of(other: Host) -> dict[IPNetwork, Endpoint]:
        """What the host beside `other` knows."""
        return {other.network: Endpoint(IPAddress(other.public_ip), PORT)}

    async def _start(self, host: Host, other: Host, settings: dict[str, Any]) -> Engine:
        engine = Engine.open(
            Tunnel(
                mtu=MTU,
                address=IPAddress(f"10.5.{host.number}.0"),
                subnet=host.network,
                # From the first address of the interface, whichever it was sent to.
                bind=(host.underlay if host.public_ip == host.underlay else "0.0.0.0", PORT),
            ),
            DataplaneSettings(**settings),
        )
        try:
            async with Netlink() as netlink:
                await netlink.add_address(engine.tun_index, engine.tunnel.address)
                await netlink.set_mtu(engine.tun_index, MTU)
                await netlink.set_no_link_local(engine.tun_index)
                await netlink.set_up(engine.tun_index)
                await netlink.add_link_route(IPNetwork("10.5.0.0/16"), engine.tun_index)
            await engine.start()
            if self.routes_at_start:
                engine.replace(self.routes_of(other))
        except BaseException:
            await engine.stop()
            raise
        return engine

    def counters(self, position: int) -> dict[str, int]:
        """What engine 0 (a) or 1 (b) counted, without zeros."""
        return {name: n for name, n in self.engines[position].counters().items() if n}

    def close(self) -> None:
        for host, engine in zip(self.hosts, self.engines, strict=False):
            host.run(engine.stop())
        for host in self.hosts:
            host.close()


@contextmanager
def engine_pair(**settings: Any) -> Iterator[EnginePair]:
    made = EnginePair(**settings)
    try:
        yield made
    finally:
        made.close()
