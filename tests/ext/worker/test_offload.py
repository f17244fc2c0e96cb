"""Super-packets through the pump: what is on the wire is what the plain path would have sent."""

from __future__ import annotations

import socket

import pytest

from tests.support.pumprig import MTU, Rig, forwarded, receive, received, rig
from tests.support.segments import Segment, noise, super_packet
from tests.support.twin.offload import PLAIN, Vnet, coalesce, finish, segment
from udpoverlay import _fastpath as fp

ON = {"vnet_header": True, "udp_segment": True, "coalesce_tcp": True, "coalesce_udp": True}


def route_all(r: Rig, **options: int) -> None:
    """Segments go to 10.1.1.0/24."""
    host, port = r.peer.getsockname() if r.peer.family == socket.AF_INET else ("127.0.0.1", 9)
    mtu = options.get("mtu", 0)
    r.table.publish([(bytes([10, 1, 1, 0]), 24, socket.inet_aton(host), port, mtu)])


def segmented_and_forwarded(vnet: bytes, packet: bytes) -> list[bytes]:
    return [forwarded(each) for each in segment(Vnet.unpack(vnet), packet)]


# ---- outbound


@pytest.mark.parametrize("udp_segment", [True, False])
@pytest.mark.parametrize("tcp", [True, False])
@pytest.mark.parametrize("length", [1300, 1301, 13000, 60000])
def test_a_super_packet_leaves_as_the_datagrams_the_kernel_would_have_made(
    udp_segment: bool, tcp: bool, length: int
) -> None:
    vnet, packet = super_packet(Segment(noise(length), tcp=tcp, flags=0x19), 1300)
    expected = segmented_and_forwarded(vnet, packet)
    with rig(**{**ON, "udp_segment": udp_segment}) as r:
        route_all(r)
        r.device.send(vnet + packet)
        assert r.step() == 0
        assert receive(r.peer, len(expected)) == expected
        counts = r.counts()
        assert counts["outbound_sent"] == len(expected)
        assert counts["tun_super_packets"] == 1
        fast = len(expected) if udp_segment and len(expected) > 1 else 0
        assert counts["outbound_bytes"] == sum(map(len, expected))
        # 60,000 bytes in segments of 1,300 are 46 + a rest and more than one send takes.
        assert counts.get("outbound_fast_packets", 0) == fast


def test_tiny_segments_need_many_sends_and_all_arrive() -> None:
    """A hostile or odd sender: more segments than one batch has room for."""
    vnet, packet = super_packet(Segment(noise(30000)), 40)
    expected = segmented_and_forwarded(vnet, packet)
    with rig(**ON) as r:
        route_all(r)
        r.device.send(vnet + packet)
        assert r.step(fp.OUTBOUND, 1) == fp.MORE_OUTBOUND
        first = received(r.peer)
        assert r.step(fp.OUTBOUND, 2) == 0
        assert first + received(r.peer) == expected
        assert len(first) < len(expected) == 750


def test_a_super_packet_whose_sending_is_blocked_goes_on_where_it_was() -> None:
    vnet, packet = super_packet(Segment(noise(60000)), 100)
    expected = segmented_and_forwarded(vnet, packet)
    with rig(narrow=True, **{**ON, "udp_segment": False}) as r:
        route_all(r)
        r.device.send(vnet + packet)
        assert r.step(fp.OUTBOUND, 1) == fp.BLOCKED
        r.table.publish([])
        came: list[bytes] = []
        while len(came) < len(expected):
            came += received(r.peer)
            r.step(fp.OUTBOUND, 4)
        assert came == expected
        assert r.counts()["outbound_bytes"] == sum(map(len, expected))


def test_what_was_not_cut_yet_at_the_end_is_counted() -> None:
    vnet, packet = super_packet(Segment(noise(60000)), 100)
    with rig(narrow=True, **{**ON, "udp_segment": False}) as r:
        route_all(r)
        r.device.send(vnet + packet)
        assert r.step(fp.OUTBOUND, 1) == fp.BLOCKED
        r.worker.close()
        counts = r.verdicts()
        assert counts["outbound_sent"] == len(received(r.peer))
        assert counts["outbound_sent"] + counts["outbound_queue_full"] == 600


def test_an_unfinished_checksum_is_finished() -> None:
    for tcp in (True, False):
        one = Segment(noise(77), tcp=tcp)
        vnet = Vnet(1, 0, 0, 0, 20, 16 if tcp else 6)
        packet = one.build(sums=False)
        with rig(**ON) as r:
            route_all(r)
            r.device.send(vnet.pack() + packet)
            r.step()
            assert receive(r.peer, 1) == [forwarded(finish(vnet, packet))]
            assert receive(r.peer, 0) == []


@pytest.mark.parametrize("length", [0, 1, 9, 10])
def test_read_of_no_more_than_an_offload_header_is_counted(length: int) -> None:
    with rig(**ON) as r:
        route_all(r)
        r.device.send(bytes(length))
        r.device.send(PLAIN + Segment(b"next").build())
        r.step()
        assert receive(r.peer, 1) == [forwarded(Segment(b"next").build())]
        assert r.verdicts() == {"outbound_too_short": 1, "outbound_sent": 1}


@pytest.mark.parametrize(
    "vnet",
    [
        Vnet(1, 1, 40, 0, 20, 16),
        Vnet(1, 3, 40, 1000, 20, 16),
        Vnet(1, 4, 40, 1000, 20, 16),
        Vnet(1, 0, 0, 0, 60000, 16),
        Vnet(1, 0, 0, 0, 4, 6),
    ],
    ids=["no-size", "ufo", "wrong-version", "checksum-outside", "checksum-in-ip-header"],
)
def test_an_offload_header_that_makes_no_sense_is_counted(vnet: Vnet) -> None:
    with rig(**ON) as r:
        route_all(r)
        r.device.send(vnet.pack() + Segment(noise(2000)).build(sums=False))
        r.device.send(PLAIN + Segment(b"next").build())
        r.step()
        assert receive(r.peer, 1) == [forwarded(Segment(b"next").build())]
        refused = "outbound_too_big" if vnet.gso_type == 0 else "outbound_bad_offload"
        assert r.verdicts() == {refused: 1, "outbound_sent": 1}


def test_segments_longer_than_the_peer_takes_are_refused_as_one_packet() -> None:
    vnet, packet = super_packet(Segment(noise(5000)), 1000)
    with rig(**ON) as r:
        route_all(r, mtu=1039)
        r.device.send(vnet + packet)
        r.step()
        assert r.verdicts() == {"outbound_too_big": 1}


def test_a_super_packet_without_a_route_is_answered_once() -> None:
    vnet, packet = super_packet(Segment(noise(5000)), 1000)
    with rig(**ON) as r:
        r.table.publish([])
        r.device.send(vnet + packet)
        r.step()
        assert r.verdicts() == {"outbound_no_route": 1}
        (answer,) = received(r.device)
        assert answer[:10] == PLAIN
        assert answer[10 + 28 : 10 + 28 + 20] == packet[:20]


# ---- inbound


def run_of(tcp: bool, count: int, size: int = 1000) -> list[bytes]:
    return [
        Segment(
            noise(size + i)[:size],
            tcp=tcp,
            ttl=64,
            id=100 + i,
            sequence=1000 + i * size,
        ).build()
        for i in range(count)
    ]


@pytest.mark.parametrize("tcp", [True, False])
@pytest.mark.parametrize("udp_gro", [True, False])
def test_a_run_is_written_once_as_the_packet_it_was_cut_from(tcp: bool, udp_gro: bool) -> None:
    packets = run_of(tcp, 20)
    expected = [write for write, _ in coalesce([forwarded(packet) for packet in packets])]
    assert len(expected) == 1
    with rig(udp_gro=udp_gro, **ON) as r:
        for packet in packets:
            r.send(packet)
        r.step()
        assert received(r.device) == expected
        counts = r.counts()
        assert counts["inbound_delivered"] == counts["inbound_fast_packets"] == 20
        assert counts["coalesced_super_packets"] == counts["tun_write_calls"] == 1
        assert counts["inbound_bytes"] == sum(map(len, packets))


@pytest.mark.parametrize(
    ("off", "tcp"),
    [("coalesce_tcp", True), ("coalesce_udp", False), ("both", True), ("both", False)],
)
def test_what_is_not_to_be_coalesced_is_written_packet_by_packet(off: str, tcp: bool) -> None:
    packets = run_of(tcp, 5)
    offloads = {name: on and off not in {name, "both"} for name, on in ON.items()}
    with rig(**{**offloads, "vnet_header": True}) as r:
        for packet in packets:
            r.send(packet)
        r.step()
        assert received(r.device) == [PLAIN + forwarded(packet) for packet in packets]
        assert r.counts()["inbound_plain_packets"] == 5


def test_packet_with_a_wrong_checksum_is_delivered_as_it_came() -> None:
    packets = run_of(True, 5)
    packets[2] = packets[2][:-1] + bytes([packets[2][-1] ^ 1])
    with rig(**ON) as r:
        for packet in packets:
            r.send(packet)
        r.step()
        writes = received(r.device)
        assert PLAIN + forwarded(packets[2]) in writes
        assert r.counts()["coalesce_bad_checksums"] == 1
        assert r.verdicts() == {"inbound_delivered": 5}


def test_the_next_batch_starts_a_run_of_its_own() -> None:
    packets = run_of(True, 4)
    with rig(batch=2, **ON) as r:
        for packet in packets:
            r.send(packet)
        r.step(batches=4)
        assert r.counts()["coalesced_super_packets"] == 2


def test_expired_packet_ends_no_run_and_is_answered() -> None:
    packets = run_of(False, 3)
    expired = Segment(noise(8), tcp=False, ttl=1).build()
    with rig(**ON, source_check="enforce", subnet=(bytes([10, 1, 1, 0]), 24)) as r:
        host, port = r.peer.getsockname()
        r.table.publish([(bytes([10, 1, 0, 0]), 24, socket.inet_aton(host), port, 0)])
        for packet in (*packets[:2], expired, packets[2]):
            r.send(packet)
        r.step()
        answer, write = received(r.device)
        assert answer[:10] == PLAIN
        assert answer[10 + 20] == 11
        assert len(write) > 3000
        assert r.verdicts() == {"inbound_delivered": 3, "inbound_ttl_expired": 1}


def test_flows_are_spread_over_the_queues_and_each_stays_on_its_own() -> None:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(4)]
    for pair in pairs:
        for each in pair:
            each.setblocking(False)
    with rig(**ON) as r:
        worker = fp.Worker(
            r.pump,
            roles=fp.INBOUND,
            tun_fds=[pair[1].fileno() for pair in pairs],
            udp_fd=r.udp.fileno(),
        )
        for port in range(64):
            for tcp in (True, False):
                one = Segment(noise(9), tcp=tcp, ports=(1000 + port, 80), ttl=64)
                r.send(one.build())
                worker.step(fp.INBOUND, 1)
                r.send(one.but(source=2, destination=1, ports=(80, 1000 + port)).build())
                worker.step(fp.INBOUND, 1)
        flows: list[set[bytes]] = []
        for device, _ in pairs:
            ports = [packet[10 + 20 : 10 + 24] for packet in received(device)]
            assert len(ports) > 10
            flows.append({min(port, port[2:] + port[:2]) for port in ports})
        for i, one_queue in enumerate(flows):
            for other in flows[i + 1 :]:
                assert not one_queue & other
        worker.close()
    for pair in pairs:
        for each in pair:
            each.close()


def test_the_longest_packet_of_the_tunnel_passes_both_ways() -> None:
    packet = Segment(noise(MTU - 40), ttl=64).build()
    with rig(udp_gro=True, **ON) as r:
        route_all(r)
        r.device.send(PLAIN + packet)
        r.send(packet)
        r.step()
        assert receive(r.peer, 1) == [forwarded(packet)]
        assert received(r.device) == [PLAIN + forwarded(packet)]
