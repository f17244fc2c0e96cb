"""firewall/blackhole.py against a real kernel."""

from __future__ import annotations

import asyncio

import pytest
from netaddr import IPNetwork

from udpoverlay.aio import end
from udpoverlay.firewall.blackhole import keep_blackhole
from udpoverlay.host.netlink import Netlink
from udpoverlay.model.config import FirewallSettings
from udpoverlay.model.lease import Subnet

pytestmark = pytest.mark.root

OURS = IPNetwork("10.5.1.0/24")
V6 = IPNetwork("fd00:5:0:1::/64")
OLD = IPNetwork("10.5.9.0/24")


async def blackholes(*, ours: bool = True) -> set[str]:
    async with Netlink() as netlink:
        found = [*await netlink.blackholes(4, ours=ours), *await netlink.blackholes(6, ours=ours)]
    return {str(net) for net in found}


async def keeping(subnet: Subnet, wanted: bool, expected: set[str]) -> None:
    settings = FirewallSettings(blackhole_route=wanted, resync_seconds=0)
    task = asyncio.ensure_future(keep_blackhole(subnet, settings))

    try:
        while await blackholes() != expected:  # noqa: ASYNC110 - the kernel sends no event
            await asyncio.sleep(0.01)
    finally:
        await end([task])


@pytest.mark.own_namespace
async def test_route_of_an_earlier_subnet_goes_and_ours_comes() -> None:
    async with Netlink() as netlink:
        assert await netlink.add_blackhole(OLD)
    await keeping(Subnet(OURS, V6), True, {str(OURS), str(V6)})


@pytest.mark.own_namespace
async def test_route_that_somebody_removes_comes_back() -> None:
    await keeping(Subnet(OURS), True, {str(OURS)})
    async with Netlink() as netlink:
        await netlink.remove_blackhole(OURS)
    await keeping(Subnet(OURS), True, {str(OURS)})


@pytest.mark.own_namespace
async def test_without_the_flag_ours_go_and_foreign_ones_stay() -> None:
    process = await asyncio.create_subprocess_exec(
        *["ip", "route", "add", "blackhole", "10.9.0.0/16"]
    )
    assert await process.wait() == 0
    async with Netlink() as netlink:
        assert await netlink.add_blackhole(OURS)
        assert not await netlink.add_blackhole(OURS)
    await keeping(Subnet(OURS), False, set())
    assert await blackholes(ours=False) == {"10.9.0.0/16"}
