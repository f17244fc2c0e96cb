"""The flight recorder as the rest of the daemon sees it: records in order, and what was missed."""

from __future__ import annotations

import socket
import time

import pytest

from tests.support.pumprig import received, rig, to_peer
from udpoverlay.dataplane.engine import make_recorder
from udpoverlay.dataplane.recorder import Recorder
from udpoverlay.errors import OperatorError
from udpoverlay.model.dataplane import DataplaneSettings


def send(recorder: Recorder, count: int, *, destination: str = "10.5.99.7") -> None:
    with rig(recorder=recorder.rings) as r:
        for _ in range(count):
            r.device.send(to_peer(destination=destination))
            r.step()
            received(r.peer)


def test_records_are_read_once_and_in_order() -> None:
    recorder = Recorder(1, 64)
    send(recorder, 2)
    send(recorder, 1, destination="10.5.200.1")
    first = recorder.read()
    assert [(each.verdict, each.dropped, each.number) for each in first.records] == [
        ("outbound_sent", False, 0),
        ("outbound_sent", False, 1),
        ("outbound_no_route", True, 0),
    ]
    sent, _, refused = first.records
    assert (sent.point, sent.remote, sent.length, sent.outbound) == (
        "udp-out",
        "127.0.0.1",
        27,
        True,
    )
    assert (refused.point, refused.remote) == ("tun-in", "")
    assert socket.inet_ntoa(refused.data[16:20]) == "10.5.200.1"
    assert recorder.read(first.position) == ([], first.position, 0)


def test_time_is_that_of_the_wall_clock() -> None:
    recorder = Recorder(1, 64)
    before = time.time_ns()
    send(recorder, 1)
    (record,) = recorder.read().records
    slack = 10**7  # the two clocks are read one after the other
    assert before - slack <= record.time_ns <= time.time_ns() + slack


def test_records_written_over_are_lost_to_who_read_before_alone() -> None:
    recorder = Recorder(1, 64)
    send(recorder, 1)
    position = recorder.read().position
    send(recorder, 100)
    assert recorder.read(position).lost == 100 - 63
    again = recorder.read()
    assert (len(again.records), again.lost) == (63, 0)


def test_drops_stay_when_many_packets_pass() -> None:
    recorder = Recorder(1, 64)
    send(recorder, 1, destination="10.5.200.1")
    send(recorder, 200)
    drops = recorder.read(drops_only=True)
    assert [each.verdict for each in drops.records] == ["outbound_no_route"]


def test_reading_a_part_leaves_the_rest_for_the_next_time() -> None:
    recorder = Recorder(1, 64)
    send(recorder, 10)
    first = recorder.read(most=6)
    second = recorder.read(first.position, most=100)
    assert [each.number for each in (*first.records, *second.records)] == list(range(10))


def test_end_is_behind_what_was_recorded() -> None:
    recorder = Recorder(1, 64)
    send(recorder, 3)
    end = recorder.end()
    assert recorder.read(end).records == []
    send(recorder, 1)
    assert [each.number for each in recorder.read(end).records] == [3]


@pytest.mark.parametrize("position", [(), (1,), (0, 0, 0)])
def test_position_of_other_rings_is_refused(position: tuple[int, ...]) -> None:
    with pytest.raises(OperatorError, match="a position has 2 numbers"):
        Recorder(1, 64).read(position)


def test_sizes_are_rounded_up_to_a_power_of_two() -> None:
    recorder = Recorder(1, 100)
    send(recorder, 200)
    assert len(recorder.read(most=1000).records) == 127


def test_settings_without_a_recorder_make_none() -> None:
    assert make_recorder(DataplaneSettings(flight_recorder=0)) is None
    made = make_recorder(DataplaneSettings(workers="3"))
    assert made is not None
    assert made.rings.workers == 3
