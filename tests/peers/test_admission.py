"""Which leases packets can be sent to; the kernel's answers are the test's own."""

from __future__ import annotations

import pytest
from netaddr import IPAddress, IPNetwork

from tests.support.leases import attrs, lease, peers_for, subnet
from udpoverlay.model.endpoint import Way
from udpoverlay.model.events import Added, Removed
from udpoverlay.model.lease import Lease
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.place import Places
from udpoverlay.model.refusal import Refusal
from udpoverlay.peers.admission import Admission

OWN = lease("10.5.1.0/24", "192.0.2.1")
PLACES = Places.of(NetConf(network=IPNetwork("10.5.0.0/16")).validated())


class Kernel:
    """Answers by address; the underlay for the others."""

    def __init__(self, **ways: Way) -> None:
        self.ways = {address.replace("_", "."): way for address, way in ways.items()}
        self.asked: list[str] = []

    def way(self, address: IPAddress) -> Way:
        self.asked.append(str(address))
        return self.ways.get(str(address), Way.UNDERLAY)


@pytest.mark.parametrize(
    ("public_ip", "refusal"),
    [
        ("0.0.0.0", Refusal.NO_ADDRESS),
        ("127.0.0.1", Refusal.NOT_A_HOST),
        ("127.255.255.254", Refusal.NOT_A_HOST),
        ("224.0.0.1", Refusal.NOT_A_HOST),
        ("239.255.255.255", Refusal.NOT_A_HOST),
        ("255.255.255.255", Refusal.NOT_A_HOST),
        ("192.0.2.1", Refusal.OWN_ADDRESS),
        ("198.18.0.1", Refusal.OWN_ADDRESS),
        ("10.5.7.5", Refusal.IN_OVERLAY),
        ("10.5.1.5", Refusal.IN_OVERLAY),
        ("10.5.200.5", Refusal.IN_OVERLAY),
        ("10.6.0.1", None),
        ("192.0.2.2", None),
        ("169.254.3.3", None),
        ("240.0.0.9", None),
    ],
)
def test_public_ip(public_ip: str, refusal: Refusal | None) -> None:
    judge = Admission(PLACES, OWN, own_addresses=[IPAddress("198.18.0.1")])
    assert judge.refusal(lease("10.5.7.0/24", public_ip)) is refusal


@pytest.mark.parametrize(
    ("way", "refusal"),
    [
        (Way.UNDERLAY, None),
        (Way.TUNNEL, Refusal.IN_OVERLAY),
        (Way.LOCAL, Refusal.OWN_ADDRESS),
        (Way.BROADCAST, Refusal.NOT_A_HOST),
    ],
)
@pytest.mark.parametrize("public_ip", ["10.5.200.5", "192.0.2.9"])
def test_kernel_decides_where_packets_go(public_ip: str, way: Way, refusal: Refusal | None) -> None:
    """Hosts may live inside Network, behind a narrower route (flannel's example: 10.0.0.0/8)."""
    kernel = Kernel(**{public_ip.replace(".", "_"): way})
    judge = Admission(PLACES, OWN, way=kernel.way)
    assert judge.refusal(lease("10.5.7.0/24", public_ip)) is refusal
    assert kernel.asked == [public_ip]


@pytest.mark.parametrize("public_ip", ["10.5.7.5", "10.5.1.5"])
def test_address_inside_its_own_or_our_subnet_is_refused_whatever_the_routes(
    public_ip: str,
) -> None:
    judge = Admission(PLACES, OWN, way=Kernel().way)
    assert judge.refusal(lease("10.5.7.0/24", public_ip)) is Refusal.IN_OVERLAY


def test_range_is_judged_before_the_address() -> None:
    kernel = Kernel()
    judge = Admission(PLACES, OWN, way=kernel.way)
    assert judge.refusal(lease("10.0.0.0/8", "10.5.7.5")) is Refusal.TOO_WIDE
    assert judge.refusal(lease("127.0.0.0/8", "192.0.2.9")) is Refusal.OUTSIDE_NETWORK
    ipv6 = Lease(subnet(None, "fd00::/64"), attrs("0.0.0.0"))
    assert judge.refusal(ipv6) is Refusal.NO_IPV4_SUBNET
    assert kernel.asked == []


def test_lease_follows_the_routes_of_this_host() -> None:
    kernel = Kernel(**{"10_5_200_5": Way.TUNNEL})
    peers = peers_for(OWN, way=kernel.way)
    peer = lease("10.5.7.0/24", "10.5.200.5")
    assert [one.refusal for one in peers.apply(Added(peer), 0).refused] == [Refusal.IN_OVERLAY]
    assert [step for step in peers.recheck() if step.routes or step.refused] == []
    kernel.ways.clear()
    [step] = peers.recheck()
    assert [str(change.lease.subnet) for change in step.routes] == ["10.5.7.0/24"]
    kernel.ways["10.5.200.5"] = Way.TUNNEL
    [step] = peers.recheck()
    assert step.routes[0].after is None
    assert [one.refusal for one in step.refused] == [Refusal.IN_OVERLAY]
    peers.apply(Removed(peer.subnet), 0)
    kernel.asked.clear()
    assert list(peers.recheck()) == []
    assert kernel.asked == []


def test_ordinary_peers_are_not_judged_again() -> None:
    kernel = Kernel()
    peers = peers_for(OWN, way=kernel.way)
    peers.apply(Added(lease("10.5.7.0/24", "192.0.2.9")), 0)
    assert list(peers.recheck()) == []
    peers.apply(Added(lease("10.5.7.0/24", "192.0.2.9")), 0)
    assert kernel.asked == ["192.0.2.9"], "once, not at each renewal"
