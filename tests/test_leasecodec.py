"""Keys and values of etcd leases, against vectors of flannel's own tests and Go's encoder."""

from __future__ import annotations

import pytest
from netaddr import IPAddress, IPNetwork

from udpoverlay.model.lease import LeaseAttrs, Subnet
from udpoverlay.model.leasecodec import (
    BadLeaseValue,
    decode_attrs,
    encode_attrs,
    parse_subnet_key,
    subnet_key,
)

V4 = Subnet(IPNetwork("10.12.13.0/24"))
DUAL = Subnet(IPNetwork("10.12.13.0/24"), IPNetwork("fd00:12:13::/56"))


@pytest.mark.parametrize(
    ("key", "subnet"),
    [
        ("10.12.13.0-24", V4),
        ("10.12.13.0-24&fd00:12:13::-56", DUAL),
        ("0.0.0.0-0&fd00:12:13::-56", Subnet(None, IPNetwork("fd00:12:13::/56"))),
    ],
)
def test_a_key_names_its_subnet_and_back(key: str, subnet: Subnet) -> None:
    assert parse_subnet_key(key) == subnet
    assert subnet_key(subnet) == key


@pytest.mark.parametrize(
    "key",
    [
        "10",
        "10.12.13.0",
        "10.12.13-24",
        "10.12.13.300-24",
        "10.12.13.0-24hi",
        "&2001::-56",
        "10.12.13.0-24&:12:13:-56",
        "10.12.13.0-24&20011::-56",
        "10.12.13.0-24&2001-56",
        "10.12.13.0-24&2001::",
        "10.12.13.0-24&2001::-56hi",
        "10.12.13.0-24\n",
        "10.12.13.1-32",
        "10.12.13.0-24&fd00::1-128",
        "10.12.013.0-24",
        "10.12.13.0-24&FD00::-56",
        "0.0.0.0-0",
        "",
        "1." + "1" * 5000,
    ],
)
def test_a_foreign_key_is_no_subnet(key: str) -> None:
    assert parse_subnet_key(key) is None


@pytest.mark.parametrize("key", ["x10.12.13.0-24", "10.12.13.7-24", "10.12.13.0-024"])
def test_an_alias_is_read_as_flannel_reads_it_and_told_apart(key: str) -> None:
    subnet = parse_subnet_key(key)
    assert subnet == V4
    assert subnet_key(V4) != key


def test_a_udp_lease_is_exactly_this() -> None:
    attrs = LeaseAttrs(IPAddress("1.2.3.4"))
    assert encode_attrs(attrs) == b'{"PublicIP":"1.2.3.4","PublicIPv6":null}'
    assert decode_attrs(encode_attrs(attrs)) == attrs


def test_an_invalid_public_ip_names_the_value() -> None:
    with pytest.raises(BadLeaseValue, match="PublicIP null"):
        decode_attrs(b'{"PublicIP":null}')
