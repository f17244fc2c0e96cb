"""decode/leases.py: who may send what, by the leases."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tests.support.captures import tunnelled, udp
from tests.support.packets import ipv4
from udpoverlay.decode.frame import Frame
from udpoverlay.decode.leases import KnownLease, lease_problems
from udpoverlay.decode.tunnel import dissect

LEASES = [
    KnownLease(ip_network("10.1.0.0/24"), "192.0.2.1", ("203.0.113.7",)),
    KnownLease(ip_network("10.2.0.0/24"), "192.0.2.2"),
    KnownLease(ip_network("10.2.0.0/16"), "192.0.2.9"),
]


def problems(
    *,
    inner: str = "10.1.0.2",
    to: str = "10.2.0.2",
    outer: str = "192.0.2.1",
    host: str = "192.0.2.2",
) -> dict[str, str]:
    packet = tunnelled(
        ipv4(udp(b"x", addresses=(inner, to)), source=inner, destination=to),
        source=outer,
        destination=host,
    )
    found = dissect(Frame(1, packet, len(packet)))
    return {each.word.value: each.text for each in lease_problems(found, LEASES)}


@pytest.mark.parametrize("outer", ["192.0.2.1", "203.0.113.7"])
def test_holder_of_the_lease_may_send(outer: str) -> None:
    assert problems(outer=outer) == {}


def test_other_sender_is_foreign() -> None:
    assert problems(outer="192.0.2.66") == {
        "foreign_sender": "10.1.0.2 is in 10.1.0.0/24, leased by 192.0.2.1; 192.0.2.66 sent it"
    }


def test_address_of_no_lease_is_unknown() -> None:
    assert problems(inner="10.9.0.1") == {"unknown_subnet": "10.9.0.1 is in the subnet of no lease"}
    assert problems(to="10.9.0.1") == {"unknown_subnet": "10.9.0.1 is in the subnet of no lease"}


def test_host_without_the_destination_is_wrong() -> None:
    assert set(problems(host="192.0.2.9")) == {"wrong_host"}


def test_longest_subnet_decides_who_has_an_address() -> None:
    assert problems(to="10.2.7.2", host="192.0.2.9") == {}


def test_each_flow_of_a_datagram_is_looked_at_once() -> None:
    """A capture behind the receiver's merging has packets of several flows."""
    good = ipv4(udp(b"x"))
    forged = ipv4(udp(b"x"), source="10.9.0.1")
    packet = tunnelled(good, good, forged, forged)
    found = dissect(Frame(1, packet, len(packet)))
    assert len(found.inner) == 4
    [problem] = lease_problems(found, LEASES)
    assert problem.text == "10.9.0.1 is in the subnet of no lease"


def test_packet_in_no_tunnel_has_no_problem() -> None:
    packet = ipv4(udp(b"x"))
    assert list(lease_problems(dissect(Frame(1, packet, len(packet))), LEASES)) == []
