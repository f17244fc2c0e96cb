"""decode/tunnel.py: what a frame holds, and that each thing that can be wrong has its word."""

from __future__ import annotations

import random

import pytest

from tests.support.captures import (
    ethernet,
    pseudo_sum,
    tcp,
    tunnelled,
    udp,
    vxlan,
)
from tests.support.packets import icmp, ipv4, ipv6
from udpoverlay.decode.frame import Frame, Link
from udpoverlay.decode.tunnel import Dissected, dissect

INNER = ipv4(tcp(b"hello"), protocol=6, ttl=63)
ECHO = ipv4(icmp(8), protocol=1)


def take(packet: bytes, link: int = Link.RAW, mtu: int | None = None) -> Dissected:
    return dissect(Frame(1, packet, len(packet), link), mtu=mtu)


def words(found: Dissected) -> list[str]:
    return [f"{each.where.value} {each.word.value}" for each in found.problems]


def test_udp_tunnel_is_taken_apart() -> None:
    found = take(tunnelled(INNER))
    assert found.tunnel == "udp"
    assert found.outer is not None
    assert (found.outer.source, found.outer.destination) == ("192.0.2.1", "192.0.2.2")
    [inner] = found.inner
    assert (inner.source, inner.destination, inner.ttl) == ("10.1.0.2", "10.2.0.2", 63)
    assert inner.transport is not None
    assert (inner.transport.name, inner.transport.detail) == ("TCP", "SYN ACK")
    assert (inner.transport.source_port, inner.transport.destination_port) == (443, 51515)
    assert found.problems == []


@pytest.mark.parametrize("port", [8472, 4789])
@pytest.mark.parametrize("vlan", [None, 7])
def test_vxlan_is_taken_apart(port: int, vlan: int | None) -> None:
    found = take(vxlan(ethernet(INNER, vlan=vlan), vni=77, port=port))
    assert (found.tunnel, found.vni) == ("vxlan", 77)
    assert [packet.source for packet in found.inner] == ["10.1.0.2"]
    assert found.problems == []


def test_vxlan_with_arp_says_so() -> None:
    found = take(vxlan(ethernet(bytes(28), kind=0x0806)))
    assert (found.other, found.inner, found.problems) == ("ARP", [], [])


@pytest.mark.parametrize(
    ("link", "header"),
    [
        (Link.ETHERNET, ethernet(b"")),
        (Link.ETHERNET, ethernet(b"", vlan=5)),
        (Link.SLL, bytes(14) + b"\x08\x00"),
        (Link.SLL2, b"\x08\x00" + bytes(18)),
        (Link.NULL, bytes(4)),
        (Link.IPV4, b""),
        (Link.RAW_BSD, b""),
    ],
)
def test_packet_is_found_behind_the_header_of_any_link(link: int, header: bytes) -> None:
    found = take(header + tunnelled(INNER), link)
    assert found.tunnel == "udp"
    assert found.problems == []


def test_frame_that_holds_no_ip_is_named() -> None:
    assert take(ethernet(bytes(28), kind=0x0806), Link.ETHERNET).other == "ARP"
    assert take(b"x", Link.ETHERNET).other == "no whole Ethernet header"
    assert take(b"x", 147).other == "link type 147"


def test_packet_in_no_tunnel_is_plain() -> None:
    found = take(ipv4(udp(b"x", port=53)))
    assert (found.tunnel, found.inner, found.problems) == ("", [], [])


def test_send_that_was_not_segmented_yet_holds_several_packets() -> None:
    found = take(tunnelled(INNER, INNER, ECHO))
    assert len(found.inner) == 3
    assert found.problems == []


def test_inner_ipv6_is_taken_apart() -> None:
    found = take(tunnelled(ipv6(bytes(8), next_header=59)))
    assert [packet.source for packet in found.inner] == ["2001:db8::1"]
    assert found.problems == []


def broken(where: int, value: int, packet: bytes = INNER) -> bytes:
    """A packet with another byte at `where`."""
    return packet[:where] + bytes([value]) + packet[where + 1 :]


OUTER_SUM = pseudo_sum(17, 8 + len(INNER), ("192.0.2.1", "192.0.2.2"))
LEFT_TO_THE_CARD = udp(INNER, 8285, ("192.0.2.1", "192.0.2.2"), source_port=8285, value=OUTER_SUM)
PROBLEMS = {
    "inner checksum": tunnelled(ipv4(tcp(value=0x1234), protocol=6)),
    "inner offload_checksum": tunnelled(ipv4(tcp(value=pseudo_sum(6, 20)), protocol=6)),
    "outer offload_checksum": ipv4(LEFT_TO_THE_CARD, source="192.0.2.1", destination="192.0.2.2"),
    "inner header_checksum": tunnelled(ipv4(udp(b"x"), header_checksum=1)),
    "outer header_checksum": broken(10, 0, tunnelled(INNER)),
    "inner ttl": tunnelled(ipv4(udp(b"x"), ttl=1)),
    "outer ttl": ipv4(udp(b"x"), ttl=0),
    "inner cut": tunnelled(INNER[:-1]),
    "outer cut": tunnelled(INNER)[:-1],
    "inner bad_header": tunnelled(broken(0, 0x44)),
    "inner not_ip": tunnelled(b"\x01" + INNER[1:]),
    "inner trailing_bytes": tunnelled(INNER, b"padding"),
    "inner double_encapsulation": tunnelled(tunnelled(INNER)),
    "tunnel vxlan_header": vxlan(ethernet(INNER), flags=0),
    "outer fragmented": tunnelled(INNER, fragment=0x2000),
    "outer too_long": tunnelled(ipv4(udp(bytes(1460)))),
    "inner wrong ICMP": tunnelled(ipv4(broken(2, 0, icmp(8, rest=bytes(8))), protocol=1)),
    "inner UDP length": tunnelled(ipv4(udp(b"x", length=4000, value=0))),
}
OTHER_WORDS = {"inner wrong ICMP": "inner checksum", "inner UDP length": "inner bad_header"}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problem_has_its_word_and_no_other(name: str) -> None:
    assert words(take(PROBLEMS[name], mtu=1500)) == [OTHER_WORDS.get(name, name)]


def test_nothing_in_the_tunnel_is_not_ip() -> None:
    assert words(take(tunnelled(b""))) == ["inner not_ip"]


def test_right_checksum_is_named() -> None:
    [problem] = take(tunnelled(ipv4(tcp(value=0x1234), protocol=6))).problems
    right = tcp()[16:18].hex()
    assert problem.text == f"TCP checksum 1234, {right} is right"


def test_udp_without_checksum_is_right_in_ipv4() -> None:
    assert take(tunnelled(ipv4(udp(b"x", value=0)))).problems == []


def test_capture_that_is_cut_is_no_cut_packet() -> None:
    packet = tunnelled(ipv4(tcp(bytes(500)), protocol=6))
    found = dissect(Frame(1, packet[:80], len(packet)))
    assert len(found.inner) == 1
    assert found.problems == []


def test_fragment_without_its_ports_is_in_no_tunnel() -> None:
    found = take(tunnelled(INNER, fragment=0x2001))
    assert found.outer is not None
    assert (found.tunnel, found.outer.fragment_offset) == ("", 8)


def test_icmp_error_tells_the_mtu_and_about_whom() -> None:
    error = ipv4(icmp(3, 4, b"\0\0\x05\x78" + tunnelled(INNER)[:28]), protocol=1)
    found = take(error).outer
    assert found is not None
    assert found.transport is not None
    assert found.transport.detail == (
        "fragmentation needed, MTU 1400, about 192.0.2.1 to 192.0.2.2"
    )


def test_short_frame_that_ethernet_padded_in_vxlan_is_right() -> None:
    assert take(vxlan(ethernet(INNER) + bytes(20))).problems == []


def test_last_hop_in_vxlan_is_right() -> None:
    """The receiving kernel delivers it to a pod of its own without taking one."""
    assert take(vxlan(ethernet(ipv4(udp(b"x"), ttl=1)))).problems == []


def test_ttl_of_0_is_named_once() -> None:
    assert words(take(tunnelled(ipv4(udp(b"x"), ttl=0)))) == ["inner ttl"]


def test_length_of_0_is_a_packet_that_was_not_segmented_yet() -> None:
    """Linux writes 0 where more than 64 KiB do not fit: big TCP, and UDP with segmentation."""
    found = take(ipv4(tcp(bytes(30)), protocol=6, total_length=0)).outer
    assert found is not None
    assert (found.length, found.faults) == (70, [])
    udp_found = take(ipv4(udp(bytes(30), length=0, value=0))).outer
    assert udp_found is not None
    assert udp_found.transport is not None
    assert (udp_found.transport.payload_wire, udp_found.faults) == (30, [])


def test_checksum_left_to_segmentation_offload_is_known() -> None:
    assert words(take(ipv4(tcp(value=pseudo_sum(6, 0)), protocol=6))) == ["outer offload_checksum"]


def test_right_udp_checksum_is_never_0() -> None:
    plain = udp(bytes(2))
    packet = udp(plain[6:8], value=0x1234)  # its sum comes out as 0
    [problem] = take(ipv4(packet)).problems
    assert problem.text == "UDP checksum 1234, ffff is right"


def test_capture_that_is_cut_inside_a_header_is_no_bad_header() -> None:
    packet = ipv4(tcp(bytes(500)), protocol=6)
    assert dissect(Frame(1, packet[:30], len(packet))).problems == []


def test_ipv6_fragment_behind_other_headers_is_one() -> None:
    hop_by_hop = bytes([44, 1]) + bytes(14)
    fragment = bytes([17, 0]) + (0x0011).to_bytes(2, "big") + bytes(4)
    found = take(ipv6(hop_by_hop + fragment + bytes(16), next_header=0)).outer
    assert found is not None
    assert (found.protocol, found.fragment_offset, found.transport) == (17, 16, None)
    first = bytes([17, 0, 0, 1]) + bytes(4) + udp(b"x", port=53)
    found = take(ipv6(hop_by_hop + first, next_header=0)).outer
    assert found is not None
    assert found.transport is not None
    assert (found.fragment_offset, found.transport.destination_port) == (0, 53)


@pytest.mark.parametrize("link", [Link.RAW, Link.ETHERNET, Link.SLL, Link.SLL2, Link.NULL])
def test_frame_of_any_bytes_is_taken_apart_without_an_error(link: int) -> None:
    chance = random.Random(link)
    good = [*PROBLEMS.values(), tunnelled(ipv6(ipv6())), tunnelled(INNER, INNER)]
    for _ in range(1500):
        data = bytearray(chance.choice(good))
        for _ in range(chance.randint(0, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        cut = bytes(data[: chance.randint(0, len(data))])
        found = dissect(Frame(1, cut, chance.choice((len(cut), len(data))), link))
        assert len(found.inner) < 100
