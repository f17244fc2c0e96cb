"""Which ranges can be a host's subnet; none that a host of the same network may hold is refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPNetwork

from tests.support.leases import subnet
from udpoverlay.errors import OperatorError
from udpoverlay.model.allocator import pick_subnet
from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.place import Places
from udpoverlay.model.refusal import Refusal

CONF = NetConf(network=IPNetwork("10.244.0.0/16")).validated()
DUAL = NetConf(
    network=IPNetwork("10.244.0.0/16"), enable_ipv6=True, ipv6_network=IPNetwork("fd00::/48")
).validated()
PLACES = Places.of(CONF)


@pytest.mark.parametrize(
    ("net", "refusal"),
    [
        ("10.0.0.0/8", Refusal.TOO_WIDE),
        ("10.244.0.0/15", Refusal.TOO_WIDE),
        ("0.0.0.0/1", Refusal.TOO_WIDE),
        ("127.0.0.0/8", Refusal.OUTSIDE_NETWORK),
        ("224.0.0.0/4", Refusal.OUTSIDE_NETWORK),
        ("10.245.0.0/24", Refusal.OUTSIDE_NETWORK),
        ("10.244.0.0/16", Refusal.TOO_WIDE),
        ("10.244.128.0/17", Refusal.TOO_WIDE),
        ("10.244.3.6/31", Refusal.TOO_NARROW),
        ("10.244.64.0/18", None),
        ("10.244.0.0/24", None),
        ("10.244.255.252/30", None),
    ],
)
def test_range_in_etcd(net: str, refusal: Refusal | None) -> None:
    assert PLACES.refusal(IPNetwork(net)) is refusal


@pytest.mark.parametrize(
    ("net", "refusal"),
    [
        ("10.244.0.0/16", None),
        ("10.244.128.0/17", None),
        ("10.244.3.6/31", None),
        ("10.244.3.6/32", None),
        ("10.0.0.0/8", Refusal.TOO_WIDE),
        ("10.245.0.0/24", Refusal.OUTSIDE_NETWORK),
    ],
)
def test_pod_cidr_of_any_length_is_a_place_in_kubernetes(net: str, refusal: Refusal | None) -> None:
    assert Places.of(CONF, any_length=True).refusal(IPNetwork(net)) is refusal


@given(
    st.integers(8, 28), st.integers(0, 30), st.integers(0, 30), st.booleans(), st.integers(0, 2**16)
)
def test_subnet_of_any_subnet_len_of_the_network_is_a_place(
    network: int, earlier: int, now: int, dual: bool, seed: int
) -> None:
    """A host that runs since before SubnetLen, SubnetMin or EnableIPv6 changed keeps its route."""

    def conf(length: int) -> NetConf:
        return NetConf(
            network=IPNetwork(f"10.0.0.0/{network}"),
            subnet_len=length,
            enable_ipv6=dual,
            ipv6_network=IPNetwork("fd00::/48"),
        ).validated()

    try:
        before, after = conf(earlier), conf(now)
    except OperatorError:  # no valid configuration
        return
    held = pick_subnet(before, [], random.Random(seed))
    assert held.v4 is not None
    assert Places.of(after).refusal(held.v4) is None
    assert Places.of(after).part(held) == held


def test_part_keeps_the_family_that_has_a_place() -> None:
    places = Places.of(DUAL)
    both = subnet("10.244.1.0/24", "fd00:0:0:7::/64")
    assert places.part(both) == both
    assert places.part(subnet("10.244.1.0/24", "fd00::/16")) == Subnet(both.v4)
    assert places.part(subnet("10.0.0.0/8", "fd00:0:0:7::/64")) == Subnet(None, both.v6)
    assert places.part(subnet("10.0.0.0/8", "fd00::/16")) is None
    assert PLACES.part(both) == Subnet(both.v4), "IPv6 is off: its ranges count for no host"
