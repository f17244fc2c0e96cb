"""Free subnets and the decision how a host gets its own."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import OperatorError, OutOfSubnets
from udpoverlay.model.acquire import Create, Decision, Delete, Listing, Reuse, decide
from udpoverlay.model.allocator import CANDIDATES, free_addresses, pick_subnet
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf, parse_netconf

US = LeaseAttrs(IPAddress("1.2.3.4"))
THEM = LeaseAttrs(IPAddress("1.1.1.1"))
RNG = random.Random(1)


def conf_of(text: str) -> NetConf:
    return parse_netconf(text).validated()


CONF = conf_of('{"Network":"10.3.0.0/16","SubnetMin":"10.3.1.0","SubnetMax":"10.3.25.0"}')
DUAL = conf_of('{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48"}')


def v4(text: str) -> Subnet:
    return Subnet(IPNetwork(text))


def net4(subnet: Subnet) -> IPNetwork:
    assert subnet.v4 is not None
    return subnet.v4


def lease(subnet: str, attrs: LeaseAttrs = THEM, registry_lease: int = 7) -> Lease:
    return Lease(v4(subnet), attrs, registry_lease=registry_lease)


OTHERS = tuple(lease(f"10.3.{n}.0/24") for n in (1, 2, 4, 5, 31))


def choose(
    leases: tuple[Lease, ...] = OTHERS,
    previous: Subnet | None = None,
    conf: NetConf = CONF,
    occupied: tuple[Subnet, ...] = (),
) -> Decision:
    return decide(Listing(leases, occupied), US, previous, conf, RNG)


# The walk.


@st.composite
def walks(draw: st.DrawFn) -> tuple[int, int, int, list[tuple[int, int]]]:
    step = 1 << draw(st.integers(0, 4))
    low = draw(st.integers(0, 20)) * step
    high = low + draw(st.integers(-1, 40)) * step
    sizes = st.integers(0, 6).map(lambda bits: 1 << bits)
    taken = []
    for size in draw(st.lists(sizes, max_size=12)):
        first = draw(st.integers(0, 1000)) // size * size
        taken.append((first, first + size - 1))
    return low, high, step, taken


@given(walks(), st.integers(1, 20))
def test_the_walk_finds_what_a_slow_obvious_one_finds(
    walk: tuple[int, int, int, list[tuple[int, int]]], most: int
) -> None:
    low, high, step, taken = walk
    obvious = [
        at
        for at in range(low, high + 1, step)
        if not any(first <= at + step - 1 and at <= last for first, last in taken)
    ]
    assert free_addresses(low, high, step, taken, most) == obvious[:most]


def test_a_candidate_overlapping_a_lease_of_any_length_is_not_free() -> None:
    taken = [v4("10.3.0.0/20"), v4("10.3.16.128/30")]
    picked = {str(pick_subnet(CONF, taken, random.Random(n))) for n in range(200)}
    assert picked == {f"10.3.{n}.0/24" for n in range(17, 26)}


def test_narrow_lease_inside_a_wide_one_frees_nothing() -> None:
    """Whichever begins first: the wide one holds all of its range."""
    for narrow in ("10.3.1.128/25", "10.3.2.0/30", "10.3.0.0/25"):
        taken = [v4("10.3.0.0/20"), v4(narrow), v4("10.3.16.0/24")]
        picked = {str(pick_subnet(CONF, taken, random.Random(n))) for n in range(200)}
        assert picked == {f"10.3.{n}.0/24" for n in range(17, 26)}


def test_each_family_is_drawn_from_its_own_range() -> None:
    subnet = pick_subnet(DUAL, [], RNG)
    assert subnet.v4 in IPNetwork("10.3.0.0/16")
    assert subnet.v6 in IPNetwork("fc00::/48")
    assert str(subnet).count("/24&") == 1
    assert str(subnet).endswith("/64")


def test_only_the_first_hundred_free_ones_are_candidates() -> None:
    conf = conf_of('{"Network":"10.0.0.0/8"}')
    drawn = {net4(pick_subnet(conf, [], random.Random(n))).value for n in range(2000)}
    assert len(drawn) == CANDIDATES
    assert max(drawn) == IPAddress("10.0.100.0").value


def test_a_full_range_is_out_of_subnets_naming_the_range() -> None:
    full = [v4(f"10.3.{n}.0/24") for n in range(1, 26)]
    with pytest.raises(
        OutOfSubnets, match=r"no free /24 between 10\.3\.1\.0 and 10\.3\.25\.0 \(25 leases\)"
    ):
        pick_subnet(CONF, full, RNG)


def test_a_range_full_of_wide_leases_names_them() -> None:
    wide = [v4(f"10.3.{n}.0/22") for n in range(0, 28, 4)]
    with pytest.raises(OutOfSubnets) as caught:
        pick_subnet(CONF, [*wide, v4("10.3.9.0/24")], RNG)
    named = "10.3.0.0/22, 10.3.4.0/22, 10.3.8.0/22, 10.3.12.0/22, …"
    assert f"(8 leases, 7 of them wider than /24: {named})" in caught.value.what
    assert "another SubnetLen" in caught.value.fix


def test_min_above_max_is_out_of_subnets() -> None:
    conf = replace(CONF, subnet_min=IPAddress("10.3.9.0"), subnet_max=IPAddress("10.3.8.0"))
    with pytest.raises(OutOfSubnets):
        pick_subnet(conf, [], RNG)


def test_the_end_of_the_address_space_does_not_wrap() -> None:
    conf = conf_of('{"Network":"255.255.0.0/16"}')
    full = [v4(f"255.255.{n}.0/24") for n in range(256)]
    with pytest.raises(OutOfSubnets):
        pick_subnet(conf, full, RNG)
    assert pick_subnet(conf, full[:-1], RNG) == v4("255.255.255.0/24")


def test_among_ten_thousand_leases_a_free_subnet_is_found() -> None:
    conf = conf_of('{"Network":"10.0.0.0/8"}')
    leases = tuple(lease(f"10.{n >> 8}.{n & 255}.0/24") for n in range(10_000))
    decision = choose(leases, v4("10.0.3.0/24"), conf)
    assert isinstance(decision, Create)
    assert decision.subnet not in {other.subnet for other in leases}


# The decision.


def test_a_new_host_gets_a_free_subnet_in_range() -> None:
    decision = choose()
    assert isinstance(decision, Create)
    assert not decision.previous
    assert net4(decision.subnet).prefixlen == 24
    assert IPAddress("10.3.1.0") <= net4(decision.subnet).ip <= IPAddress("10.3.25.0")
    assert decision.subnet not in [other.subnet for other in OTHERS]


def test_a_returning_host_gets_its_own_lease_again() -> None:
    ours = lease("10.3.7.0/24", US)
    assert choose((*OTHERS, ours)) == Reuse(ours, reservation=False)


def test_a_reservation_stays_one() -> None:
    ours = lease("10.3.7.0/24", US, registry_lease=0)
    assert choose((*OTHERS, ours)) == Reuse(ours, reservation=True)


def test_the_backend_type_of_our_old_lease_does_not_matter() -> None:
    ours = lease("10.3.7.0/24", replace(US, backend_type="vxlan"))
    assert choose((ours,)) == Reuse(ours, reservation=False)


@pytest.mark.parametrize("subnet", ["10.4.7.0/24", "10.3.7.0/25", "10.3.26.0/24", "10.3.0.0/24"])
def test_our_lease_that_does_not_fit_any_more_is_deleted(subnet: str) -> None:
    ours = lease(subnet, US)
    assert choose((*OTHERS, ours)) == Delete((ours,))


def test_all_stale_leases_of_ours_are_deleted_at_once() -> None:
    stale = tuple(lease(f"10.4.{n}.0/24", US) for n in range(50))
    pinned = lease("10.4.99.0/24", US, registry_lease=0)
    assert choose((*OTHERS, *stale, pinned)) == Delete(stale)


def test_our_lease_that_fits_is_kept_beside_one_that_does_not() -> None:
    stale, ours = lease("10.4.7.0/24", US), lease("10.3.7.0/24", US)
    assert choose((stale, ours)) == Reuse(ours, reservation=False)


def test_our_reservation_that_does_not_fit_is_left_to_its_author() -> None:
    pinned = lease("10.3.6.0/23", US, registry_lease=0)
    decision = choose((*OTHERS, pinned), previous=v4("10.3.7.0/24"))
    assert isinstance(decision, Create)
    assert decision.note == "10.3.7.0/24 is taken by 10.3.6.0/23"


def test_turning_ipv6_on_gives_up_the_ipv4_only_lease() -> None:
    ours = lease("10.3.7.0/24", US)
    assert choose((ours,), conf=DUAL) == Delete((ours,))


def test_turning_ipv6_off_gives_up_the_dual_stack_lease() -> None:
    ours = Lease(Subnet(IPNetwork("10.3.7.0/24"), IPNetwork("fc00:0:0:7::/64")), US, None, 0, 7)
    assert choose((ours,)) == Delete((ours,))
    assert choose((ours,), conf=DUAL) == Reuse(ours, reservation=False)


def test_the_previous_subnet_is_taken_again_when_free() -> None:
    assert choose(previous=v4("10.3.6.0/24")) == Create(v4("10.3.6.0/24"), previous=True)


@pytest.mark.parametrize(
    ("previous", "note"),
    [
        ("10.4.1.0/24", "10.4.1.0/24 does not fit the network configuration"),
        ("10.3.6.0/25", "10.3.6.0/25 does not fit the network configuration"),
        ("10.3.2.0/24", "10.3.2.0/24 is taken by 10.3.2.0/24"),
    ],
)
def test_a_previous_subnet_that_cannot_be_had_is_passed_over(previous: str, note: str) -> None:
    decision = choose(previous=v4(previous))
    assert isinstance(decision, Create)
    assert (decision.previous, decision.note) == (False, note)


def test_previous_subnet_is_not_taken_from_a_lease_of_other_length() -> None:
    decision = choose((lease("10.3.6.64/26"),), previous=v4("10.3.6.0/24"))
    assert isinstance(decision, Create)
    assert not decision.previous


def test_an_entry_nobody_can_read_still_occupies_its_subnet() -> None:
    occupied = tuple(v4(f"10.3.{n}.0/24") for n in range(1, 26))
    with pytest.raises(OutOfSubnets):
        choose((), occupied=occupied)
    decision = choose((), previous=v4("10.3.6.0/24"), occupied=occupied[:20])
    assert isinstance(decision, Create)
    assert not decision.previous


WIDE = ["10.0.0.0/8", "10.3.0.0/16", "10.3.0.0/17", "10.3.128.0/17", "0.0.0.0/1"]


@pytest.mark.parametrize("registry_lease", [7, 0], ids=["lease", "reservation"])
def test_wide_leases_take_no_range_from_anyone(registry_lease: int) -> None:
    wide = tuple(lease(net, registry_lease=registry_lease) for net in WIDE)
    decision = choose((*wide, *OTHERS))
    assert isinstance(decision, Create)
    assert not any(decision.subnet.overlaps(other.subnet) for other in OTHERS)
    occupied = tuple(one.subnet for one in wide)
    assert isinstance(choose(OTHERS, occupied=occupied), Create), "nor do unreadable ones"


def test_previous_subnet_is_taken_again_under_wide_leases() -> None:
    wide = tuple(lease(net) for net in WIDE)
    assert choose(wide, previous=v4("10.3.6.0/24")) == Create(v4("10.3.6.0/24"), previous=True)


def test_wide_ipv6_range_blocks_no_one_and_the_ipv4_half_still_counts() -> None:
    half = Lease(Subnet(IPNetwork("10.3.7.0/24"), IPNetwork("fc00::/40")), THEM, None, 0, 7)
    decision = choose((half,), previous=half.subnet, conf=DUAL)
    assert isinstance(decision, Create)
    assert decision.subnet.v4 != half.subnet.v4
    assert decision.subnet.v6 in IPNetwork("fc00::/48")


def test_a_moved_network_gives_a_new_subnet() -> None:
    decision = choose(previous=v4("10.3.6.0/24"), conf=conf_of('{"Network":"10.4.0.0/16"}'))
    assert isinstance(decision, Create)
    assert decision.subnet.v4 in IPNetwork("10.4.0.0/16")


def test_without_ipv4_leases_cannot_be_told_apart() -> None:
    conf = conf_of('{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48"}')
    with pytest.raises(OperatorError, match="EnableIPv4"):
        choose(conf=conf)


def test_a_host_without_a_public_address_never_takes_over_another_such_lease() -> None:
    no_host = LeaseAttrs(IPAddress("0.0.0.0"))
    listing = Listing((lease("10.3.7.0/24", no_host),))
    with pytest.raises(OperatorError, match="--public-ip"):
        decide(listing, no_host, None, CONF, RNG)
