"""host/interfaces.py: which interface and which addresses, over made-up hosts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from netaddr import IPAddress

from udpoverlay.errors import OperatorError
from udpoverlay.host.interfaces import Choice, Stack, Wanted, choose_interface, tunnel_mtu
from udpoverlay.host.links import Address, DefaultRoute, HostView, Link, RouteAnswer


def address(text: str, permanent: bool = True, temporary: bool = False) -> Address:
    return Address(IPAddress(text), 24, permanent=permanent, temporary=temporary)


def link(index: int, name: str, *texts: str, mtu: int = 1500) -> Link:
    return Link(index, name, mtu, addresses=tuple(address(text) for text in texts))


HOST = HostView(
    links=(
        link(1, "lo", "127.0.0.1", "::1", mtu=65536),
        link(2, "eth0", "192.0.2.10", "2001:db8::10", "fe80::10"),
        link(3, "eth1", "198.51.100.7", "2001:db8:1::7", mtu=9000),
        link(7, "docker0", "172.17.0.1"),
    ),
    default_v4=DefaultRoute(2),
    default_v6=DefaultRoute(2),
)


def choose(
    wanted: Wanted, stack: Stack = Stack.V4, view: HostView = HOST, log: list[str] | None = None
) -> Choice:
    return choose_interface(wanted, stack, view, (log if log is not None else []).append)


def refusal(wanted: Wanted, stack: Stack = Stack.V4, view: HostView = HOST) -> str:
    with pytest.raises(OperatorError) as caught:
        choose(wanted, stack, view)
    return str(caught.value)


def changed(view: HostView, old: str, **values: object) -> HostView:
    """`view` with some fields of link `old` replaced."""
    return replace(
        view,
        links=tuple(
            replace(one, **values) if one.name == old else one  # type: ignore[arg-type] # any field
            for one in view.links
        ),
    )


# --- which lookup --------------------------------------------------------------------------------


def test_empty_name_or_pattern_is_the_default_route() -> None:
    for wanted in (Wanted(iface=("",)), Wanted(iface_regex=("",)), Wanted(iface=("nope", ""))):
        assert choose(wanted).name == "eth0"
    assert choose(Wanted(iface=("", "eth1"))).name == "eth0"
    assert choose(Wanted(iface=("", "eth1")), view=replace(HOST, default_v4=None)).name == "eth1"


def test_without_any_setting_the_default_route_decides() -> None:
    choice = choose(Wanted())
    assert (choice.name, choice.index, choice.mtu) == ("eth0", 2, 1500)
    assert choice.address == choice.public_ip == IPAddress("192.0.2.10")
    assert (choice.address_v6, choice.public_ipv6) == (None, None)


def test_a_public_ip_alone_means_the_interface_that_owns_it() -> None:
    choice = choose(Wanted(public_ip="198.51.100.7"))
    assert (choice.name, choice.public_ip) == ("eth1", IPAddress("198.51.100.7"))


def test_a_nat_address_alone_fails_and_says_so() -> None:
    text = refusal(Wanted(public_ip="203.0.113.1"))
    assert "public-ip '203.0.113.1': no interface has the address 203.0.113.1" in text
    assert "eth0 (192.0.2.10" in text


def test_a_nat_address_with_an_interface_is_published_but_not_bound() -> None:
    choice = choose(Wanted(iface=("eth0",), public_ip="203.0.113.1"))
    assert (choice.address, choice.public_ip) == (IPAddress("192.0.2.10"), IPAddress("203.0.113.1"))


def test_interfaces_are_tried_in_order_and_failures_are_told() -> None:
    log: list[str] = []
    choice = choose(Wanted(iface=("wlan0", "10.0.0.1", "eth1", "eth0")), log=log)
    assert choice.name == "eth1"
    assert log == [
        "iface 'wlan0': no interface has this name",
        "iface '10.0.0.1': no interface has the address 10.0.0.1",
    ]


def test_expressions_come_after_all_names_and_the_route_comes_last() -> None:
    view = replace(HOST, reach=RouteAnswer(7, IPAddress("172.17.0.1")))
    everything = Wanted(iface=("nope",), iface_regex=("no", "^eth1$"), iface_can_reach="172.17.0.9")
    assert choose(everything, view=view).name == "eth1"
    assert choose(replace(everything, iface_regex=("no",)), view=view).name == "docker0"
    assert choose(replace(everything, iface=("eth0",)), view=view).name == "eth0"


def test_an_error_names_everything_that_was_tried_and_what_the_host_has() -> None:
    text = refusal(Wanted(iface=("a0",), iface_regex=("b+$",), iface_can_reach="x"))
    assert "iface 'a0': no interface has this name" in text
    assert "iface-regex 'b+$': matches no address and no name" in text
    assert "iface-can-reach 'x': is not an IP address" in text
    assert "lo (127.0.0.1 ::1), eth0 (192.0.2.10 2001:db8::10 fe80::10)" in text


# --- by name and by address ----------------------------------------------------------------------


def test_an_address_chooses_its_owner_even_when_it_is_loopback_or_deprecated() -> None:
    old = Address(IPAddress("192.0.2.99"), 24, deprecated=True)
    view = changed(HOST, "docker0", addresses=(old,))
    assert choose(Wanted(iface=("127.0.0.1",)), view=view).name == "lo"
    assert choose(Wanted(iface=("192.0.2.99",)), view=view).address == IPAddress("192.0.2.99")


def test_the_first_interface_by_index_wins_when_two_have_the_address() -> None:
    view = changed(HOST, "docker0", addresses=(address("192.0.2.10"),))
    assert choose(Wanted(iface=("192.0.2.10",)), view=view).name == "eth0"


def test_an_ipv6_address_is_no_answer_for_ipv4() -> None:
    assert "not an IPv4 address" in refusal(Wanted(iface=("2001:db8::10",)))


def test_an_interface_without_a_usable_address_fails() -> None:
    assert "lo has no usable IPv4 address" in refusal(Wanted(iface=("lo",)))


def test_an_interface_of_unknown_mtu_fails() -> None:
    assert "MTU of eth0 is not known" in refusal(Wanted(), view=changed(HOST, "eth0", mtu=0))


# --- by expression -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (r"198\.51", "eth1"),  # an address, unanchored
        (r"\.7$", "eth1"),
        (r"^eth", "eth0"),  # a name, in index order
        (r"172|198", "eth1"),  # addresses in index order, not in the pattern's
        ("docker", "docker0"),
        ("[[:digit:]]{3}[.]17", "docker0"),
        (r"\Q172.17.0.1\E", "docker0"),
        (r"0\z", "eth0"),
    ],
)
def test_an_expression_matches_addresses_first_then_names(pattern: str, name: str) -> None:
    assert choose(Wanted(iface_regex=(pattern,))).name == name


def test_an_expression_never_matches_loopback_addresses() -> None:
    assert "matches no address" in refusal(Wanted(iface_regex=("^127",)))


def test_the_address_that_matched_is_used_and_not_the_preferred_one() -> None:
    view = changed(HOST, "eth0", addresses=(address("192.0.2.10"), address("192.0.2.77")))
    assert choose(Wanted(iface_regex=("77",)), view=view).address == IPAddress("192.0.2.77")


def test_a_broken_expression_fails_alone() -> None:
    log: list[str] = []
    assert choose(Wanted(iface_regex=("(", "eth1")), log=log).name == "eth1"
    assert log[0].startswith("iface-regex '(': is not a regular expression: ")


def test_a_dual_stack_expression_needs_both_families_on_one_interface() -> None:
    assert choose(Wanted(iface_regex=(r"1$|7$",)), Stack.DUAL).name == "eth1"
    both = choose(Wanted(iface_regex=(r":7$|\.7$",)), Stack.DUAL)
    assert (both.address, both.address_v6) == (
        IPAddress("198.51.100.7"),
        IPAddress("2001:db8:1::7"),
    )


def test_a_regex_looks_at_all_addresses_before_any_name() -> None:
    """A name that matches counts only where no address of any interface does."""
    choice = choose(Wanted(iface_regex=(r"^eth0$|^198\.51",)))
    assert (choice.name, choice.address) == ("eth1", IPAddress("198.51.100.7"))


def test_a_half_match_leaves_no_address_behind_for_a_name_that_matches() -> None:
    # eth0 matches by its IPv4 address alone, eth1 by its name: eth1 must not get eth0's address.
    choice = choose(Wanted(iface_regex=(r"^192\.0\.2|^eth1$",)), Stack.DUAL)
    assert (choice.name, choice.address) == ("eth1", IPAddress("198.51.100.7"))


# --- by route ------------------------------------------------------------------------------------


def test_can_reach_takes_the_source_address_of_the_route() -> None:
    view = replace(HOST, reach=RouteAnswer(2, IPAddress("192.0.2.200")))
    choice = choose(Wanted(iface_can_reach="203.0.113.9"), view=view)
    assert (choice.name, choice.address) == ("eth0", IPAddress("192.0.2.200"))


def test_can_reach_without_a_route_says_what_the_kernel_said() -> None:
    view = replace(HOST, reach_error="cannot look up the route to 203.0.113.9: unreachable")
    assert "203.0.113.9: unreachable" in refusal(Wanted(iface_can_reach="203.0.113.9"), view=view)


def test_no_default_route_is_an_error() -> None:
    text = refusal(Wanted(), view=replace(HOST, default_v4=None))
    assert "default route: the host has no IPv4 default route" in text


def test_a_multipath_default_route_is_an_error() -> None:
    assert "multipath" in refusal(Wanted(), view=replace(HOST, default_v4=DefaultRoute(0)))


def test_dual_stack_default_routes_must_share_an_interface() -> None:
    assert choose(Wanted(), Stack.DUAL).address_v6 == IPAddress("2001:db8::10")
    text = refusal(Wanted(), Stack.DUAL, replace(HOST, default_v6=DefaultRoute(3)))
    assert "IPv4 leaves through eth0, but IPv6 through eth1" in text


# --- order of addresses --------------------------------------------------------------------------


def best(*addresses: Address, stack: Stack = Stack.V4) -> IPAddress | None:
    choice = choose(Wanted(), stack, changed(HOST, "eth0", addresses=addresses))
    return choice.address or choice.address_v6


def test_global_comes_before_link_local_even_when_it_is_dynamic() -> None:
    dynamic = address("192.0.2.1", permanent=False)
    assert best(address("169.254.1.1"), dynamic) == dynamic.ip


def test_permanent_comes_before_dynamic_and_lasting_before_temporary() -> None:
    dynamic = address("192.0.2.1", permanent=False)
    secondary = address("192.0.2.2", temporary=True)
    primary = address("192.0.2.3")
    assert best(dynamic, secondary, primary) == primary.ip
    assert best(dynamic, secondary) == secondary.ip


def test_equal_addresses_keep_the_kernels_order() -> None:
    assert best(address("192.0.2.9"), address("192.0.2.1")) == IPAddress("192.0.2.9")


def test_link_local_is_used_when_there_is_nothing_else() -> None:
    assert best(address("169.254.1.1")) == IPAddress("169.254.1.1")
    assert best(address("fe80::1"), stack=Stack.V6) == IPAddress("fe80::1")


@pytest.mark.parametrize("text", ["127.0.0.9", "224.0.0.5", "255.255.255.255", "0.0.0.0"])
def test_addresses_that_are_not_unicast_are_never_used(text: str) -> None:
    view = changed(HOST, "eth0", addresses=(address(text),))
    assert "no usable IPv4 address" in refusal(Wanted(), view=view)


def test_deprecated_addresses_are_not_used() -> None:
    old = Address(IPAddress("192.0.2.1"), 24, deprecated=True)
    assert best(old, address("169.254.1.1")) == IPAddress("169.254.1.1")


# --- IPv6 and both -------------------------------------------------------------------------------


def test_ipv6_alone_uses_ipv6_throughout() -> None:
    choice = choose(Wanted(iface=("2001:db8:1::7",)), Stack.V6)
    assert (choice.name, choice.address, choice.public_ip) == ("eth1", None, None)
    assert choice.address_v6 == choice.public_ipv6 == IPAddress("2001:db8:1::7")


def test_public_ipv6_must_be_on_the_interface_of_the_ipv4_address() -> None:
    right = Wanted(public_ip="198.51.100.7", public_ipv6="2001:db8:1::7")
    assert choose(right, Stack.DUAL).public_ipv6 == IPAddress("2001:db8:1::7")
    text = refusal(replace(right, public_ipv6="2001:db8::10"), Stack.DUAL)
    assert "is on eth1, but public-ipv6 2001:db8::10 is on eth0" in text


def test_public_ipv6_alone_chooses_its_owner() -> None:
    choice = choose(Wanted(public_ipv6="2001:db8:1::7"), Stack.DUAL)
    assert (choice.name, choice.address) == ("eth1", IPAddress("198.51.100.7"))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(iface=("eth0",), public_ip="1.2.3"), "public-ip '1.2.3' is not an IPv4 address"),
        (Wanted(iface=("eth0",), public_ip="::1"), "public-ip '::1' is not an IPv4 address"),
        (Wanted(iface=("eth0",), public_ipv6="1.2.3.4"), "public-ipv6 '1.2.3.4' is not an IPv6"),
    ],
)
def test_a_bad_public_address_is_named(wanted: Wanted, said: str) -> None:
    assert said in refusal(wanted, Stack.DUAL)


def test_both_families_off_is_an_error_that_names_the_keys() -> None:
    assert Stack.of(True, True) is Stack.DUAL
    assert Stack.of(True, False) is Stack.V4
    assert Stack.of(False, True) is Stack.V6
    with pytest.raises(OperatorError, match='"EnableIPv4" or "EnableIPv6"'):
        Stack.of(False, False)


# --- MTU -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outer", "inner"), [(1500, 1472), (9000, 8972), (96, 68)])
def test_tunnel_is_smaller_by_the_overhead(outer: int, inner: int) -> None:
    assert tunnel_mtu(choose(Wanted(), view=changed(HOST, "eth0", mtu=outer)), 28) == inner


def test_an_interface_that_is_too_small_is_refused() -> None:
    small = choose(Wanted(), view=changed(HOST, "eth0", mtu=95))
    with pytest.raises(OperatorError, match=r"eth0 has an MTU of 95: .* at least 96"):
        tunnel_mtu(small, 28)
