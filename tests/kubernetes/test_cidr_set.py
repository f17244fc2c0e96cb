"""Which range a Node gets: flags, allocations, and that no two Nodes ever share an address."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPNetwork

from udpoverlay.errors import OperatorError, OutOfSubnets
from udpoverlay.kubernetes.cidr_set import CidrAllocator, Pool, pools_of
from udpoverlay.kubernetes.node import NodeView

V4 = Pool(IPNetwork("10.244.0.0/16"), 24)
V6 = Pool(IPNetwork("fd00:10::/48"), 64)
SMALL = Pool(IPNetwork("10.9.0.0/28"), 30)


def view(name: str, *cidrs: str) -> NodeView:
    return NodeView(name, pod_cidrs=cidrs)


@pytest.mark.parametrize(
    ("cidrs", "sizes", "pools"),
    [
        (["10.244.0.0/16"], {}, [V4]),
        (["10.244.3.7/16"], {}, [V4]),
        (["fd00:10::/48"], {}, [V6]),
        (["10.244.0.0/16", "fd00:10::/48"], {}, [V4, V6]),
        (["fd00:10::/48", "10.244.0.0/16"], {}, [V6, V4]),
        (["10.9.0.0/28"], {"mask_size": 30}, [SMALL]),
        (["10.9.0.0/28", "fd00:10::/48"], {"mask_size_v4": 30, "mask_size_v6": 64}, [SMALL, V6]),
    ],
)
def test_flags_become_pools(cidrs: list[str], sizes: dict[str, int], pools: list[Pool]) -> None:
    assert pools_of(cidrs, **sizes) == tuple(pools)


@pytest.mark.parametrize(
    ("cidrs", "sizes", "names"),
    [
        ([], {}, "--cluster-cidr is missing"),
        (["ten"], {}, "--cluster-cidr 'ten'"),
        (["10.0.0.0"], {}, "--cluster-cidr '10.0.0.0'"),
        (["10.0.0.0/16", "10.1.0.0/16"], {}, "more than one range of a family"),
        (["10.0.0.0/16", "fd00::/48", "fd01::/48"], {}, "more than one range of a family"),
        (["10.0.0.0/16"], {"mask_size": 15}, "--node-cidr-mask-size 15"),
        (["10.0.0.0/16"], {"mask_size": 31}, "--node-cidr-mask-size 31"),
        (["10.0.0.0/16"], {"mask_size_v4": 31}, "--node-cidr-mask-size-ipv4 31"),
        (["10.0.0.0/26"], {}, "--node-cidr-mask-size-ipv4 24 does not fit"),
        (["fd00::/32"], {}, "more than 65,536"),
        (["10.0.0.0/16"], {"mask_size_v6": 64}, "--node-cidr-mask-size-ipv6 64"),
        (["10.0.0.0/16", "fd00::/48"], {"mask_size": 24}, "ambiguous"),
        (["10.0.0.0/16"], {"mask_size": 24, "mask_size_v4": 24}, "both given"),
    ],
)
def test_a_wrong_flag_is_named(cidrs: list[str], sizes: dict[str, int], names: str) -> None:
    with pytest.raises(OperatorError, match=names):
        pools_of(cidrs, **sizes)


def test_ranges_are_given_in_order_one_of_each_family() -> None:
    allocator = CidrAllocator([V4, V6])
    assert [str(net) for net in allocator.allocate("a")] == ["10.244.0.0/24", "fd00:10::/64"]
    assert [str(net) for net in allocator.allocate("b")] == ["10.244.1.0/24", "fd00:10:0:1::/64"]
    assert allocator.free() == (254, 65534)


def test_a_freed_range_rests_until_the_others_were_used() -> None:
    allocator = CidrAllocator([SMALL])
    first = allocator.allocate("a")
    allocator.allocate("b")
    allocator.release("a")
    assert [allocator.allocate(name) for name in "cd"] != [first, first]
    assert allocator.allocate("e") == first
    with pytest.raises(OutOfSubnets, match=r"all 4 ranges of --cluster-cidr 10\.9\.0\.0/28"):
        allocator.allocate("f")


def test_a_pool_that_is_full_in_one_family_gives_nothing() -> None:
    allocator = CidrAllocator([Pool(IPNetwork("10.9.0.0/30"), 30), V6])
    allocator.allocate("a")
    with pytest.raises(OutOfSubnets):
        allocator.allocate("b")
    assert allocator.held("b") == ()
    assert allocator.free() == (0, 65535)


def test_what_a_node_has_is_never_given_to_another() -> None:
    allocator = CidrAllocator([V4])
    assert allocator.adopt(view("a", "10.244.0.0/24")) == []
    assert str(allocator.allocate("b")[0]) == "10.244.1.0/24"


def test_a_foreign_range_of_another_size_is_kept_clear_of() -> None:
    allocator = CidrAllocator([V4])
    assert allocator.adopt(view("big", "10.244.0.0/22")) == []
    assert allocator.adopt(view("tiny", "10.244.4.64/27")) == []
    assert str(allocator.allocate("b")[0]) == "10.244.5.0/24"
    allocator.release("big")
    assert allocator.free() == (254,)


def test_adopting_again_replaces_what_was_written() -> None:
    allocator = CidrAllocator([V4])
    allocator.adopt(view("a", "10.244.0.0/24"))
    allocator.adopt(view("a", "10.244.9.0/24"))
    assert allocator.held("a") == (IPNetwork("10.244.9.0/24"),)
    assert allocator.free() == (255,)
    allocator.adopt(view("a"))
    assert allocator.free() == (256,)


@pytest.mark.parametrize(
    ("cidrs", "text"),
    [
        (["10.99.0.0/24"], "outside --cluster-cidr"),
        (["10.0.0.0/8"], "outside --cluster-cidr"),
        (["nonsense"], "not a CIDR"),
        (["10.244.7.0/24"], r"overlaps 10\.244\.7\.0/25 of Node other"),
        (["fd00::/64"], "a family that --cluster-cidr has not"),
    ],
)
def test_what_is_odd_about_a_node_is_said(cidrs: list[str], text: str) -> None:
    allocator = CidrAllocator([V4])
    allocator.adopt(view("other", "10.244.7.0/25"))
    findings = allocator.adopt(view("a", *cidrs))
    assert findings
    assert findings[0].node == "a"
    assert any(re.search(text, found.text) for found in findings)


def test_a_node_with_one_family_of_two_is_named() -> None:
    findings = CidrAllocator([V4, V6]).adopt(view("a", "10.244.7.0/24"))
    assert "one family is missing" in findings[0].text
    assert "kubectl delete node a" in findings[0].fix


NODES = st.sampled_from("abcdefgh")
FOREIGN = st.builds(
    lambda value, length: str(IPNetwork((value, length), version=4).cidr),
    st.integers(int(V4.network.first) - 1024, int(V4.network.first) + 4095),
    st.integers(20, 30),
)


@given(st.lists(st.one_of(
    st.tuples(st.just("allocate"), NODES, st.none()),
    st.tuples(st.just("release"), NODES, st.none()),
    st.tuples(st.just("adopt"), NODES, FOREIGN),
), max_size=40))  # fmt: skip
def test_a_range_that_is_given_overlaps_nothing_that_is_held(
    steps: list[tuple[str, str, str | None]],
) -> None:
    allocator = CidrAllocator([Pool(IPNetwork("10.244.0.0/20"), 24)])
    for what, node, cidr in steps:
        if what == "release":
            allocator.release(node)
        elif what == "adopt" and cidr is not None:
            before = {n: nets for n, nets in allocator.holders().items() if n != node}
            odd = {finding.text for finding in allocator.adopt(view(node, cidr))}
            mine = IPNetwork(cidr)
            clashes = any(mine in net or net in mine for nets in before.values() for net in nets)
            assert clashes == any("overlaps" in text for text in odd)
        elif not allocator.held(node):
            others = [net for nets in allocator.holders().values() for net in nets]
            try:
                [given_] = allocator.allocate(node)
            except OutOfSubnets:
                continue
            assert not any(given_ in net or net in given_ for net in others)
