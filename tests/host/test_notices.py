"""host/notices.py and host/device.py against a real kernel, in network namespaces of our own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable

import pytest
from netaddr import IPAddress, IPNetwork
from pyroute2 import IPRoute

from tests.support.namespace import enter, entered_namespace, tun
from udpoverlay.errors import KernelError
from udpoverlay.host.device import link_state, restore_tunnel
from udpoverlay.host.netlink import configure_tunnel
from udpoverlay.host.notices import ADDRESS, LINK, ROUTE, Notice, Notices

pytestmark = pytest.mark.root

LINKS = 100
CHANGES = 1000
"""Of a link; each makes a notice of more than a kilobyte, which no socket buffer holds."""
ADDRESS_OF_TUN = IPAddress("10.5.72.0")
NETWORK = IPNetwork("10.5.0.0/16")


def change(what: Callable[[IPRoute], object]) -> None:
    """In a thread of this namespace: pyroute2 wants an event loop of its own."""

    def run() -> None:
        with IPRoute() as ipr:
            what(ipr)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


async def read(notices: Notices, wanted: Notice) -> list[Notice]:
    """Everything up to `wanted`."""
    found: list[Notice] = []
    while wanted not in found:
        some = await asyncio.wait_for(notices.read(), 30)
        assert some is not None
        found += some
    return found


@pytest.mark.own_namespace
async def test_changes_of_links_addresses_and_routes_are_told() -> None:
    with contextlib.closing(Notices()) as notices, tun() as name:
        index = socket.if_nametoindex(name)
        await read(notices, Notice(LINK, index, 0))
        change(lambda ipr: ipr.addr("add", index=index, address="10.5.72.0", prefixlen=32))
        await read(notices, Notice(ADDRESS, index, 0))
        change(lambda ipr: ipr.link("set", index=index, state="up"))
        change(lambda ipr: ipr.route("add", dst="10.5.0.0/16", oif=index))
        await read(notices, Notice(ROUTE, 0, 16))
        change(lambda ipr: ipr.route("del", dst="10.5.0.0/16", oif=index))
        await read(notices, Notice(ROUTE, 0, 16))


@pytest.mark.own_namespace
async def test_lost_notices_are_told_as_lost() -> None:
    with contextlib.closing(Notices()) as notices, tun() as name:
        index = socket.if_nametoindex(name)
        change(lambda ipr: [ipr.link("set", index=index, mtu=1400 + n % 2) for n in range(CHANGES)])
        found = [await asyncio.wait_for(notices.read(), 30)]
        while found[-1] is not None:
            found.append(await asyncio.wait_for(notices.read(), 30))
        change(lambda ipr: ipr.link("set", index=index, mtu=1300))
        await read(notices, Notice(LINK, index, 0))  # and it goes on


def churn(namespace: int) -> None:
    enter(namespace)
    with IPRoute() as ipr:
        for _ in range(LINKS):
            ipr.link("add", ifname="a", kind="veth", peer={"ifname": "b"})
            for name in ("a", "b"):
                ipr.link("set", index=socket.if_nametoindex(name), state="up")
            ipr.link("del", index=socket.if_nametoindex("a"))


async def test_churn_of_other_links_costs_the_loop_nothing() -> None:
    with entered_namespace() as namespace, contextlib.closing(Notices()) as notices:

        async def follow() -> None:
            while True:
                await notices.read()

        following = asyncio.create_task(follow())
        other = threading.Thread(target=churn, args=(namespace,))
        began = time.thread_time()
        other.start()
        await asyncio.get_running_loop().run_in_executor(None, other.join)
        assert time.thread_time() - began < 0.25
        following.cancel()


@pytest.mark.own_namespace
async def test_device_as_it_has_to_be_lacks_nothing() -> None:
    with tun() as name:
        index = socket.if_nametoindex(name)
        await configure_tunnel(index, ADDRESS_OF_TUN, 1472, NETWORK)
        assert await restore_tunnel(index, ADDRESS_OF_TUN, 1472, NETWORK) == []
        state = link_state(index)
        assert state is not None
        assert (state.name, state.up, state.mtu, state.address) == (
            name,
            True,
            1472,
            ADDRESS_OF_TUN,
        )


@pytest.mark.own_namespace
async def test_all_that_a_device_lost_is_restored_at_once() -> None:
    with tun() as name:
        index = socket.if_nametoindex(name)
        await configure_tunnel(index, ADDRESS_OF_TUN, 1472, NETWORK)
        change(lambda ipr: ipr.flush_addr(index=index))
        change(lambda ipr: ipr.link("set", index=index, state="down", mtu=900))
        assert await restore_tunnel(index, ADDRESS_OF_TUN, 1472, NETWORK) == [
            "its MTU was 900",
            "its address 10.5.72.0 was gone",
            "it was down",
            "its route to 10.5.0.0/16 was gone",
        ]
        assert await restore_tunnel(index, ADDRESS_OF_TUN, 1472, NETWORK) == []


@pytest.mark.own_namespace
async def test_another_address_in_front_of_ours_is_no_loss() -> None:
    with tun() as name:
        index = socket.if_nametoindex(name)
        change(lambda ipr: ipr.addr("add", index=index, address="192.0.2.7", prefixlen=32))
        await configure_tunnel(index, ADDRESS_OF_TUN, 1472, NETWORK)
        assert await restore_tunnel(index, ADDRESS_OF_TUN, 1472, NETWORK) == []


@pytest.mark.own_namespace
async def test_device_that_is_gone_cannot_be_restored() -> None:
    assert link_state(4711) is None
    with pytest.raises(KernelError, match="was deleted"):
        await restore_tunnel(4711, ADDRESS_OF_TUN, 1472, NETWORK)
