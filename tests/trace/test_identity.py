"""trace/identity.py: the same number on the whole way, another one for the next packet."""

from __future__ import annotations

import pytest

from tests.support.captures import tcp, udp
from tests.support.packets import ipv4, ipv6
from udpoverlay.trace.identity import packet_id

PACKET = ipv4(udp(b"hello"), identification=7)


@pytest.mark.parametrize("ttl", [63, 62, 1])
@pytest.mark.parametrize("tos", [0, 1, 3])
def test_hops_and_congestion_marks_keep_the_id(ttl: int, tos: int) -> None:
    later = ipv4(udp(b"hello"), identification=7, ttl=ttl, tos=tos)
    assert later != PACKET
    assert packet_id(later) == packet_id(PACKET)


def test_hops_and_congestion_marks_keep_the_id_of_ipv6() -> None:
    before, after = ipv6(tcp(), next_header=6), bytearray(ipv6(tcp(), next_header=6, hop_limit=9))
    after[0], after[1] = 0x60 | 0x3, 0x30
    assert packet_id(bytes(after)) == packet_id(before)
    after[3] ^= 1  # the flow label
    assert packet_id(bytes(after)) != packet_id(before)


@pytest.mark.parametrize(
    "other",
    [
        ipv4(udp(b"hello"), identification=8),
        ipv4(udp(b"hellp"), identification=7),
        ipv4(udp(b"hello", port=10), identification=7),
        ipv4(udp(b"hello"), identification=7, source="10.1.0.3"),
        ipv4(udp(b"hello"), identification=7, fragment=0x2000),
    ],
)
def test_another_packet_has_another_id(other: bytes) -> None:
    assert packet_id(other) != packet_id(PACKET)


def test_payload_beyond_the_record_shows_by_its_checksum() -> None:
    one, other = (ipv4(udp(bytes(500) + last)) for last in (b"a", b"b"))
    assert one[:26] == other[:26]
    assert packet_id(one[:72]) != packet_id(other[:72])


def test_what_is_kept_of_a_packet_is_enough() -> None:
    packet = ipv6(tcp(bytes(1000)), next_header=6)
    assert packet_id(packet[:72]) == packet_id(packet[:64]) == packet_id(packet)


@pytest.mark.parametrize("data", [b"", b"\x45", b"\x45" * 19, b"\x60" * 39, b"\0" * 72])
def test_any_bytes_have_an_id(data: bytes) -> None:
    assert 0 <= packet_id(data) < 1 << 64


def test_id_is_the_same_in_each_version() -> None:
    """Two hosts of different versions follow one packet."""
    assert f"{packet_id(PACKET):016x}" == "130cce01d8d799b2"
