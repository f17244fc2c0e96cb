"""What the kernel says of an address, in a namespace with a tunnel device, a LAN and routes."""

from __future__ import annotations

import pytest
from netaddr import IPAddress
from pyroute2 import IPRoute

from tests.support.namespace import in_new_namespace
from udpoverlay.host.ways import Ways
from udpoverlay.model.endpoint import Way

pytestmark = pytest.mark.root

TUNNEL = "10.244.3.0"


def ways() -> dict[str, Way]:
    """192.0.2.1/24 on the LAN, 10.244.0.0/16 on the tunnel, 10.244.9.0/24 behind the LAN."""
    with IPRoute() as ipr:
        for name in ("eth0", "flannel0", "cni0"):
            ipr.link("add", ifname=name, kind="veth", peer={"ifname": f"{name}p"})
            ipr.link("set", index=ipr.link_lookup(ifname=f"{name}p")[0], state="up")
        lan, tunnel, pods = (
            ipr.link_lookup(ifname=name)[0] for name in ("eth0", "flannel0", "cni0")
        )
        for index in (1, lan, tunnel, pods):
            ipr.link("set", index=index, state="up")
        ipr.addr("add", index=lan, address="192.0.2.1", prefixlen=24, broadcast="192.0.2.255")
        ipr.addr("add", index=tunnel, address=TUNNEL, prefixlen=32)
        ipr.addr("add", index=pods, address="10.244.3.1", prefixlen=24)
        ipr.route("add", dst="10.244.0.0/16", oif=tunnel)
        ipr.route("add", dst="10.244.9.0/24", gateway="192.0.2.254")
        ipr.route("add", dst="198.51.100.0/24", type="prohibit")
        ipr.route("add", dst="198.51.101.0/24", type="blackhole")
    ways_of_host = Ways(IPAddress(TUNNEL), 8285)
    addresses = ["192.0.2.9", "192.0.2.1", "192.0.2.255", "10.244.7.5", "10.244.9.5", "10.244.3.1",
                 "10.244.3.9", TUNNEL, "203.0.113.1", "198.51.100.1", "198.51.101.1"]  # fmt: skip
    return {address: ways_of_host.to(IPAddress(address)) for address in addresses}


def test_way_of_each_kind_of_address() -> None:
    assert in_new_namespace(ways) == {
        "192.0.2.9": Way.UNDERLAY,
        "192.0.2.1": Way.LOCAL,
        "192.0.2.255": Way.BROADCAST,
        "10.244.7.5": Way.TUNNEL,
        "10.244.9.5": Way.UNDERLAY,
        "10.244.3.1": Way.LOCAL,
        "10.244.3.9": Way.UNDERLAY,
        TUNNEL: Way.LOCAL,
        "203.0.113.1": Way.UNDERLAY,  # no route: nothing is known against it
        "198.51.100.1": Way.UNDERLAY,
        "198.51.101.1": Way.UNDERLAY,
    }
