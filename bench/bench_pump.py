"""One pump batch: TUN read to UDP send, and UDP receive to TUN write, system calls included.

A socket pair stands in the TUN's place, so that no root is needed: its cost per packet is close to
a TUN's, and every case pays it alike.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from bench.conftest import Measure
from tests.support.pumprig import MTU, Rig, from_peer, to_peer
from tests.support.segments import Segment, noise, super_packet
from tests.support.twin.offload import PLAIN
from udpoverlay import _fastpath as fp

BATCH = 64
OFFLOADS: dict[str, Any] = {
    "udp_segment": True,
    "vnet_header": True,
    "coalesce_tcp": True,
    "coalesce_udp": True,
}


def drained(sock: socket.socket) -> Callable[[], None]:
    sink = bytearray(70000)

    def drain() -> None:
        try:
            while True:
                sock.recv_into(sink)
        except BlockingIOError:
            pass

    return drain


def bench(measure: Measure, rig: Rig, offer: Callable[[], None], count: int, size: int) -> None:
    """Offering and draining are part of the time, the same in every case of a direction."""
    clear_peer, clear_device = drained(rig.peer), drained(rig.device)

    def once() -> None:
        offer()
        rig.worker.step(fp.OUTBOUND | fp.INBOUND, count)
        clear_peer()
        clear_device()

    try:
        measure(once, packets=count, size=size)
        assert not any(name.endswith(("failed", "full")) for name in rig.verdicts())
    finally:
        rig.close()


# One packet a system call, against a batch, against equal packets as one segmented send.
@pytest.mark.parametrize("way", ["one-by-one", "batch", "segmented"])
@pytest.mark.parametrize("size", [92, MTU])
def test_outbound_plain_packets(measure: Measure, way: str, size: int) -> None:
    rig = Rig(batch=1 if way == "one-by-one" else BATCH, udp_segment=way == "segmented")
    packet = to_peer(bytes(size - 20))

    def offer() -> None:
        for _ in range(BATCH):
            rig.device.send(packet)

    bench(measure, rig, offer, BATCH, size)


# What one read of a super-packet saves: the same bytes as 44 packets.
def test_outbound_super_packet(measure: Measure) -> None:
    rig = Rig(**OFFLOADS)
    host, port = rig.peer.getsockname()
    rig.table.publish([(bytes([10, 1, 1, 0]), 24, socket.inet_aton(host), port, 0)])
    vnet, packet = super_packet(Segment(noise(44 * (MTU - 40))), MTU - 40)
    bench(measure, rig, lambda: void(rig.device.send(vnet + packet)), 44, MTU)


# The same datagrams written one by one, and coalesced into one write.
@pytest.mark.parametrize("way", ["one-by-one", "batch", "coalesced"])
def test_inbound(measure: Measure, way: str) -> None:
    coalesced = OFFLOADS if way == "coalesced" else {}
    rig = Rig(batch=1 if way == "one-by-one" else BATCH, **coalesced)
    size = MTU - 40
    packets = [Segment(noise(size), id=i, sequence=i * size).build() for i in range(44)]
    address = rig.udp.getsockname()

    def offer() -> None:
        for packet in packets:
            rig.peer.sendto(packet, address)

    bench(measure, rig, offer, 44, MTU)


# What the event loop's driver pays for a call that finds one packet.
def test_one_packet_there_and_back(measure: Measure) -> None:
    rig = Rig(**OFFLOADS)
    outbound, inbound = PLAIN + to_peer(bytes(64)), from_peer(bytes(64))
    address = rig.udp.getsockname()
    clear = drained(rig.device)

    def once() -> None:
        rig.device.send(outbound)
        rig.worker.step(fp.OUTBOUND, 1)
        rig.peer.recv(2000)
        rig.peer.sendto(inbound, address)
        rig.worker.step(fp.INBOUND, 1)
        clear()

    measure(once, packets=2, size=92)
    rig.close()


def void(_: object) -> None:
    """For a lambda whose value is not used."""
