"""What the flight recorder costs: whole batches without one, and with one.

The cases are those with the least work for each packet, in which a record weighs most. Offering and
draining are part of the time, the same in each.
"""

from __future__ import annotations

import socket

import pytest

from bench.bench_pump import BATCH, OFFLOADS, bench, void
from bench.conftest import Measure
from tests.support.pumprig import MTU, Rig, to_peer
from tests.support.segments import Segment, noise, super_packet
from udpoverlay import _fastpath as fp

WAYS = ["none", "on"]


def recorder(way: str) -> fp.Recorder | None:
    return fp.Recorder(1, passed=4096, dropped=1024) if way == "on" else None


@pytest.mark.parametrize("way", WAYS)
def test_small_packets_out(measure: Measure, way: str) -> None:
    rig = Rig(batch=BATCH, udp_segment=True, recorder=recorder(way))
    packet = to_peer(bytes(72))

    def offer() -> None:
        for _ in range(BATCH):
            rig.device.send(packet)

    bench(measure, rig, offer, BATCH, 92)


@pytest.mark.parametrize("way", WAYS)
def test_super_packet_out(measure: Measure, way: str) -> None:
    rig = Rig(**OFFLOADS, recorder=recorder(way))
    host, port = rig.peer.getsockname()
    rig.table.publish([(bytes([10, 1, 1, 0]), 24, socket.inet_aton(host), port, 0)])
    vnet, packet = super_packet(Segment(noise(44 * (MTU - 40))), MTU - 40)
    bench(measure, rig, lambda: void(rig.device.send(vnet + packet)), 44, MTU)


@pytest.mark.parametrize("way", WAYS)
def test_coalesced_in(measure: Measure, way: str) -> None:
    rig = Rig(**OFFLOADS, recorder=recorder(way))
    size = MTU - 40
    packets = [Segment(noise(size), id=i, sequence=i * size).build() for i in range(44)]
    address = rig.udp.getsockname()

    def offer() -> None:
        for packet in packets:
            rig.peer.sendto(packet, address)

    bench(measure, rig, offer, 44, MTU)
