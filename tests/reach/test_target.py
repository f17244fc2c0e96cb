"""reach/target.py: whom a word means, and which words are refused with their fix."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.admin import documents
from udpoverlay.errors import OperatorError
from udpoverlay.reach.target import Target, alone, find


def found(word: str) -> Target:
    known: Any = documents()
    return find(word, known["/v1/status"], known["/v1/peers"])


@pytest.mark.parametrize("word", ["192.0.2.2", "10.5.73.0/24", "10.5.73.0"])
def test_host_is_named_by_public_ip_subnet_or_tunnel_address(word: str) -> None:
    assert found(word) == Target(
        "10.5.73.0", "192.0.2.2", "10.5.73.0/24", "10.5.72.0", "flannel0", 1472
    )
    assert found(word).is_tunnel


def test_address_of_a_subnet_stays_itself() -> None:
    target = found("10.5.73.7")
    assert (target.address, target.peer, target.is_tunnel) == ("10.5.73.7", "192.0.2.2", False)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("10.5.72.9", "own subnet"),
        ("192.0.2.1", "is this host"),
        ("203.0.113.1", "neither in the overlay 10.5.0.0/16 nor the public IP of a lease"),
        ("192.0.2.9", "the lease 10.0.0.0/8 of 192.0.2.9 gets no route: too wide"),
        ("2001:db8::1", "IPv6"),
        ("n2", "no address, no subnet and no node"),
        ("10.5.73", "no address"),
        ("10.5.73.0/99", "no address"),
        ("", "no address"),
    ],
)
def test_word_that_no_packet_can_be_sent_to_is_refused(word: str, words: str) -> None:
    with pytest.raises(OperatorError, match=words) as caught:
        found(word)
    assert caught.value.fix


def test_address_of_no_lease_is_refused() -> None:
    known: Any = documents()
    del known["/v1/peers"]["peers"][2]
    with pytest.raises(OperatorError, match=r"no host has a lease with 10\.5\.99\.1"):
        find("10.5.99.1", known["/v1/status"], known["/v1/peers"])


def test_without_a_daemon_an_address_is_taken_as_it_is() -> None:
    assert alone("192.0.2.2") == Target("192.0.2.2")
    assert alone("10.5.73.0/24").address == "10.5.73.0"
