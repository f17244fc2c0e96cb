"""gocompat/net.py: addresses and networks as Go reads and writes them."""

from __future__ import annotations

import pytest
from netaddr import IPAddress, IPNetwork

from udpoverlay.gocompat.net import (
    ip6_text,
    parse_cidr,
    parse_cidr4,
    parse_cidr6,
    parse_ip,
    parse_ip4,
    parse_ip6,
)


@pytest.mark.parametrize("parse", [parse_ip, parse_ip4])
def test_mapped_address_is_ipv4(parse: object) -> None:
    assert callable(parse)
    address = parse("::ffff:192.0.2.1")
    assert address == IPAddress("192.0.2.1")
    assert address.version == 4


def test_ipv4_address_is_mapped_where_ipv6_is_wanted() -> None:
    address = parse_ip6("192.0.2.1")
    assert address is not None
    assert (address.version, ip6_text(address.value)) == (6, "192.0.2.1")


@pytest.mark.parametrize(
    "text",
    ["10.05.0.1", "10.5.1", "0x0a.5.0.1", "256.0.0.1", "10.5.0.1 ", "fe80::1%eth0", "", ":", "::g"],
)
def test_what_go_refuses_is_no_address(text: str) -> None:
    assert parse_ip(text) is None
    assert parse_cidr(f"{text}/24") is None


@pytest.mark.parametrize("length", ["", "33", "-1", "+8", "08x", "1" * 70, "२४"])
def test_what_go_refuses_is_no_prefix_length(length: str) -> None:
    assert parse_cidr4(f"10.5.0.0/{length}") is None


def test_network_drops_host_bits() -> None:
    assert parse_cidr4("10.5.1.7/16") == IPNetwork("10.5.0.0/16")
    assert str(parse_cidr4("10.5.1.7/16")) == "10.5.0.0/16"
    assert str(parse_cidr6("fd00:1::7/32")) == "fd00:1::/32"
