"""web/way.py: what is said of the four points, from the records of one host or of both."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.captures import udp
from tests.support.packets import ipv4
from tests.support.records import NO_ROUTE, SENT, record
from tests.support.twin.checksum import checksum
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.web.way import Step, way

HERE, THERE = "192.0.2.1", "192.0.2.2"


def arrived(sent: PacketRecord = SENT, **changed: Any) -> PacketRecord:
    """The record that the other host makes of `sent`: a hop later, so with another TTL."""
    packet = bytearray(sent.data)
    packet[8] -= 1
    packet[10:12] = bytes(2)
    packet[10:12] = checksum(bytes(packet[:20])).to_bytes(2, "big")
    facts: dict[str, Any] = {"verdict": "inbound_delivered", "point": "tun-out", "remote": HERE}
    facts |= {"time_ns": sent.time_ns + 1000, "data": bytes(packet), **changed}
    return sent._replace(**facts)


def states(steps: list[Step]) -> list[str]:
    return [f"{step.point} {step.host} {step.state}" for step in steps]


def test_packet_of_both_hosts_passes_four_points() -> None:
    expected = [f"tun-in {HERE} passed", f"udp-out {HERE} passed"]
    expected += [f"udp-in {THERE} passed", f"tun-out {THERE} passed"]
    assert states(way(SENT, HERE, {THERE: [arrived()]})) == expected
    assert states(way(arrived(), THERE, {HERE: [SENT]})) == expected


def test_packet_without_a_route_stops_at_the_first_point_and_says_why() -> None:
    steps = way(NO_ROUTE, HERE, {})
    assert [step.state for step in steps] == ["stopped"] + 3 * ["not reached"]
    assert steps[0].text == "no route: no peer has a subnet with the destination"


def test_packet_that_the_other_host_refused_stops_there() -> None:
    refused = arrived(verdict="inbound_foreign_source", dropped=True, point="udp-in")
    steps = way(SENT, HERE, {THERE: [refused]})
    assert [step.state for step in steps] == ["passed", "passed", "stopped", "not reached"]
    assert "foreign source" in steps[2].text


@pytest.mark.parametrize("others", [[], [arrived(record(ipv4(udp(b"another"))))], [SENT]])
def test_packet_that_did_not_come_in_is_unknown_behind_the_wire(others: list[PacketRecord]) -> None:
    steps = way(SENT, HERE, {THERE: others})
    assert [step.state for step in steps] == ["passed", "passed", "unknown", "unknown"]
    assert "did not come in" in steps[2].text


def test_host_that_is_not_asked_is_named_with_the_option_that_asks_it() -> None:
    for steps, unknown in ((way(SENT, HERE, {}), 2), (way(arrived(), THERE, {}), 0)):
        assert steps[unknown].state == "unknown"
        assert "--also" in steps[unknown].text
    nameless = way(arrived(remote="", verdict="inbound_delivered"), THERE, {})
    assert [step.text for step in nameless[:2]] == ["", ""]


def test_of_equal_packets_the_nearest_in_time_is_taken() -> None:
    late = arrived(verdict="inbound_foreign_source", dropped=True, point="udp-in")
    late = late._replace(time_ns=SENT.time_ns + 10**9)
    assert way(SENT, HERE, {THERE: [late, arrived()]})[3].state == "passed"
    assert way(SENT, HERE, {THERE: [late]})[2].state == "stopped"


def test_delivered_packet_with_a_bad_checksum_stops_behind_the_tunnel() -> None:
    damaged = ipv4(udp(b"hello", value=0x1234))
    steps = way(record(damaged), HERE, {THERE: [arrived(record(damaged))]})
    assert [step.state for step in steps] == ["passed", "passed", "passed", "stopped"]
    assert "UDP checksum 1234" in steps[3].text
    # Of a run of segments the checksum is made later.
    run = arrived(record(damaged), packets=3)
    assert way(run, THERE, {})[3].state == "passed"
