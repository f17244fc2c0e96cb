"""ext/worker: outbound_bytes and inbound_bytes are the bytes of the packets that got through."""

from __future__ import annotations

import socket

import pytest

from tests.support.pumprig import Rig, from_peer, receive, received, rig, to_peer
from tests.support.segments import Segment, noise, super_packet
from udpoverlay import _fastpath as fp

PEER = Segment(ports=(40000, 5201))


def bytes_out(r: Rig) -> tuple[int, int]:
    """What the counter says, and what came to the peer."""
    while r.step(fp.OUTBOUND):
        pass
    return r.counts()["outbound_bytes"], sum(len(each) for each in received(r.peer))


@pytest.mark.parametrize("udp_segment", [False, True])
@pytest.mark.parametrize("sizes", [(10, 20, 30), (100, 100, 100, 40), (1300,) * 50 + (1,)])
def test_bytes_of_packets_are_what_the_peer_gets(udp_segment: bool, sizes: tuple[int, ...]) -> None:
    with rig(udp_segment=udp_segment) as r:
        for size in sizes:
            r.device.send(to_peer(bytes(size)))
        counted, came = bytes_out(r)
        assert counted == came == sum(20 + size for size in sizes)


@pytest.mark.parametrize("udp_segment", [False, True])
@pytest.mark.parametrize("length", [999, 1000, 4700, 60_000])
def test_bytes_of_a_super_packet_are_those_of_its_segments(udp_segment: bool, length: int) -> None:
    with rig(vnet_header=True, udp_segment=udp_segment) as r:
        r.table.publish(
            [(socket.inet_aton("10.1.1.0"), 24, socket.inet_aton("127.0.0.1"), port(r), 0)]
        )
        vnet, packet = super_packet(PEER.but(payload=noise(length)), 1000)
        r.device.send(vnet + packet)
        counted, came = bytes_out(r)
        segments = -(-length // 1000)
        assert counted == came == length + segments * 40


def test_bytes_of_dropped_packets_do_not_count() -> None:
    with rig() as r:
        r.device.send(to_peer(bytes(10)))
        r.device.send(to_peer(bytes(1500)))  # longer than the tunnel's MTU
        r.device.send(to_peer(bytes(10), ttl=1))
        assert bytes_out(r) == (30, 30)


def test_bytes_of_datagrams_are_what_the_device_gets() -> None:
    with rig() as r:
        for size in (10, 700, 1380):
            r.send(from_peer(bytes(size)))
        r.send(from_peer(bytes(10)) + b"trailing")
        r.send(from_peer(bytes(10), ttl=1))
        while r.counts().get("inbound_delivered", 0) < 4:
            r.step(fp.INBOUND)
        came = receive(r.device, 4)
        assert r.counts()["inbound_bytes"] == sum(20 + size for size in (10, 700, 1380, 10))
        assert sum(len(each) for each in came if each[9] != 1) == r.counts()["inbound_bytes"]


def port(r: Rig) -> int:
    return int(r.peer.getsockname()[1])
