"""Sends with UDP_SEGMENT that are refused: what falls back, for how long, and for which peer."""

from __future__ import annotations

import errno
import socket

import pytest

from tests.support.calls import orders, run_with_orders
from tests.support.packets import ipv4
from tests.support.pumprig import Rig, received, rig, to_peer
from tests.support.segments import Segment, noise, super_packet
from udpoverlay import _fastpath as fp

SMALL_FIRST = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""What is freed is handed out again at once, also by calloc: a stale pointer meets a new owner."""


def send_run(r: Rig, size: int = 400, count: int = 3) -> dict[str, int]:
    """Equal packets to the peer; what was counted for them."""
    before = r.counts()
    for _ in range(count):
        r.device.send(to_peer(bytes(size)))
    while r.step(fp.OUTBOUND):
        pass
    assert len(received(r.peer)) == count, "a packet was lost"
    return {name: n - before.get(name, 0) for name, n in r.counts().items()}


def is_segmented(r: Rig, size: int = 400) -> bool:
    counted = send_run(r, size)
    assert counted["outbound_sent"] == 3
    return counted.get("outbound_fast_packets", 0) == 3


def refused_once() -> None:
    for code, cause in (
        (errno.EMSGSIZE, "MTU"),
        (errno.EINVAL, "MTU"),
        (errno.EIO, "IPsec"),
        (errno.EOPNOTSUPP, "kernel"),
    ):
        with rig(udp_segment=True) as r:
            assert is_segmented(r)
            assert r.table.fallbacks() == []
            orders().fail_segmented(code)
            assert not is_segmented(r)
            ((address, port, (offload, told, count, retry_at), _),) = r.table.fallbacks()
            assert (socket.inet_ntoa(address), port) == r.peer.getsockname()
            assert (offload, count) == ("udp-segment", 1)
            assert cause in told
            assert retry_at > 0
            assert not is_segmented(r), "tried before the pause was over"
            orders().wait(1)
            assert is_segmented(r)
            assert r.table.fallbacks()[0][2][2:] == (1, 0), "in use again"
            assert r.counts()["udp_segment_refused"] == 1


def test_peer_that_refused_once_is_back_at_full_speed_after_a_second() -> None:
    run_with_orders(refused_once)


def refused_for_long() -> None:
    with rig(udp_segment=True) as r:
        orders().fail_segmented(errno.EIO, 10)
        pause = 1
        for count in range(1, 11):
            assert not is_segmented(r)
            assert r.table.fallbacks()[0][2][2] == count
            orders().wait(pause - 1)
            assert not is_segmented(r)
            assert r.table.fallbacks()[0][2][2] == count, f"tried within {pause} s"
            orders().wait(1)
            pause = min(2 * pause, 128)
        assert is_segmented(r)


def test_peer_that_refuses_for_long_is_tried_after_pauses_that_double() -> None:
    run_with_orders(refused_for_long)


def many_messages() -> None:
    """Three runs of different sizes to one peer are three sends of one batch."""
    with rig(udp_segment=True) as r:
        orders().fail_segmented(errno.EIO, 3)
        for size in (500, 400, 300):
            for _ in range(3):
                r.device.send(to_peer(bytes(size)))
        r.step(fp.OUTBOUND)
        assert len(received(r.peer)) == 9
        assert r.counts()["udp_segment_refused"] == 3
        assert r.table.fallbacks()[0][2][2] == 1


def test_refusals_of_one_batch_are_one_fallback() -> None:
    run_with_orders(many_messages)


def too_long() -> None:
    with rig(udp_segment=True) as r:
        orders().fail_segmented(errno.EMSGSIZE)
        assert not is_segmented(r, 1000)
        assert is_segmented(r, 999)
        assert not is_segmented(r, 1001)
        assert r.counts()["udp_segment_refused"] == 1


def test_what_is_shorter_than_the_mtu_that_shrank_stays_segmented() -> None:
    run_with_orders(too_long)


def two_peers() -> None:
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.1", 0))
    with other, rig(udp_segment=True) as r:
        address = socket.inet_aton("127.0.0.1")
        routes = [
            (socket.inet_aton("10.5.98.0"), 24, address, other.getsockname()[1], 0),
            (socket.inet_aton("10.5.99.0"), 24, address, r.peer.getsockname()[1], 0),
        ]
        r.table.publish(routes)
        orders().fail_segmented(errno.EIO)
        for _ in range(3):
            r.device.send(ipv4(bytes(400), destination="10.5.98.1"))
        r.step(fp.OUTBOUND)
        assert is_segmented(r)
        assert [port for _, port, _, _ in r.table.fallbacks()] == [other.getsockname()[1]]
        r.table.publish(routes[1:])
        assert r.table.fallbacks() == [], "forgotten with its last route"


def test_peer_that_falls_back_leaves_the_others_alone() -> None:
    run_with_orders(two_peers)


def not_the_offload() -> None:
    """The datagrams are refused one by one as well: whatever it is, it is not UDP_SEGMENT."""
    with rig(udp_segment=True) as r:
        r.route_to(("192.0.2.1", 9))  # not from a loopback address: EINVAL
        for _ in range(3):
            r.device.send(to_peer(bytes(400)))
        r.step(fp.OUTBOUND)
        assert r.verdicts() == {"outbound_send_failed": 3}
        assert r.table.fallbacks() == []


def test_peer_out_of_reach_is_no_fallback() -> None:
    run_with_orders(not_the_offload)


def most_segments() -> None:
    with rig(udp_segment=True, vnet_header=True) as r:
        host, port = r.peer.getsockname()
        r.table.publish([(bytes([10, 1, 1, 0]), 24, socket.inet_aton(host), port, 0)])
        vnet, packet = super_packet(Segment(noise(50000)), 100)
        r.device.send(vnet + packet)
        while r.step(fp.OUTBOUND):
            pass
        assert r.counts()["outbound_fast_packets"] == 500
        assert orders().most_segments == 64


def test_send_has_no_more_segments_than_the_oldest_kernel_takes() -> None:
    """UDP_MAX_SEGMENTS is 64 up to Linux 6.8 and 128 from 6.9 on (include/linux/udp.h)."""
    run_with_orders(most_segments)


# ---- tables that are replaced while something waits


def replace_peer(r: Rig) -> None:
    """The peer's last route goes, with all that was known of it; then other peers come."""
    r.table.publish([])
    assert r.table.collect() == 0
    assert r.table.peers == 0
    address = socket.inet_aton("127.0.0.1")
    r.table.publish([(bytes([10, 5, i, 0]), 24, address, 1 + i, 0) for i in range(50)])


def waiting_messages() -> None:
    with rig(udp_segment=True) as r:
        for _ in range(3):
            r.device.send(to_peer(bytes(400)))
        orders().fail_send(errno.EAGAIN)
        assert r.step(fp.OUTBOUND) == fp.BLOCKED
        replace_peer(r)
        orders().fail_segmented(errno.EIO)
        r.step(fp.OUTBOUND)
        assert orders().still_to_fail() == 0
        assert len(received(r.peer)) == 3
        assert r.table.fallbacks() == [], "another peer was blamed"


def test_waiting_messages_forget_a_table_that_is_replaced() -> None:
    run_with_orders(waiting_messages, **SMALL_FIRST)


def rest_of_a_super_packet() -> None:
    with rig(udp_segment=True, vnet_header=True) as r:
        host, port = r.peer.getsockname()
        r.table.publish([(bytes([10, 1, 1, 0]), 24, socket.inet_aton(host), port, 0)])
        vnet, packet = super_packet(Segment(noise(30000)), 40)
        r.device.send(vnet + packet)
        assert r.step(fp.OUTBOUND) == fp.MORE_OUTBOUND
        replace_peer(r)
        orders().fail_segmented(errno.EIO)
        while r.step(fp.OUTBOUND):
            pass
        assert orders().still_to_fail() == 0
        assert len(received(r.peer)) == 750
        assert r.table.fallbacks() == [], "another peer was blamed"


def test_rest_of_a_super_packet_forgets_a_table_that_is_replaced() -> None:
    run_with_orders(rest_of_a_super_packet, **SMALL_FIRST)


def gone_while_blocked() -> None:
    with rig(udp_segment=True) as r:
        for _ in range(3):
            r.device.send(to_peer(bytes(400)))
        orders().fail_read(r.tun.fileno(), 3, errno.EBADFD)
        orders().fail_send(errno.EAGAIN)
        with pytest.raises(OSError, match="bad state"):
            r.step(fp.OUTBOUND)
        replace_peer(r)
        orders().fail_segmented(errno.EIO)
        r.worker.close()
        assert orders().still_to_fail() == 0
        assert len(received(r.peer)) == 3
        assert r.table.fallbacks() == [], "another peer was blamed"


def test_worker_that_ended_forgets_a_table_that_is_replaced() -> None:
    run_with_orders(gone_while_blocked, **SMALL_FIRST)
