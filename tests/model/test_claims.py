"""Overlap of networks: the index against the obvious pairwise test."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netaddr import IPNetwork

from tests.support.leases import subnet
from udpoverlay.model.claims import Claims
from udpoverlay.model.lease import Subnet


def net4(value: int, length: int) -> Subnet:
    # Few addresses, so that overlaps are common.
    return Subnet(v4=IPNetwork(f"10.0.{value % 4}.{value // 4 % 256}/{length}").cidr)


subnets = st.builds(net4, st.integers(0, 1023), st.integers(8, 31))


@given(st.lists(subnets, max_size=12), subnets)
@settings(max_examples=300, deadline=None)
def test_it_agrees_with_comparing_every_pair(held: list[Subnet], asked: Subnet) -> None:
    assert Claims(held).overlap(asked) == any(one.overlaps(asked) for one in held)


@given(st.lists(subnets, max_size=8), st.lists(subnets, max_size=8), subnets)
@settings(max_examples=200, deadline=None)
def test_what_was_taken_out_is_as_if_it_had_never_been(
    kept: list[Subnet], removed: list[Subnet], asked: Subnet
) -> None:
    claims = Claims([*kept, *removed])
    for one in removed:
        claims.remove(one)
    assert claims.overlap(asked) == Claims(kept).overlap(asked)


def test_families_do_not_touch_each_other() -> None:
    claims = Claims([subnet("10.0.0.0/8")])
    assert not claims.overlap(subnet(None, "fd00::/64"))
    claims.add(subnet(None, "fd00::/48"))
    assert claims.overlap(subnet("192.168.0.0/24", "fd00:0:0:5::/64"))


def test_taking_out_what_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        Claims().remove(subnet("10.0.0.0/24"))
