"""reach/losses.py: which counter grew while requests were lost, and what fixes it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.admin import documents
from udpoverlay.model.finding import Finding
from udpoverlay.reach.losses import Look, losses
from udpoverlay.reach.target import find


class World:
    """Before, and after with what a test changes."""

    def __init__(self) -> None:
        before: Any = documents()
        after: Any = documents()
        self.before = Look(before["/v1/status"], before["/v1/peers"])
        self.after = Look(after["/v1/status"], after["/v1/peers"])
        self.target = find("192.0.2.2", self.before.status, self.before.peers)
        self.peer: Any = after["/v1/peers"]["peers"][0]
        self.status: Any = after["/v1/status"]

    def losses(self, *, size_only: bool = False) -> list[Finding]:
        meanings = {"outbound_forbidden": "a firewall rule of this host forbids the datagram"}
        return losses(self.target, self.before, self.after, meanings, size_only=size_only)

    def fact(self) -> str:
        [finding] = self.losses()
        assert finding.fix
        return finding.fact


def test_packets_that_left_and_brought_nothing_are_counted() -> None:
    world = World()
    world.peer["traffic"]["sent_packets"] += 5
    assert world.fact() == (
        "5 packets left this host for 192.0.2.2 UDP 8285, and nothing came back"
    )
    assert "udpoverlay explain 10.5.73.0" in world.losses()[0].fix


def test_packets_that_came_from_there_meanwhile_are_told() -> None:
    world = World()
    world.peer["traffic"].update(sent_packets=5, delivered_packets=2)
    assert "5 packets left this host for 192.0.2.2 UDP 8285, 2 came from there" in world.fact()


def test_nothing_sent_is_not_called_lost_on_the_way() -> None:
    assert "the daemon sent nothing to 192.0.2.2" in World().fact()


def test_drop_of_the_peer_that_grew_is_named_with_meaning_and_fix() -> None:
    world = World()
    world.peer["traffic"]["drops"] = {"outbound_forbidden": 3}
    assert world.fact() == (
        "3 dropped here, outbound forbidden: a firewall rule of this host forbids the datagram"
    )
    assert "OUTPUT" in world.losses()[0].fix


def test_drop_that_was_there_before_is_not_named() -> None:
    world = World()
    world.before.peer(world.target)["traffic"]["drops"]["inbound_oversize"] = 7
    world.peer["traffic"]["drops"] = {"inbound_oversize": 7}
    world.peer["traffic"]["sent_packets"] += 1
    assert "inbound" not in world.fact()


@pytest.mark.parametrize("name", ["outbound_no_route", "inbound_unknown_sender"])
def test_drop_of_no_peer_is_named(name: str) -> None:
    world = World()
    counters = world.status["dataplane"]["counters"]
    counters[name] = counters.get(name, 0) + 4
    assert f"4 dropped here, {name.replace('_', ' ')}" in world.fact()


def test_icmp_error_that_came_is_named_with_its_reporter() -> None:
    world = World()
    report = {"kind": "port_unreachable", "count": 2, "reporter": "192.0.2.2", "seconds_ago": 0.1}
    world.peer["reports"] = [report]
    assert "192.0.2.2 reports port unreachable: nothing listens" in world.fact()


def test_answers_from_another_address_are_named() -> None:
    world = World()
    senders: Any = world.after.peers["refused_senders"]
    senders[0]["datagrams"] += 5
    assert "5 datagrams with a source in 10.5.73.0/24 came from 203.0.113.9" in world.fact()


def test_daemon_that_was_started_again_is_told() -> None:
    world = World()
    world.status["pid"] += 1
    assert "started again" in world.fact()


def test_lease_that_went_is_told() -> None:
    world = World()
    world.after.peers["peers"].remove(world.peer)
    assert "the lease of 192.0.2.2 is gone" in world.fact()


def test_lost_long_packets_alone_need_no_word_that_packets_left() -> None:
    world = World()
    world.peer["traffic"]["sent_packets"] += 30
    assert world.losses(size_only=True) == []
