"""host/netlink.py where a host has more than one answer: policy tables, point-to-point links."""

from __future__ import annotations

import asyncio
import socket

import pytest
from netaddr import IPAddress
from pyroute2 import IPRoute

from tests.support.namespace import in_new_namespace
from udpoverlay.host.links import DefaultRoute
from udpoverlay.host.netlink import Netlink, host_view

pytestmark = pytest.mark.root

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}


def link(ipr: IPRoute, name: str) -> int:
    """A link that is up; its index."""
    ipr.link("add", ifname=name, kind="veth", peer=f"{name}-peer")
    index = int(ipr.link_lookup(ifname=name)[0])
    ipr.link("set", index=index, state="up")
    return index


async def default_route(version: int) -> DefaultRoute | None:
    async with Netlink() as netlink:
        return await netlink.default_route(version)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("table", [100, 300])
def test_default_route_of_a_policy_table_does_not_count(version: int, table: int) -> None:
    def scenario() -> None:
        with IPRoute() as ipr:
            vpn, lan = link(ipr, "vpn"), link(ipr, "lan")
            default = {"family": FAMILY[version], "dst": EVERYTHING[version]}
            ipr.route("add", **default, oif=vpn, table=table)
            assert asyncio.run(default_route(version)) is None
            ipr.route("add", **default, oif=lan)
            assert asyncio.run(default_route(version)) == DefaultRoute(lan)

    in_new_namespace(scenario)


def test_our_end_of_a_point_to_point_link_is_our_address() -> None:
    def scenario() -> None:
        with IPRoute() as ipr:
            index = link(ipr, "ppp")
            ipr.addr("add", index=index, local="192.0.2.1", address="192.0.2.2", prefixlen=32)
            found = asyncio.run(host_view()).by_index(index)
            assert found is not None
            assert found.of_family(4) == (IPAddress("192.0.2.1"),)

    in_new_namespace(scenario)
