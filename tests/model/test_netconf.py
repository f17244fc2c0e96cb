"""The network configuration: Go's reading rules, flannel's validation, messages that help.

What flannel's own ParseConfig and CheckNetworkConfig make of the documents here was read off a
program linked with them (flannel 0.28, Go 1.26).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import OperatorError
from udpoverlay.model.netconf import NetConf, parse_netconf

NET = '"Network":"10.3.0.0/16"'
NET6 = '"EnableIPv6":true,"IPv6Network":"fc00::/48"'


def valid(text: str) -> NetConf:
    return parse_netconf(text).validated()


def shown(conf: NetConf) -> tuple[str, str, int]:
    return str(conf.subnet_min), str(conf.subnet_max), conf.subnet_len


def shown6(conf: NetConf) -> tuple[str, str, int]:
    return str(conf.ipv6_subnet_min), str(conf.ipv6_subnet_max), conf.ipv6_subnet_len


# Reading.


def test_flannels_own_example_is_read() -> None:
    conf = valid(
        '{ "Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0","SubnetLen":28 }'
    )
    assert conf.network == IPNetwork("10.3.0.0/16")
    assert shown(conf) == ("10.3.5.0", "10.3.8.0", 28)
    assert conf.backend_type == "udp"


def test_nothing_but_a_network_is_needed() -> None:
    conf = valid(f"{{{NET}}}")
    assert (conf.enable_ipv4, conf.enable_ipv6, conf.enable_nftables) == (True, False, False)
    assert shown(conf) == ("10.3.1.0", "10.3.255.0", 24)
    assert conf.backend == {}


@pytest.mark.parametrize("key", ["Network", "network", "NETWORK", "networ\u212a", "\\u004eetwork"])
def test_keys_match_without_regard_to_case(key: str) -> None:
    assert parse_netconf(f'{{"{key}":"10.3.0.0/16"}}').network == IPNetwork("10.3.0.0/16")


def test_the_long_s_is_an_s() -> None:
    assert parse_netconf('{"\u017fubnetLen":20}').subnet_len == 20


def test_of_a_repeated_key_the_last_one_counts_however_spelled() -> None:
    text = '{"SubnetLen":20,"subnetlen":21,"Network":"10.0.0.0/8","NETWORK":"10.3.0.0/16"}'
    conf = parse_netconf(text)
    assert (conf.subnet_len, str(conf.network)) == (21, "10.3.0.0/16")


def test_a_repeated_key_must_be_right_every_time() -> None:
    with pytest.raises(OperatorError, match='Network "x"'):
        parse_netconf('{"Network":"x","Network":"10.3.0.0/16"}')


def test_null_leaves_a_scalar_as_it_was() -> None:
    conf = parse_netconf('{"EnableIPv4":null,"SubnetLen":20,"SubnetLen":null}')
    assert (conf.enable_ipv4, conf.subnet_len) == (True, 20)


def test_null_unsets_the_ipv6_bounds_but_not_the_ipv4_ones() -> None:
    conf = parse_netconf('{"IPv6SubnetMin":"fc00::","IPv6SubnetMin":null}')
    assert conf.ipv6_subnet_min is None
    with pytest.raises(OperatorError, match="SubnetMin null"):
        parse_netconf('{"SubnetMin":null}')


def test_unknown_keys_are_ignored_whatever_they_hold() -> None:
    assert parse_netconf('{"Comment":[1,{"a":null}],"SubnetLe":"x"}') == NetConf()


def test_the_document_null_is_an_empty_one() -> None:
    assert parse_netconf(" null ") == NetConf()


def test_a_network_keeps_only_its_network_part() -> None:
    conf = parse_netconf('{"Network":"10.5.3.1/16","IPv6Network":"fc00::1/48"}')
    assert (str(conf.network), str(conf.ipv6_network)) == ("10.5.0.0/16", "fc00::/48")


def test_a_mapped_address_is_an_ipv4_address() -> None:
    conf = parse_netconf('{"SubnetMin":"::ffff:10.3.5.0"}')
    assert conf.subnet_min == IPAddress("10.3.5.0")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"Network":""}', 'Network ""'),
        ('{"Network":null}', "Network null"),
        ('{"Network":"10.3.0.0"}', 'Network "10.3.0.0"'),
        ('{"Network":"10.03.0.0/16"}', 'Network "10.03.0.0/16"'),
        ('{"Network":"10.3.0.0/33"}', 'Network "10.3.0.0/33"'),
        ('{"Network":"fc00::/48"}', 'Network "fc00::/48"'),
        ('{"Network":["10.3.0.0/16"]}', "Network ["),
        ('{"network":10}', "Network 10"),
        ('{"IPv6Network":"10.3.0.0/16"}', 'IPv6Network "10.3.0.0/16"'),
        ('{"IPv6Network":"fc00::%eth0/48"}', 'IPv6Network "fc00::%eth0/48"'),
        ('{"SubnetMin":""}', 'SubnetMin ""'),
        ('{"SubnetMax":"10.3"}', 'SubnetMax "10.3"'),
        ('{"IPv6SubnetMin":"x"}', 'IPv6SubnetMin "x"'),
        ('{"IPv6SubnetMax":""}', 'IPv6SubnetMax ""'),
        ('{"SubnetLen":"24"}', 'SubnetLen "24"'),
        ('{"SubnetLen":-1}', "SubnetLen -1"),
        ('{"SubnetLen":24.0}', "SubnetLen 24.0"),
        ('{"SubnetLen":2e1}', "SubnetLen 2e1"),
        ('{"IPv6SubnetLen":18446744073709551616}', "IPv6SubnetLen 18446744073709551616"),
        ('{"EnableIPv4":"true"}', 'EnableIPv4 "true"'),
        ('{"EnableIPv6":1}', "EnableIPv6 1"),
        ('{"EnableNFTables":[]}', "EnableNFTables []"),
        ('{"Backend":"udp"}', 'Backend "udp"'),
        ('{"Backend":[]}', "Backend []"),
        ('{"Backend":{"Type":1}}', "Backend.Type 1"),
        ('{"Backend":{"type":1,"Type":"udp"}}', "Backend.Type 1"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_a_fix(text: str, named: str) -> None:
    with pytest.raises(OperatorError) as caught:
        parse_netconf(text)
    assert f"network configuration: {named}" in caught.value.what
    assert caught.value.fix


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "}",
        "{}x",
        "{},",
        "{},{}",
        '{"a":1,}',
        "{'a':1}",
        "{a:1}",
        '{"a"}',
        '{"a":}',
        '{"a":1 "b":2}',
        '{"a":01}',
        '{"a":+1}',
        '{"a":.5}',
        '{"a":NaN}',
        '{"a":-Infinity}',
        '{"a":tru}',
        '{"a":"\n"}',
        '{"a":"\\x"}',
        '{"a":"\\u12"}',
        '{"a":1 /* no */}',
        "// no\n{}",
        "\ufeff{}",
        "\u00a0{}",
        "[]",
        '"{}"',
        "true",
        "1",
        '{"a":"\x00"}',
    ],
)
def test_what_go_would_not_take_as_an_object_is_not_json(text: str) -> None:
    with pytest.raises(OperatorError, match="not valid JSON"):
        parse_netconf(text)


# The backend.


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        ('{"Type":"vxlan","VNI":1}', "vxlan"),
        ('{"type":"UDP"}', "UDP"),
        ('{"Type":"udp","TYPE":"vxlan"}', "vxlan"),
        ('{"Type":"udp","type":null}', "udp"),
        ("{}", ""),
        ("null", ""),
        ('{"Type":null}', ""),
        ('{"Type":""}', ""),
        ('{"Type":"\\ud800"}', "\ufffd"),
    ],
)
def test_the_backend_type_is_what_the_backend_says(backend: str, kind: str) -> None:
    assert parse_netconf(f'{{{NET},"Backend":{backend}}}').backend_type == kind


def test_a_second_backend_replaces_the_first_whole() -> None:
    conf = parse_netconf('{"Backend":{"Type":"udp","Port":1},"backend":{"Type":"vxlan"}}')
    assert (conf.backend_type, conf.backend) == ("vxlan", {"type": "vxlan"})


def test_a_number_of_the_backend_has_a_default_and_bounds() -> None:
    conf = parse_netconf('{"Backend":{"Type":"udp","PORT":9000,"Other":null}}')
    assert conf.backend_int("Port", 8285, 1, 65535) == 9000
    assert conf.backend_int("Other", 7, 1, 10) == 7
    assert conf.backend_int("Absent", 7, 1, 10) == 7


@pytest.mark.parametrize(
    "value", ["0", "65536", "-1", '"8285"', "8285.0", "true", "[]", "9" * 5000]
)
def test_a_number_of_the_backend_that_does_not_fit_is_named(value: str) -> None:
    conf = parse_netconf(f'{{"Backend":{{"Port":{value}}}}}')
    with pytest.raises(OperatorError, match=r"Backend\.Port") as caught:
        conf.backend_int("Port", 8285, 1, 65535)
    assert caught.value.fix == "use an integer from 1 to 65535"


# Validation.


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("10.3.0.0/16", ("10.3.1.0", "10.3.255.0", 24)),
        ("10.0.0.0/8", ("10.0.1.0", "10.255.255.0", 24)),
        ("10.3.0.0/22", ("10.3.1.0", "10.3.3.0", 24)),
        ("10.3.0.0/23", ("10.3.0.128", "10.3.1.128", 25)),
        ("10.3.0.0/28", ("10.3.0.4", "10.3.0.12", 30)),
        ("255.255.0.0/16", ("255.255.1.0", "255.255.255.0", 24)),
    ],
)
def test_defaults_follow_the_size_of_the_network(
    network: str, expected: tuple[str, str, int]
) -> None:
    assert shown(valid(f'{{"Network":"{network}"}}')) == expected


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("fc00::/48", ("fc00:0:0:1::", "fc00:0:0:ffff::", 64)),
        ("fc00::/62", ("fc00:0:0:1::", "fc00:0:0:3::", 64)),
        ("fc00::/63", ("fc00:0:0:0:8000::", "fc00:0:0:1:8000::", 65)),
        ("fc00::/124", ("fc00::4", "fc00::c", 126)),
        ("ffff:ffff:ffff::/48", ("ffff:ffff:ffff:1::", "ffff:ffff:ffff:ffff::", 64)),
    ],
)
def test_ipv6_defaults_follow_the_size_of_the_network(
    network: str, expected: tuple[str, str, int]
) -> None:
    conf = valid(f'{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"{network}"}}')
    assert shown6(conf) == tuple(
        str(IPAddress(part)) if isinstance(part, str) else part for part in expected
    )


def test_bounds_of_zero_count_as_not_given() -> None:
    conf = valid(f'{{{NET},{NET6},"SubnetMin":"0.0.0.0","IPv6SubnetMax":"::"}}')
    assert shown(conf) == ("10.3.1.0", "10.3.255.0", 24)
    assert str(conf.ipv6_subnet_max) == "fc00:0:0:ffff::"


def test_a_family_that_is_off_is_not_looked_at() -> None:
    conf = valid(f'{{"EnableIPv4":false,"Network":"10.3.0.0/30",{NET6}}}')
    assert conf.subnet_len == 0
    assert valid(f'{{{NET},"IPv6Network":"fc00::/128","IPv6SubnetLen":7}}').ipv6_subnet_len == 7


def test_one_subnet_is_a_range() -> None:
    conf = valid(f'{{{NET},"SubnetMin":"10.3.9.0","SubnetMax":"10.3.9.0"}}')
    assert shown(conf) == ("10.3.9.0", "10.3.9.0", 24)


def test_validating_twice_changes_nothing() -> None:
    conf = valid(f"{{{NET},{NET6}}}")
    assert conf.validated() == conf


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{}", "Network (absent)"),
        ('{"Network":"0.0.0.0/0"}', "Network 0.0.0.0/0"),
        ('{"Network":"10.3.0.0/29"}', "Network 10.3.0.0/29 is too small"),
        (f'{{{NET},"SubnetLen":31}}', "SubnetLen 31 does not fit Network 10.3.0.0/16"),
        (f'{{{NET},"SubnetLen":17}}', "SubnetLen 17 does not fit"),
        ('{"Network":"10.3.0.0/29","SubnetLen":30}', "SubnetLen 30 does not fit"),
        (f'{{{NET},"SubnetMin":"10.4.0.0"}}', "SubnetMin 10.4.0.0 is not in Network 10.3.0.0/16"),
        (f'{{{NET},"SubnetMax":"10.4.0.0"}}', "SubnetMax 10.4.0.0 is not in"),
        (f'{{{NET},"SubnetMin":"10.3.5.3"}}', "SubnetMin 10.3.5.3 is not on a SubnetLen /24"),
        (f'{{{NET},"SubnetMax":"10.3.5.3"}}', "SubnetMax 10.3.5.3 is not on a"),
        (
            f'{{{NET},"SubnetMin":"10.3.9.0","SubnetMax":"10.3.8.0"}}',
            "SubnetMin 10.3.9.0 is above SubnetMax 10.3.8.0",
        ),
        (f'{{{NET},"SubnetMax":"10.3.0.0"}}', "SubnetMin 10.3.1.0 is above SubnetMax 10.3.0.0"),
        (f'{{{NET},"EnableIPv6":true}}', "IPv6Network (absent)"),
        (f'{{{NET},"EnableIPv6":true,"IPv6Network":"::/0"}}', "IPv6Network ::/0"),
        (f'{{{NET},"EnableIPv6":true,"IPv6Network":"fc00::/125"}}', "IPv6Network fc00::/125"),
        (f'{{{NET},{NET6},"IPv6SubnetLen":127}}', "IPv6SubnetLen 127 does not fit"),
        (f'{{{NET},{NET6},"IPv6SubnetLen":49}}', "IPv6SubnetLen 49 does not fit"),
        (f'{{{NET},{NET6},"IPv6SubnetMin":"fd00::"}}', "IPv6SubnetMin fd00:: is not in"),
        (f'{{{NET},{NET6},"IPv6SubnetMax":"fc00::1"}}', "IPv6SubnetMax fc00::1 is not on"),
        (f'{{{NET},{NET6},"IPv6SubnetMax":"1.2.3.4"}}', "IPv6SubnetMax "),
    ],
)
def test_what_cannot_work_is_named_with_key_value_and_fix(text: str, named: str) -> None:
    conf = parse_netconf(text)
    with pytest.raises(OperatorError) as caught:
        conf.validated()
    assert f"network configuration: {named}" in caught.value.what
    assert caught.value.fix


@given(st.integers(0, 2**32 - 1), st.integers(1, 28), st.none() | st.integers(0, 32))
def test_whatever_is_accepted_can_hand_out_subnets(
    address: int, prefix: int, length: int | None
) -> None:
    network = IPNetwork((address, prefix), version=4)
    extra = "" if length is None else f',"SubnetLen":{length}'
    try:
        conf = valid(f'{{"Network":"{network}"{extra}}}')
    except OperatorError:
        assert length is not None
        return
    assert conf.network is not None
    assert conf.subnet_min in conf.network
    assert conf.subnet_max in conf.network
    assert prefix + 2 <= conf.subnet_len <= 30
    assert conf.subnet_min is not None
    assert conf.subnet_max is not None
    step = 2 ** (32 - conf.subnet_len)
    assert (conf.subnet_max.value - conf.subnet_min.value) % step == 0
    assert conf.subnet_max.value > conf.subnet_min.value
