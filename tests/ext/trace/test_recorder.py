"""What workers write into the flight recorder, seen through a pump with a TUN of our own."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

import pytest

from tests.support.packets import ipv4
from tests.support.pumprig import forwarded, from_peer, received, rig, to_peer
from tests.support.segments import Segment
from tests.support.twin.offload import PLAIN
from udpoverlay import _fastpath as fp

VERDICTS = [name for name, *_ in fp.VERDICTS]
TUN_IN, UDP_OUT, UDP_IN, TUN_OUT = range(4)
LOCALHOST = socket.inet_aton("127.0.0.1")
UNKNOWN = bytes(4)
CHECKED: dict[str, Any] = {
    "source_check": "enforce",
    "subnet": (socket.inet_aton("10.5.72.0"), 24),
}
"""So that a worker asks for the sender's address."""


def recorder() -> fp.Recorder:
    return fp.Recorder(1, passed=64, dropped=64)


def read(made: fp.Recorder, *, dropped: bool) -> list[tuple[str, int, bytes, int, int, bytes]]:
    records, _, lost = made.read(0, dropped, 0, 1000)
    assert lost == 0
    return [(VERDICTS[record[1]], *record[2:]) for record in records]


def test_packets_that_pass_are_recorded_as_they_left() -> None:
    made = recorder()
    with rig(recorder=made, **CHECKED) as r:
        out, back = to_peer(b"x" * 200), from_peer(b"y" * 20)
        r.device.send(out)
        r.send(back)
        r.step(batches=2)
        assert read(made, dropped=False) == [
            ("outbound_sent", UDP_OUT, LOCALHOST, 1, 220, forwarded(out)[:72]),
            ("inbound_delivered", TUN_OUT, LOCALHOST, 1, 40, forwarded(back)),
        ]
        assert read(made, dropped=True) == []


def test_packet_without_a_route_is_recorded_where_it_ended() -> None:
    made = recorder()
    with rig(recorder=made) as r:
        packet = to_peer(destination="10.5.200.1")
        r.device.send(packet)
        r.step()
        expected = ("outbound_no_route", TUN_IN, UNKNOWN, 1, len(packet), packet)
        assert read(made, dropped=True) == [expected]


def test_packet_refused_for_its_peer_names_the_peer() -> None:
    made = recorder()
    with rig(recorder=made) as r:
        packet = to_peer(ttl=1)
        r.device.send(packet)
        r.step()
        assert read(made, dropped=True)[0][:3] == ("outbound_ttl_expired", TUN_IN, LOCALHOST)


def test_packet_lost_on_purpose_is_recorded_as_it_would_have_left() -> None:
    made = recorder()
    with rig(recorder=made, allow_impair=True) as r:
        r.pump.set_impairment(
            0, LOCALHOST, time.monotonic_ns() + 60 * 10**9, loss=fp.IMPAIR_MILLIONTHS
        )
        assert r.worker.offer_impairment(0)
        packet = to_peer(b"x" * 20)
        r.device.send(packet)
        r.step()
        left = forwarded(packet)
        expected = ("outbound_impaired", TUN_IN, LOCALHOST, 1, len(left), left)
        assert read(made, dropped=True) == [expected]


def test_datagram_of_a_stranger_names_the_stranger() -> None:
    made = recorder()
    with rig(recorder=made, **CHECKED) as r, socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.7", 0))
        packet = from_peer()
        other.sendto(packet, r.udp.getsockname())
        r.step()
        expected = ("inbound_unknown_sender", UDP_IN, socket.inet_aton("127.0.0.7"))
        assert read(made, dropped=True) == [(*expected, 1, len(packet), packet)]


def test_peer_that_is_gone_keeps_its_address_in_its_records() -> None:
    made = recorder()
    with rig(recorder=made) as r:
        r.device.send(to_peer())
        r.step()
        r.route_to(("127.0.0.9", 9))
        assert read(made, dropped=False)[0][2] == LOCALHOST


def test_time_is_that_of_the_batch() -> None:
    made = recorder()
    with rig(recorder=made) as r:
        before = time.monotonic_ns()
        r.device.send(to_peer())
        r.send(from_peer())
        r.step(batches=2)
        after = time.monotonic_ns()
        taken = [record[0] for record in made.read(0, False, 0, 10)[0]]
        assert len(taken) == 2
        assert all(before <= each <= after for each in taken)


def test_run_of_packets_has_one_record_with_their_number() -> None:
    made = recorder()
    offloads = {"vnet_header": True, "udp_segment": True, "coalesce_tcp": True}
    with rig(recorder=made, **offloads) as r:
        for _ in range(5):
            r.device.send(PLAIN + to_peer(b"x" * 100))
        r.step(batches=1)
        for number in range(4):
            r.send(Segment(bytes(1000), id=number, sequence=1000 * number).build())
        r.step(batches=2)
        assert [each[0:2] + each[3:5] for each in read(made, dropped=False)] == [
            ("outbound_sent", UDP_OUT, 5, 120),
            ("inbound_delivered", TUN_OUT, 4, 1040),
        ]


def test_each_segment_of_a_super_packet_has_a_record_when_asked() -> None:
    made = recorder()
    made.each = True
    with rig(recorder=made, vnet_header=True, udp_segment=True) as r:
        payload = bytes(range(250)) * 12
        packet = tcp_super_packet(payload)
        r.device.send(struct.pack("=BBHHHH", 1, 1, 40, 1000, 20, 16) + packet)
        r.step(batches=3)
        found = read(made, dropped=False)
        assert [(packets, length) for *_, packets, length, _ in found] == [(1, 1040)] * 3
        sequence = [int.from_bytes(head[24:28], "big") for *_, head in found]
        assert sequence == [1000, 2000, 3000]
        heads = [head[40:72] for *_, head in found]
        assert heads == [payload[at : at + 32] for at in (0, 1000, 2000)]
        assert [datagram[:72] for datagram in received(r.peer)][:3] == [head for *_, head in found]


def tcp_super_packet(payload: bytes) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", 40000, 80, 1000, 1, 5 << 4, 0x10, 1000, 0, 0)
    return ipv4(tcp + payload, source="10.5.72.3", destination="10.5.99.7", protocol=6)


def test_recorder_of_more_workers_than_there_are_is_refused() -> None:
    made = recorder()
    with pytest.raises(ValueError, match="worker 1: there are 1"):
        made.read(1, True, 0, 1)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": 65}, {"passed": 48}, {"dropped": 1}])
def test_odd_sizes_are_refused(wrong: dict[str, int]) -> None:
    sizes = {"workers": 1, "passed": 64, "dropped": 64, **wrong}
    with pytest.raises(ValueError, match=r"workers|Invalid argument"):
        fp.Recorder(sizes["workers"], passed=sizes["passed"], dropped=sizes["dropped"])


def test_records_outlive_the_worker() -> None:
    made = recorder()
    with rig(recorder=made) as r:
        r.device.send(to_peer())
        r.step()
    assert len(read(made, dropped=False)) == 1
    with rig(recorder=made) as r:
        r.device.send(to_peer())
        r.step()
        assert len(read(made, dropped=False)) == 2
