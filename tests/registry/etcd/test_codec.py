"""Keys and values of etcd leases.

Vectors are those of flannel's own tests, and what a program linked with flannel 0.28 (Go 1.26) made
of the documents here.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress, IPNetwork

from udpoverlay.gocompat import json as gojson
from udpoverlay.gocompat import net as goip
from udpoverlay.model.lease import LeaseAttrs, Subnet
from udpoverlay.registry.etcd.codec import (
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
        "10.12.13.0-24&::ffff:102:300-120",
        "10.12.13.0-0",
        "10.12.13.0-24&fd00::-0",
        "10.12.13.0-0&fd00::-56",
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


def test_none_of_a_family_has_a_spelling_of_its_own() -> None:
    assert parse_subnet_key("10.12.13.0-24&::-0") == V4


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 31),
    st.none() | st.tuples(st.integers(0, 2**128 - 1), st.integers(1, 127)),
)
def test_every_subnet_has_one_key_that_reads_back(
    address: int, length: int, v6: tuple[int, int] | None
) -> None:
    subnet = Subnet(
        goip.network_of(address, length, 4), None if v6 is None else goip.network_of(*v6, 6)
    )
    key = subnet_key(subnet)
    if subnet.v6 is None or not goip.is_mapped(subnet.v6.value):
        assert parse_subnet_key(key) == subnet
    assert key.isascii()
    assert "/" not in key


@given(st.text(st.sampled_from("0123456789.-&:abcdefx/\n"), max_size=60))
def test_any_key_is_read_or_not_a_subnet(key: str) -> None:
    subnet = parse_subnet_key(key)
    if subnet is not None:
        assert parse_subnet_key(subnet_key(subnet)) == subnet


# Values.


def test_a_udp_lease_is_exactly_this() -> None:
    attrs = LeaseAttrs(IPAddress("1.2.3.4"))
    assert encode_attrs(attrs) == b'{"PublicIP":"1.2.3.4","PublicIPv6":null}'
    assert decode_attrs(encode_attrs(attrs)) == attrs


def test_all_fields_are_written_in_flannels_order() -> None:
    attrs = LeaseAttrs(
        IPAddress("192.168.64.3"),
        IPAddress("2001:DB8::1"),
        "vxlan",
        '{ "VNI": 1, "VtepMAC" : "c6:d2:32:6f:8f:44" }',
        '{"VNI":1}',
    )
    assert encode_attrs(attrs) == (
        b'{"PublicIP":"192.168.64.3","PublicIPv6":"2001:db8::1","BackendType":"vxlan",'
        b'"BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":{"VNI":1}}'
    )


def test_markup_is_escaped_as_go_does() -> None:
    attrs = LeaseAttrs(IPAddress("1.2.3.4"), None, "a<b>&\u2028é", '"x & <y> \u2029\\u003c"')
    assert encode_attrs(attrs).decode() == (
        '{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"a\\u003cb\\u003e\\u0026\\u2028é",'
        '"BackendData":"x \\u0026 \\u003cy\\u003e \\u2029\\u003c"}'
    )


def test_a_value_of_an_old_flannel_is_read() -> None:
    value = b'{"PublicIP":"10.0.0.5","BackendType":"vxlan","BackendData":{"VtepMAC":"a2:b3"}}'
    assert decode_attrs(value) == LeaseAttrs(
        IPAddress("10.0.0.5"), None, "vxlan", '{"VtepMAC":"a2:b3"}'
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("{}", '{"PublicIP":"0.0.0.0","PublicIPv6":null}'),
        ("null", '{"PublicIP":"0.0.0.0","PublicIPv6":null}'),
        (' {"publicip" : "1.2.3.4"}\n', '{"PublicIP":"1.2.3.4","PublicIPv6":null}'),
        (
            '{"PublicIP":"1.1.1.1","PUBLICIP":"1.2.3.4","x":[1]}',
            '{"PublicIP":"1.2.3.4","PublicIPv6":null}',
        ),
        ('{"PublicIP":"::ffff:1.2.3.4"}', '{"PublicIP":"1.2.3.4","PublicIPv6":null}'),
        (
            '{"PublicIP":"1.2.3.4","PublicIPv6":"fc00::1","PublicIPv6":null}',
            '{"PublicIP":"1.2.3.4","PublicIPv6":null}',
        ),
        (
            '{"PublicIP":"1.2.3.4","PublicIPv6":"5.6.7.8"}',
            '{"PublicIP":"1.2.3.4","PublicIPv6":"5.6.7.8"}',
        ),
        (
            '{"PublicIP":"1.2.3.4","BackendType":"x","BackendType":null,"BackendData":null}',
            '{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"x","BackendData":null}',
        ),
        (
            '{"PublicIP":"1.2.3.4","BackendType":"","BackendData":"a\\ud800b"}',
            '{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendData":"a\\ud800b"}',
        ),
        (
            '{"PublicIP":"1.2.3.4","BackendType":"a\\ud800b"}',
            '{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"a\ufffdb"}',
        ),
    ],
)
def test_a_value_is_understood_as_go_understands_it(value: str, written: str) -> None:
    assert encode_attrs(decode_attrs(value.encode())).decode() == written


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ('{"PublicIP":null}', "PublicIP null"),
        ('{"PublicIP":""}', 'PublicIP ""'),
        ('{"PublicIP":"1.2.3"}', 'PublicIP "1.2.3"'),
        ('{"PublicIP":"01.2.3.4"}', "PublicIP"),
        ('{"PublicIP":"fc00::1"}', "PublicIP"),
        ('{"PublicIP":"\\u0031.2.3.4"}', "PublicIP"),
        ('{"PublicIP":1}', "PublicIP 1"),
        ('{"PublicIP":{"a":1}}', "PublicIP"),
        ('{"PublicIP":"x","PublicIP":"1.2.3.4"}', 'PublicIP "x"'),
        ('{"PublicIPv6":""}', "PublicIPv6"),
        ('{"PublicIPv6":"fe80::1%eth0"}', "PublicIPv6"),
        ('{"BackendType":1}', "1 is not a string"),
        ('{"PublicIP":"1.2.3.4"', "comma or closing brace"),
        ('{"PublicIP":"1.2.3.4"}{}', "after the end"),
        ('["PublicIP"]', "not a JSON object"),
        ("", "Expecting value"),
        ("\x00", "Expecting value"),
    ],
)
def test_a_value_that_is_no_lease_says_why(value: str, named: str) -> None:
    with pytest.raises(BadLeaseValue) as caught:
        decode_attrs(value.encode())
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        b'{"PublicIP":"1.2.3.4","BackendData":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"PublicIP":"' + b"1" * 1_000_000 + b'"}',
        b'{"PublicIP":"1.2.3.4","x":"' + b"y" * 2_000_000,
        b"\xff\xfe\x00",
        b'"' * 100_000,
        b"{" * 100_000,
    ],
)
def test_a_hostile_value_is_refused_shortly(value: bytes) -> None:
    with pytest.raises(BadLeaseValue) as caught:
        decode_attrs(value)
    assert len(str(caught.value)) < 300


def test_bytes_that_are_no_text_do_not_make_a_lease_unreadable() -> None:
    attrs = decode_attrs(b'{"PublicIP":"1.2.3.4","BackendType":"\xff"}')
    assert attrs == LeaseAttrs(IPAddress("1.2.3.4"), None, "\ufffd")


def test_a_public_ip_of_the_wrong_family_is_not_written() -> None:
    with pytest.raises(ValueError, match="not an IPv4 address"):
        encode_attrs(LeaseAttrs(IPAddress("fc00::1")))


def test_backend_data_that_is_not_json_is_not_written() -> None:
    with pytest.raises(ValueError, match="after the end"):
        encode_attrs(LeaseAttrs(IPAddress("1.2.3.4"), None, "x", "{} {}"))


@given(
    st.integers(0, 2**32 - 1),
    st.none() | st.integers(0, 2**128 - 1),
    st.text(max_size=20),
    st.sampled_from(["", "null", '{"VNI":1}', '"é<"', "[1,2]"]),
)
def test_what_was_written_reads_back(v4: int, v6: int | None, kind: str, data: str) -> None:
    attrs = LeaseAttrs(
        IPAddress(v4, version=4), None if v6 is None else IPAddress(v6, version=6), kind, data
    )
    found = decode_attrs(encode_attrs(attrs))
    assert (found.public_ip, found.public_ipv6) == (attrs.public_ip, attrs.public_ipv6)
    assert found.backend_type == gojson.clean(kind)
    assert encode_attrs(found) == encode_attrs(attrs)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    try:
        attrs = decode_attrs(value)
    except BadLeaseValue:
        return
    encode_attrs(attrs)


@given(st.text(st.sampled_from('{}[]":,\\ u0dPpublicIP1.2n\x00'), max_size=60))
def test_any_near_miss_is_read_or_refused(text: str) -> None:
    for value in (text, f'{{"PublicIP":{text}}}', f'{{"BackendData":{text}}}'):
        try:
            attrs = decode_attrs(value.encode())
        except BadLeaseValue:
            continue
        encode_attrs(attrs)
