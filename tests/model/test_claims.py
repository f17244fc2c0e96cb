"""Overlap of networks: the index against the obvious pairwise test."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netaddr import IPNetwork

from tests.support.leases import subnet
from udpoverlay.model.claims import Claims
from udpoverlay.model.lease import Subnet, SubnetKey


def net4(value: int, length: int) -> Subnet:
    # Few addresses, so that overlaps are common.
    return Subnet(v4=IPNetwork(f"10.0.{value % 4}.{value // 4 % 256}/{length}").cidr)


def claims_of(*held: Subnet) -> Claims[int]:
    claims: Claims[int] = Claims()
    for claimant, one in enumerate(held):
        claims.add(one, claimant)
    return claims


subnets = st.builds(net4, st.integers(0, 1023), st.integers(8, 31))


@given(st.lists(subnets, max_size=12), subnets)
@settings(max_examples=300, deadline=None)
def test_heads_are_the_first_claimant_of_each_overlapping_network(
    held: list[Subnet], asked: Subnet
) -> None:
    obvious: dict[SubnetKey, int] = {}
    for claimant, one in enumerate(held):
        if one.overlaps(asked):
            obvious.setdefault(one.key, claimant)
    claims = claims_of(*held)
    found = list(claims.heads(asked))
    assert sorted(found) == sorted(obvious.values())
    first = claims.first(asked)
    assert first in obvious.values() if obvious else first is None


@given(st.lists(subnets, max_size=8), st.lists(subnets, max_size=8), subnets)
@settings(max_examples=200, deadline=None)
def test_removed_claims_leave_no_trace(
    kept: list[Subnet], removed: list[Subnet], asked: Subnet
) -> None:
    claims = claims_of(*kept, *removed)
    for claimant, one in enumerate(removed, len(kept)):
        claims.remove(one, claimant)
    assert sorted(claims.heads(asked)) == sorted(claims_of(*kept).heads(asked))


def test_next_claimant_heads_the_network_when_the_first_leaves() -> None:
    one = subnet("10.0.0.0/24")
    claims = claims_of(one, one, one)
    claims.remove(one, 0)
    claims.remove(one, 2)
    assert list(claims.heads(one)) == [1]


def test_families_do_not_touch_each_other() -> None:
    claims = claims_of(subnet("10.0.0.0/8"))
    assert claims.first(subnet(None, "fd00::/64")) is None
    claims.add(subnet(None, "fd00::/48"), 7)
    assert claims.first(subnet("192.168.0.0/24", "fd00:0:0:5::/64")) == 7


def test_removing_what_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        claims_of().remove(subnet("10.0.0.0/24"), 0)
    with pytest.raises(KeyError):
        claims_of(subnet("10.0.0.0/24")).remove(subnet("10.0.0.0/24"), 1)
