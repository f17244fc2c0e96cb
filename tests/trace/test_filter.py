"""trace/filter.py: what each condition matches, and what is said of what is no filter."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.captures import tcp
from tests.support.packets import icmp, ipv4, ipv6
from tests.support.records import NO_ROUTE, SENT, record
from udpoverlay.trace.filter import WORDS, FilterError, parse_filter

DELIVERED = record(verdict="inbound_delivered", point="tun-out")
FOREIGN = record(verdict="inbound_foreign_source", point="udp-in", dropped=True)
SIX = record(ipv6(tcp()[:20], next_header=6))


def wants(text: str, what: object) -> bool:
    return parse_filter(text).wants(what)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "peer 192.0.2.2",
        "peer 192.0.2.0/24",
        "host 10.1.0.2",
        "host 10.2.0.2",
        "net 10.2.0.0/16",
        "src 10.1.0.2",
        "src host 10.1.0.2",
        "dst net 10.2.0.0/24",
        "port 53",
        "port 4000",
        "port 50-60",
        "src port 4000",
        "dst port 53",
        "proto udp",
        "proto 17",
        "udp",
        "reason sent",
        "reason outbound_sent",
        "out",
        "outbound",
        "direction out",
        "point udp-out",
        "sample 1/1",
        "not drops",
        "!drops && udp || tcp",
        "OUT AND UDP",
        "tcp and udp or out",
        "(tcp or udp)and(out)",
        "not not udp",
    ],
)
def test_what_the_packet_is_matches(text: str) -> None:
    assert wants(text, SENT)


@pytest.mark.parametrize(
    "text",
    [
        "peer 192.0.2.3",
        "peer 198.51.100.0/24",
        "host 10.3.0.1",
        "src 10.2.0.2",
        "dst 10.1.0.2",
        "host 2001:db8::1",
        "port 54",
        "src port 53",
        "dst port 4000",
        "tcp",
        "proto 6",
        "reason no_route",
        "in",
        "direction inbound",
        "point tun-in",
        "drops",
        "tcp or udp and in",
        "(tcp or udp) and in",
        "not udp",
    ],
)
def test_what_the_packet_is_not_does_not_match(text: str) -> None:
    assert not wants(text, SENT)


def test_direction_and_drops_follow_the_verdict() -> None:
    assert [wants("in", each) for each in (SENT, NO_ROUTE, DELIVERED, FOREIGN)] == [
        False, False, True, True,
    ]  # fmt: skip
    assert [wants("drops", each) for each in (SENT, NO_ROUTE, DELIVERED, FOREIGN)] == [
        False, True, False, True,
    ]  # fmt: skip
    assert wants("reason foreign_source", FOREIGN)


def test_reason_of_both_directions_matches_either() -> None:
    for verdict in ("outbound_queue_full", "inbound_queue_full"):
        assert wants("reason queue_full", record(verdict=verdict))
    assert not wants("reason inbound_queue_full", record(verdict="outbound_queue_full"))


def test_ipv6_address_and_ports_match() -> None:
    assert wants("host 2001:db8::1 and port 443 and tcp", SIX)
    assert wants("dst net 2001:db8::/32", SIX)
    assert not wants("host 10.1.0.2", SIX)


def test_packet_without_ports_matches_no_port() -> None:
    echo = record(ipv4(icmp(8), protocol=1))
    assert wants("icmp", echo)
    assert not wants("port 0-65535", echo)


def test_later_fragment_matches_no_port() -> None:
    piece = record(ipv4(b"\0\x35\0\x35 is no header", fragment=0x0010))
    assert wants("udp", piece)
    assert not wants("port 0-65535", piece)


@pytest.mark.parametrize("data", [b"", b"\x45", b"\x60" * 39, b"\0" * 72])
def test_packet_without_a_whole_header_matches_no_inner_field(data: bytes) -> None:
    cut = record()._replace(data=data)
    for text in ("host 0.0.0.0/0", "host ::/0", "port 0-65535", "udp"):
        assert not wants(text, cut)
    assert wants("peer 192.0.2.2", cut)


def test_sample_takes_about_its_share_and_the_same_on_both_hosts() -> None:
    packets = [ipv4(bytes(8), identification=number) for number in range(4000)]
    wanted = parse_filter("sample 1/4")
    ours = [wanted.wants(record(packet)) for packet in packets]
    theirs = [
        wanted.wants(record(ipv4(bytes(8), identification=number, ttl=62)))
        for number in range(4000)
    ]
    assert ours == theirs
    assert 800 < sum(ours) < 1200


@pytest.mark.parametrize(
    ("text", "drops_only"),
    [
        ("drops", True),
        ("udp and drops", True),
        ("reason no_route", True),
        ("drops or reason no_route", True),
        ("drops or udp", False),
        ("not drops", False),
        ("not not drops", False),
        ("reason sent", False),
        ("", False),
    ],
)
def test_filter_that_needs_drops_alone_is_known(text: str, drops_only: bool) -> None:
    assert parse_filter(text).drops_only is drops_only


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("prot tcp", 1, "did you mean proto?"),
        ("drops and dropz", 11, "did you mean drops?"),
        ("xyzzy", 1, "use one of peer, "),
        ("peer here", 6, "peer 10.244.3.7"),
        ("host 10.0.0.0/40", 6, "10.244.3.0/24"),
        ("port 65536", 6, "port 8000-8099"),
        ("port 90-80", 6, "port 8000-8099"),
        ("port http", 6, "port 8000-8099"),
        ("proto tpc", 7, "did you mean tcp?"),
        ("proto 256", 7, "use one of"),
        ("reason no_rout", 8, "did you mean no_route?"),
        ("point tun", 7, "did you mean tun-in?"),
        ("direction up", 11, "use one of"),
        ("sample 1/0", 8, "sample 1/100"),
        ("sample 5", 8, "sample 1/100"),
        ("peer", 5, "it ends too early"),
        ("peer and drops", 6, "an address is missing before 'and'"),
        ("drops drops", 7, 'join conditions with "and" or "or"'),
        ("(drops", 7, "close each parenthesis"),
        ("drops)", 6, "unexpected ')'"),
        ("drops and", 10, "it ends too early"),
        ("(" * 40, 34, "parentheses in each other"),
        ("not " * 40, 133, "parentheses in each other"),
    ],
)
def test_error_has_the_column_and_a_hint(text: str, column: int, hint: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert f"column {column}:" in str(caught.value)
    assert hint in str(caught.value)


def test_filter_that_is_too_long_is_refused() -> None:
    with pytest.raises(FilterError, match="2,048 may be"):
        parse_filter("udp or " * 1000 + "udp")


_PIECES = [*WORDS, "and", "or", "not", "(", ")", "10.0.0.0/8", "80", "1/2", "tun-in", "&&", "é"]


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(_PIECES)).map(" ".join)))
def test_any_text_is_a_filter_or_an_error_of_its_own(text: str) -> None:
    with contextlib.suppress(FilterError):
        assert parse_filter(text).wants(SENT) in {True, False}
