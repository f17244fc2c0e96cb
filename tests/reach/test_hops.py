"""reach/hops.py: what a hop is called."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.admin import documents
from udpoverlay.reach.echo import Event, Kind
from udpoverlay.reach.hops import Hop, name, silence
from udpoverlay.reach.target import find

KNOWN: Any = documents()
LEASES = KNOWN["/v1/peers"]["peers"]
TARGET = find("10.5.73.7", KNOWN["/v1/status"], KNOWN["/v1/peers"])


def called(address: str, ttl: int, kind: Kind = Kind.TIME_EXCEEDED, words: str = "") -> str:
    hop = Hop(ttl, [0.001], [Event(1, kind, 0.0, address, words=words)])
    return name(address, hop, TARGET, LEASES)


@pytest.mark.parametrize(
    ("address", "ttl", "words"),
    [
        ("10.5.72.0", 1, "this host's daemon"),
        ("10.5.73.0", 2, "daemon of 192.0.2.2, lease 10.5.73.0/24"),
        ("10.5.73.0", 3, "kernel of 192.0.2.2, lease 10.5.73.0/24"),
        ("10.5.74.9", 4, "in 10.5.74.0/24 of 192.0.2.3"),
        ("192.0.2.3", 4, "the host of 10.5.74.0/24"),
        ("203.0.113.5", 4, ""),
    ],
)
def test_hop_on_the_way_has_its_name(address: str, ttl: int, words: str) -> None:
    assert called(address, ttl) == words


def test_target_is_called_so_only_when_it_answers() -> None:
    assert called("10.5.73.7", 4, Kind.ANSWER) == "target, in 10.5.73.0/24 of 192.0.2.2"
    assert "target" not in called("10.5.73.7", 4)


def test_hop_that_refuses_says_why() -> None:
    found = called("10.5.73.0", 3, Kind.UNREACHABLE, "host unreachable")
    assert found == "kernel of 192.0.2.2, lease 10.5.73.0/24, host unreachable"


def test_silent_end_of_the_tunnel_may_be_flannelds() -> None:
    assert silence(Hop(2, [None])) == "the peer's end of the tunnel: flanneld's is silent"
    assert silence(Hop(3, [None])) == ""


def test_lease_that_is_refused_names_nothing() -> None:
    """10.0.0.0/8 of the documents, which would hold every address."""
    assert called("10.200.0.1", 4) == ""


@pytest.mark.parametrize("kind", [Kind.ANSWER, Kind.UNREACHABLE, Kind.REFUSED_HERE])
def test_answer_or_refusal_ends_the_way(kind: Kind) -> None:
    assert Hop(1, [0.1], [Event(1, kind, 0.0)]).is_last
    assert not Hop(1, [0.1], [Event(1, Kind.TIME_EXCEEDED, 0.0)]).is_last
    assert not Hop(1, [None]).is_last
