"""host/netlink.py against a real kernel, in network namespaces of our own."""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from netaddr import IPAddress, IPNetwork

from tests.support.namespace import in_new_namespace, tun
from udpoverlay.errors import KernelError
from udpoverlay.host.links import DefaultRoute, Link, Route
from udpoverlay.host.netlink import TUN_QUEUE_PACKETS, Netlink, configure_tunnel, host_view

pytestmark = pytest.mark.root

IFA_F_TENTATIVE = 0x40
"""linux/if_addr.h"""


async def link_called(netlink: Netlink, name: str) -> Link:
    return next(link for link in await netlink.links() if link.name == name)


def proc_net(name: str) -> str:
    return Path("/proc/thread-self/net", name).read_text()


async def configured_tun_is_seen_as_it_was_configured() -> None:
    with tun() as name:
        async with Netlink() as netlink:
            index = (await link_called(netlink, name)).index
            network = IPNetwork("10.5.0.0/16")
            assert await configure_tunnel(index, IPAddress("10.5.72.0"), 1472, network)
            link = await link_called(netlink, name)
            assert (link.mtu, link.up) == (1472, True)
            shown = await asyncio.create_subprocess_exec(
                "ip", "link", "show", name, stdout=asyncio.subprocess.PIPE
            )
            assert f"qlen {TUN_QUEUE_PACKETS}".encode() in (await shown.communicate())[0]
            assert link.of_family(6) == ()
            assert link.of_family(4) == (IPAddress("10.5.72.0"),)
            assert link.addresses[0].prefixlen == 32
            assert link.addresses[0].permanent
            answer = await netlink.route_to(IPAddress("10.5.9.9"))
            assert (answer.index, answer.source) == (index, IPAddress("10.5.72.0"))
            route = next(
                line.split() for line in proc_net("route").splitlines() if line.startswith(name)
            )
            assert route[1] == "0000050A"  # 10.5.0.0, bytes as they lie in memory
            assert route[7] == "0000FFFF"


@pytest.mark.own_namespace
async def test_link_gets_no_link_local_address() -> None:
    with tun() as name, tun() as other:
        async with Netlink() as netlink:
            assert await netlink.set_no_link_local((await link_called(netlink, name)).index)
            for each in (name, other):
                await netlink.set_up((await link_called(netlink, each)).index)
            assert (await link_called(netlink, other)).of_family(6)  # made while it is set up
            assert not (await link_called(netlink, name)).of_family(6)


@pytest.mark.own_namespace
async def test_link_without_ipv6_needs_no_mode() -> None:
    with tun() as name:
        async with Netlink() as netlink:
            index = (await link_called(netlink, name)).index
            await netlink.set_mtu(index, 1279)
            assert not await netlink.set_no_link_local(index)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_configured_tun_is_seen_as_configured(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    in_new_namespace(lambda: run(configured_tun_is_seen_as_it_was_configured()))


@pytest.mark.own_namespace
async def test_a_route_that_exists_already_is_no_error() -> None:
    with tun() as name:
        async with Netlink() as netlink:
            index = (await link_called(netlink, name)).index
            await netlink.set_up(index)
            assert await netlink.add_link_route(IPNetwork("10.5.0.0/16"), index)
            assert not await netlink.add_link_route(IPNetwork("10.5.0.0/16"), index)


@pytest.mark.own_namespace
async def test_routes_of_the_main_table_are_told_with_their_link() -> None:
    with tun() as name:
        async with Netlink() as netlink:
            index = (await link_called(netlink, name)).index
            await netlink.set_up(index)
            for network in ("10.5.0.0/16", "0.0.0.0/0", "fd09::/48"):
                await netlink.add_link_route(IPNetwork(network), index)
            await netlink.add_blackhole(IPNetwork("10.6.0.0/16"))
            assert sorted(await netlink.routes(4), key=lambda route: route.network) == [
                Route(IPNetwork("0.0.0.0/0"), index),
                Route(IPNetwork("10.5.0.0/16"), index),
            ]
            assert Route(IPNetwork("fd09::/48"), index) in await netlink.routes(6)


@pytest.mark.own_namespace
async def test_no_broadcast_route_comes_with_the_address() -> None:
    with tun() as name:
        async with Netlink() as netlink:
            index = (await link_called(netlink, name)).index
            await netlink.add_address(index, IPAddress("10.5.72.0"))
            await netlink.set_up(index)
        trie = proc_net("fib_trie")
        assert "BROADCAST" not in trie.replace("127.255.255.255", "")


@pytest.mark.own_namespace
async def test_an_ipv6_address_can_be_used_at_once() -> None:
    with tun() as name:
        async with Netlink() as netlink:
            index = (await link_called(netlink, name)).index
            await netlink.set_up(index)
            await netlink.add_address(index, IPAddress("fd09::1"))
            flags = next(
                line.split()[4] for line in proc_net("if_inet6").splitlines() if "fd09" in line
            )
            assert not int(flags, 16) & IFA_F_TENTATIVE
            with socket.socket(socket.AF_INET6) as sock:
                sock.bind(("fd09::1", 0))


@pytest.mark.own_namespace
async def test_an_empty_namespace_has_no_default_route_and_no_way_out() -> None:
    view = await host_view(IPAddress("192.0.2.1"))
    assert [link.name for link in view.links if link.up] == []
    assert (view.default_v4, view.default_v6, view.reach) == (None, None, None)
    assert "Network is unreachable" in view.reach_error


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
@pytest.mark.own_namespace
async def test_the_default_route_is_found_behind_other_routes(network: str) -> None:
    version = IPNetwork(network).version
    prefixes = [f"10.{n}.0.0/16" if version == 4 else f"fd00:{n:x}::/32" for n in range(200)]
    with tun() as name:
        async with Netlink() as netlink:
            index = (await link_called(netlink, name)).index
            await netlink.set_up(index)
            for prefix in prefixes:
                await netlink.add_link_route(IPNetwork(prefix), index)
            assert await netlink.default_route(version) is None
            await netlink.add_link_route(IPNetwork(network), index)
            assert await netlink.default_route(version) == DefaultRoute(index)


@pytest.mark.own_namespace
async def test_an_error_names_the_action_and_keeps_the_number() -> None:
    async with Netlink() as netlink:
        with pytest.raises(KernelError, match="set MTU 1400: No such device") as caught:
            await netlink.set_mtu(4711, 1400)
        assert caught.value.errno == errno.ENODEV


def test_missing_privilege_names_the_capability() -> None:
    script = (
        "import asyncio, os\n"
        "from udpoverlay.host.netlink import Netlink\n"
        "from udpoverlay.errors import KernelError\n"
        "async def main():\n"
        "    async with Netlink() as netlink:\n"
        "        try:\n"
        "            await netlink.set_mtu(1, 1400)\n"
        "        except KernelError as error:\n"
        "            print(error)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "asyncio.run(main())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Operation not permitted: needs CAP_NET_ADMIN" in result.stdout


def test_importing_it_leaves_the_whole_pyroute2_importable_and_unloaded() -> None:
    script = (
        "import sys, udpoverlay.host.netlink\n"
        "assert 'pyroute2.ndb' not in sys.modules\n"
        "assert 'pyroute2.iproute' not in sys.modules\n"
        "assert 'unittest' not in sys.modules\n"
        "from pyroute2 import IPRoute\n"
        "assert IPRoute.__module__ == 'pyroute2.iproute.linux'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
