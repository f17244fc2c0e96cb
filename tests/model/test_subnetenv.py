"""The subnet file: exact bytes out, dotenv's liberties in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPNetwork

from udpoverlay.model.lease import Subnet
from udpoverlay.model.netconf import NetConf
from udpoverlay.model.subnetenv import format_subnet_env, parse_subnet_env, previous_subnet

DUAL = NetConf(
    enable_ipv6=True,
    network=IPNetwork("10.42.0.0/16"),
    ipv6_network=IPNetwork("2001:cafe:42::/56"),
)


def test_the_file_is_written_in_flannels_order_without_quotes() -> None:
    subnet = Subnet(IPNetwork("10.42.0.0/24"), IPNetwork("2001:cafe:42::/64"))
    assert format_subnet_env(DUAL, subnet, 1450, True) == (
        "FLANNEL_NETWORK=10.42.0.0/16\n"
        "FLANNEL_SUBNET=10.42.0.1/24\n"
        "FLANNEL_IPV6_NETWORK=2001:cafe:42::/56\n"
        "FLANNEL_IPV6_SUBNET=2001:cafe:42::1/64\n"
        "FLANNEL_MTU=1450\n"
        "FLANNEL_IPMASQ=true\n"
    )


def test_a_family_without_a_subnet_has_no_lines() -> None:
    v4_only = Subnet(IPNetwork("10.42.3.0/24"))
    assert format_subnet_env(DUAL, v4_only, 1472, False) == (
        "FLANNEL_NETWORK=10.42.0.0/16\n"
        "FLANNEL_SUBNET=10.42.3.1/24\n"
        "FLANNEL_MTU=1472\n"
        "FLANNEL_IPMASQ=false\n"
    )


@given(
    st.integers(0, 2**24 - 1), st.integers(8, 30), st.integers(0, 2**64 - 1), st.integers(16, 126)
)
def test_what_was_written_is_remembered(a: int, len4: int, b: int, len6: int) -> None:
    v4 = IPNetwork((0x0A000000 | a, len4), version=4).cidr
    v6 = IPNetwork((0xFD << 120 | b << 40, len6), version=6).cidr
    subnet = Subnet(v4, v6)
    assert previous_subnet(format_subnet_env(DUAL, subnet, 1450, True)) == subnet


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=10.5.72.1/24", "10.5.72.1/24"),
        ("export K=10.5.72.1/24\r", "10.5.72.1/24"),
        ("  K = 10.5.72.1/24   # ours", "10.5.72.1/24"),
        ('K="10.5.72.1/24" # ours', "10.5.72.1/24"),
        ("K='10.5.72.1/24'", "10.5.72.1/24"),
        ("K: 10.5.72.1/24", "10.5.72.1/24"),
        ('K="a\\"b"', 'a"b'),
        ("K=a#b", "a#b"),
        ("K=#b", ""),
        ("K=", ""),
        ("K=1\nK=2", "2"),
        ("%%garbage\nK=2\n=3\nno equals", "2"),
    ],
)
def test_dotenv_spellings_are_understood(line: str, value: str) -> None:
    assert parse_subnet_env(f"# comment\n\n{line}\n") == {"K": value}


@pytest.mark.parametrize(
    "value",
    [
        "10.244.1.0/24,not-a-cidr,10.244.2.0/24",
        "not-a-cidr",
        "",
        "10.244.1.0",
        "fd00::/64",
        "0.0.0.0/0",
        "10.244.01.0/24",
    ],
)
def test_anything_but_one_valid_subnet_is_no_memory(value: str) -> None:
    assert previous_subnet(f"FLANNEL_SUBNET={value}\n") is None


def test_invalid_pieces_of_a_list_are_skipped() -> None:
    assert previous_subnet("FLANNEL_SUBNET=x,10.244.1.1/24\n") == Subnet(IPNetwork("10.244.1.0/24"))


def test_an_ipv6_subnet_alone_is_no_memory() -> None:
    assert previous_subnet("FLANNEL_IPV6_SUBNET=fd00::1/64\n") is None


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    parse_subnet_env(text)
    previous_subnet(f"FLANNEL_SUBNET={text}")
