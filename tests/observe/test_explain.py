"""observe/explain.py: each thing that can be wrong on a packet's way is named, in its order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.admin import documents
from udpoverlay.model.finding import Level
from udpoverlay.observe.explain import Facts, Step, Way, explain

WANTED = "10.5.73.7"
"""In the subnet of 192.0.2.2."""


class World:
    """A healthy host; a test breaks one thing."""

    def __init__(self) -> None:
        found: Any = documents()
        self.status = found["/v1/status"]
        self.peers = found["/v1/peers"]
        self.routes = found["/v1/routes"]
        self.peers["refused_senders"] = []
        self.peer = self.peers["peers"][0]
        self.peer["traffic"].update(sent_packets=9, heard_seconds_ago=4.0)
        self.ways = {WANTED: Way("flannel0"), "192.0.2.2": Way("eth0"), "10.5.72.9": Way("cni0")}
        self.forwarding_off = ""

    def explain(self, address: str = WANTED) -> list[Step]:
        return explain(
            address,
            Facts(self.status, self.peers, self.routes, self.ways, self.forwarding_off),
        )


def test_healthy_way_is_told_step_by_step() -> None:
    steps = World().explain()
    assert {step.finding.level for step in steps} == {Level.OK}
    assert [step.name for step in steps] == [
        "kernel route", "lease", "encapsulation", "underlay", "MTU", "heard",
    ]  # fmt: skip
    facts = [step.finding.fact for step in steps]
    assert "10.5.0.0/16 goes to flannel0" in facts
    assert "192.0.2.2 has 10.5.73.0/24" in facts
    assert "udp from 192.0.2.1 to 192.0.2.2:8285" in facts
    assert "192.0.2.2 by eth0" in facts
    assert "192.0.2.2 was heard 4 s ago" in facts


def _report(world: World, kind: str, seconds: float = 3.0) -> None:
    world.peer["reports"] = [
        {"kind": kind, "count": 12, "reporter": "192.0.2.2", "seconds_ago": seconds}
    ]


def _fallback(world: World, retry: float | None = 90.0) -> None:
    world.peer["fallbacks"] = [
        {"offload": "udp-segment", "cause": "datagrams longer than the MTU", "count": 2,
         "retry_seconds": retry}
    ]  # fmt: skip


def _sender(world: World, inner: str = WANTED, seconds: float = 1.0) -> None:
    world.peers["refused_senders"] = [
        {"address": "203.0.113.9", "reason": "inbound_unknown_sender", "datagrams": 1003,
         "inner_source": inner, "inner_destination": "10.5.72.9", "seconds_ago": seconds}
    ]  # fmt: skip


BREAKS: dict[str, tuple[Callable[[World], Any], Level, str, str, str]] = {
    "kernel route": (
        lambda w: w.ways.update({WANTED: Way("eth0")}),
        Level.FAILURE, "kernel route", "the kernel sends it to eth0", "ip route get 10.5.73.7",
    ),
    "no kernel route": (
        lambda w: w.ways.update({WANTED: Way(error="Network is unreachable")}),
        Level.FAILURE, "kernel route", "Network is unreachable", "ip route get",
    ),
    "tunnel": (
        lambda w: w.status["network"]["troubles"].update(tunnel="the device is down"),
        Level.FAILURE, "tunnel", "tunnel: the device is down", "log",
    ),
    "registry": (
        lambda w: w.status["registry"]["troubles"].update(leases="etcd does not answer"),
        Level.WARNING, "registry", "etcd does not answer; routes may be old", "log",
    ),
    "forwarding": (
        lambda w: setattr(w, "forwarding_off", "net.ipv4.ip_forward"),
        Level.WARNING, "forwarding", "those of its containers do not",
        "sysctl -w net.ipv4.ip_forward=1",
    ),
    "no lease": (
        lambda w: w.peers["peers"].clear(),
        Level.FAILURE, "lease", "no host has a lease with 10.5.73.7", "udpoverlay peers",
    ),
    "refused lease": (
        lambda w: w.peer.update(refused="too_narrow"),
        Level.FAILURE, "lease", "gets no route: too narrow", "registry.md",
    ),
    "no route": (
        lambda w: w.routes["routes"].clear(),
        Level.FAILURE, "route", "no route to 10.5.73.0/24 yet", "ask again",
    ),
    "no underlay": (
        lambda w: w.ways.update({"192.0.2.2": Way(error="No route to host")}),
        Level.FAILURE, "underlay", "No route to host", "ip route get 192.0.2.2",
    ),
    "underlay in the tunnel": (
        lambda w: w.ways.update({"192.0.2.2": Way("flannel0")}),
        Level.FAILURE, "underlay", "192.0.2.2 itself is routed into the tunnel", "by eth0",
    ),
    "offload": (_fallback, Level.WARNING, "offload", "udp-segment is off", "tried again"),
    "packet rules": (
        lambda w: w.status["firewall"].update(error="nft: Operation not permitted"),
        Level.FAILURE, "packet rules", "Operation not permitted", "log",
    ),
    "closed port": (
        lambda w: _report(w, "port_unreachable"),
        Level.FAILURE, "answers", "12 times: nothing listens on the peer's UDP port",
        "doctor --peer 192.0.2.2",
    ),
    "firewall there": (
        lambda w: _report(w, "prohibited"),
        Level.FAILURE, "answers", "a firewall refuses our datagrams", "doctor --peer 192.0.2.2",
    ),
    "closed port, heard since": (
        lambda w: _report(w, "port_unreachable", 5.0),
        Level.WARNING, "answers", "192.0.2.2 was heard since", "doctor --peer 192.0.2.2",
    ),
    "never heard": (
        lambda w: w.peer["traffic"].update(heard_seconds_ago=None),
        Level.WARNING, "heard", "9 packets went to 192.0.2.2, nothing ever came back",
        "doctor --peer 192.0.2.2",
    ),
    "silent": (
        lambda w: w.peer["traffic"].update(heard_seconds_ago=700.0),
        Level.WARNING, "heard", "heard 700 s ago", "doctor --peer",
    ),
    "drops": (
        lambda w: w.peer["traffic"]["drops"].update(outbound_too_big=6),
        Level.WARNING, "drops", "6 packets since start: outbound too big", "counters.md",
    ),
    "sender": (
        _sender, Level.FAILURE, "sender check",
        "1,003 datagrams with a source in 10.5.73.0/24 came from 203.0.113.9", "--public-ip",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_wrong_is_the_one_step_that_is_not_ok(name: str) -> None:
    world = World()
    break_it, level, step_name, fact, fix = BREAKS[name]
    break_it(world)
    [wrong] = [step for step in world.explain() if step.finding.level is not Level.OK]
    assert (wrong.finding.level, wrong.name) == (level, step_name)
    assert fact in wrong.finding.fact
    assert fix in wrong.finding.fix


@pytest.mark.parametrize(
    "past",
    [
        lambda w: _report(w, "port_unreachable", 61.0),
        lambda w: _fallback(w, None),
        lambda w: _sender(w, "10.5.74.7"),
        lambda w: _sender(w, seconds=61.0),
        lambda w: w.peer["traffic"].update(sent_packets=0, heard_seconds_ago=None),
    ],
)
def test_what_is_over_or_concerns_another_is_not_wrong(past: Callable[[World], Any]) -> None:
    world = World()
    past(world)
    assert {step.finding.level for step in world.explain()} == {Level.OK}


def test_longest_lease_with_a_route_decides() -> None:
    world = World()
    narrow = {**world.peer, "subnet": "10.5.73.0/28", "public_ip": "192.0.2.8"}
    refused = {**narrow, "subnet": "10.5.73.0/29", "refused": "overlap"}
    world.peers["peers"] += [narrow, refused]
    world.ways["192.0.2.8"] = Way("eth0")
    [lease] = [step for step in world.explain() if step.name == "lease"]
    assert lease.finding.fact == "192.0.2.8 has 10.5.73.0/28"


def test_address_of_this_host_goes_past_the_tunnel() -> None:
    world = World()
    [step] = world.explain("10.5.72.9")
    assert (step.finding.level, step.name) == (Level.OK, "subnet")
    assert "sends it to cni0, past the tunnel" in step.finding.fact
    world.ways["10.5.72.9"] = Way("flannel0")
    [step] = world.explain("10.5.72.9")
    assert step.finding.level is Level.FAILURE
    assert "no bridge has it" in step.finding.fact


def test_address_outside_the_overlay_is_no_business_of_it() -> None:
    world = World()
    world.ways["198.51.100.1"] = Way("eth0")
    [step] = world.explain("198.51.100.1")
    assert step.finding.level is Level.FAILURE
    assert "not in the overlay 10.5.0.0/16: the kernel sends it to eth0" in step.finding.fact


def test_impaired_peer_is_a_warning_that_says_how_to_end_it() -> None:
    world = World()
    world.peer["impaired"] = "loss 5 %"
    [step] = [step for step in world.explain() if step.finding.level is not Level.OK]
    assert step.finding.level is Level.WARNING
    assert "loss 5 %" in step.finding.fact
    assert step.finding.fix == "udpoverlay impair 192.0.2.2 off"
