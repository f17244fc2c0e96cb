"""The pump over socket pairs: what each packet meets, in both directions."""

from __future__ import annotations

import socket
from typing import Any, Literal

import pytest

from tests.support.packets import icmp, ipv4, ipv6
from tests.support.pumprig import (
    MTU,
    OWN,
    Rig,
    forwarded,
    from_peer,
    receive,
    received,
    rig,
    to_peer,
)
from tests.support.twin import icmp as twin_icmp
from udpoverlay import _fastpath as fp

SO_NO_CHECK = 11


# ---- outbound


def test_packet_of_the_device_reaches_the_peer_with_one_hop_less() -> None:
    with rig() as r:
        r.device.send(to_peer())
        assert r.step() == 0
        assert receive(r.peer, 1) == [forwarded(to_peer())]
        assert r.verdicts() == {"outbound_sent": 1}
        assert r.counts()["outbound_bytes"] == len(to_peer())


def test_the_datagram_comes_from_the_port_that_the_socket_is_bound_to() -> None:
    with rig() as r:
        r.device.send(to_peer())
        r.step()
        assert r.peer.recvfrom(2000)[1] == r.udp.getsockname()


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_many_packets_go_in_order_whatever_the_batch(batch: int) -> None:
    packets = [to_peer(bytes([i]) * (i % 7 * 10)) for i in range(100)]
    with rig(batch=batch) as r:
        for packet in packets:
            r.device.send(packet)
        assert r.step(batches=200) == 0
        assert receive(r.peer, 100) == [forwarded(packet) for packet in packets]
        assert r.verdicts() == {"outbound_sent": 100}


def test_a_step_moves_its_budget_and_says_that_more_is_there() -> None:
    with rig() as r:
        for _ in range(fp.BATCH_MAX + 10):
            r.device.send(to_peer())
        assert r.step(fp.OUTBOUND) == fp.MORE_OUTBOUND
        assert len(receive(r.peer, fp.BATCH_MAX)) == fp.BATCH_MAX
        assert r.step(fp.OUTBOUND) == 0
        assert len(receive(r.peer, 10)) == 10


def test_what_follows_the_packet_in_the_read_is_not_sent() -> None:
    with rig() as r:
        r.device.send(to_peer() + b"trailing")
        r.step()
        assert receive(r.peer, 1) == [forwarded(to_peer())]


@pytest.mark.parametrize(
    ("bad", "verdict"),
    [
        (b"", "outbound_too_short"),
        (b"\x45", "outbound_too_short"),
        (ipv6(), "outbound_wrong_version"),
        (b"\x44" + to_peer()[1:], "outbound_bad_header"),
        (b"\x4f" + to_peer()[1:], "outbound_bad_header"),
        (to_peer()[:-1], "outbound_bad_length"),
        (ipv4(b"", destination="10.6.0.1"), "outbound_no_route"),
        (to_peer(ttl=1), "outbound_ttl_expired"),
        (to_peer(ttl=0), "outbound_ttl_expired"),
        (to_peer(bytes(MTU)), "outbound_too_big"),
    ],
)
def test_a_packet_that_cannot_go_is_counted_and_the_next_one_goes(bad: bytes, verdict: str) -> None:
    with rig() as r:
        r.device.send(bad)
        r.device.send(to_peer())
        r.step()
        assert receive(r.peer, 1) == [forwarded(to_peer())]
        assert r.verdicts() == {verdict: 1, "outbound_sent": 1}


def own_datagram(r: Rig, *, port: int = 0, fragment: int = 0, options: bytes = b"") -> bytes:
    """A datagram of the pump's own socket as the host would route it into the tunnel."""
    address, own_port = r.udp.getsockname()
    ports = (port or own_port).to_bytes(2, "big") + (8285).to_bytes(2, "big")
    return ipv4(
        ports + bytes(24),
        source=address,
        destination="10.5.99.5",
        fragment=fragment,
        options=options,
    )


@pytest.mark.parametrize("more", [{}, {"options": bytes(8)}, {"fragment": 0x2000}], ids=str)
def test_own_datagram_from_the_device_is_refused(more: dict[str, Any]) -> None:
    with rig() as r:
        r.device.send(own_datagram(r, **more))
        r.step()
        assert r.verdicts() == {"outbound_own_datagram": 1}


def test_packets_that_resemble_an_own_datagram_are_sent() -> None:
    with rig() as r:
        address, port = r.udp.getsockname()
        later_fragment = own_datagram(r, fragment=1)
        other_port = own_datagram(r, port=port % 65535 + 1)
        ports = port.to_bytes(2, "big") * 2
        tcp = ipv4(ports + bytes(24), source=address, destination="10.5.99.5", protocol=6)
        no_ports = ipv4(ports[:1], source=address, destination="10.5.99.5")
        for packet in (later_fragment, other_port, tcp, no_ports):
            r.device.send(packet)
        r.step()
        assert r.verdicts() == {"outbound_sent": 4}


def test_the_lookup_comes_before_the_ttl_test() -> None:
    with rig() as r:
        r.device.send(ipv4(b"12345678", destination="10.6.0.1", ttl=1))
        r.step()
        assert r.verdicts() == {"outbound_no_route": 1}


def test_a_peer_with_a_smaller_mtu_gets_nothing_longer() -> None:
    with rig() as r:
        r.route_to(r.peer.getsockname(), mtu=100)
        r.device.send(to_peer(bytes(81)))
        r.device.send(to_peer(bytes(80)))
        r.step()
        assert [len(packet) for packet in receive(r.peer, 1)] == [100]
        assert r.verdicts() == {"outbound_too_big": 1, "outbound_sent": 1}


@pytest.mark.parametrize("udp_segment", [False, True])
def test_runs_of_equal_packets_arrive_as_the_same_packets(udp_segment: bool) -> None:
    sizes = [40] * 30 + [20] + [40] * 3 + [60] * 40 + [0, 0, 10, 5, 10]
    packets = [to_peer(bytes([i]) * size) for i, size in enumerate(sizes)]
    with rig(udp_segment=udp_segment) as r:
        for packet in packets:
            r.device.send(packet)
        r.step(batches=10)
        assert receive(r.peer, len(packets)) == [forwarded(packet) for packet in packets]
        counts = r.counts()
        assert counts["outbound_sent"] == len(packets)
        assert counts["outbound_bytes"] == sum(map(len, packets))
        assert counts.get("outbound_fast_packets", 0) == (77 if udp_segment else 0)
        assert counts["udp_send_calls"] == 2


def test_a_run_ends_where_the_peer_changes() -> None:
    with rig(udp_segment=True) as r, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.setblocking(False)
        address = socket.inet_aton("127.0.0.1")
        r.table.publish(
            [
                (socket.inet_aton("10.5.98.0"), 24, address, other.getsockname()[1], 0),
                (socket.inet_aton("10.5.99.0"), 24, address, r.peer.getsockname()[1], 0),
            ]
        )
        for host in (98, 98, 99, 99, 98):
            r.device.send(ipv4(bytes(40), destination=f"10.5.{host}.1"))
        r.step()
        assert len(receive(other, 3)) == 3
        assert len(receive(r.peer, 2)) == 2


def test_packets_to_a_peer_out_of_reach_hold_up_no_others() -> None:
    """From a loopback address no other host can be reached: the kernel refuses with EINVAL."""
    with rig() as r:
        address = socket.inet_aton("127.0.0.1")
        port = r.peer.getsockname()[1]
        r.table.publish(
            [
                (socket.inet_aton("10.5.98.0"), 24, socket.inet_aton("192.0.2.1"), 9, 0),
                (socket.inet_aton("10.5.99.0"), 24, address, port, 0),
            ]
        )
        for host in (98, 99, 98, 99):
            r.device.send(ipv4(bytes(40), destination=f"10.5.{host}.1"))
        r.step()
        assert len(receive(r.peer, 2)) == 2
        assert r.verdicts() == {"outbound_sent": 2, "outbound_send_failed": 2}
        assert r.counts()["outbound_bytes"] == 2 * 60, "of those that went alone"


def test_a_refused_run_goes_out_one_by_one_and_the_peer_is_remembered() -> None:
    """Without a UDP checksum the kernel refuses segmented sends, as on a device that has none."""
    with rig(udp_segment=True) as r:
        r.udp.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        for _ in range(2):
            for i in range(10):
                r.device.send(to_peer(bytes([i]) * 40))
            r.step(batches=4)
            assert receive(r.peer, 10) == [forwarded(to_peer(bytes([i]) * 40)) for i in range(10)]
        counts = r.counts()
        assert counts["outbound_sent"] == counts["outbound_plain_packets"] == 20
        assert counts["udp_segment_refused"] == 1


# ---- outbound, when the socket has no room


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_a_full_socket_loses_nothing_and_stops_reading_the_device(batch: int) -> None:
    packets = [to_peer(i.to_bytes(2, "big") * 100) for i in range(200)]
    with rig(narrow=True, batch=batch) as r:
        for packet in packets:
            r.device.send(packet)
        assert r.step(fp.OUTBOUND, 200) == fp.BLOCKED
        calls = r.counts()["tun_read_calls"]
        assert r.step(fp.OUTBOUND, 200) == fp.BLOCKED
        assert r.counts()["tun_read_calls"] == calls
        came: list[bytes] = []
        while len(came) < len(packets):
            fresh = received(r.peer)
            assert fresh, "blocked, but nothing was sent"
            came += fresh
            r.step(fp.OUTBOUND, 200)
        assert came == [forwarded(packet) for packet in packets]
        assert r.verdicts() == {"outbound_sent": 200}
        assert r.counts()["outbound_bytes"] == sum(map(len, packets))


def test_routes_may_be_replaced_while_packets_wait() -> None:
    with rig(narrow=True) as r:
        for i in range(100):
            r.device.send(to_peer(bytes([i]) * 200))
        assert r.step(fp.OUTBOUND, 9) == fp.BLOCKED
        r.table.publish([])
        assert r.table.collect() == 0
        came = received(r.peer)
        while r.step(fp.OUTBOUND, 9):
            came += received(r.peer)
        came += received(r.peer)
        counts = r.verdicts()
        assert len(came) == counts["outbound_sent"] >= fp.BATCH_MAX
        assert counts["outbound_sent"] + counts["outbound_no_route"] == 100


def test_what_still_waits_at_the_end_is_counted() -> None:
    with rig(narrow=True) as r:
        for _ in range(fp.BATCH_MAX):
            r.device.send(to_peer(bytes(200)))
        assert r.step(fp.OUTBOUND, 9) == fp.BLOCKED
        r.worker.close()
        counts = r.verdicts()
        assert counts["outbound_sent"] == len(received(r.peer))
        assert counts["outbound_sent"] + counts["outbound_queue_full"] == fp.BATCH_MAX


# ---- inbound


@pytest.mark.parametrize("batch", [1, 2, 64])
@pytest.mark.parametrize("udp_gro", [False, True])
def test_datagrams_reach_the_device_in_order_with_one_hop_less(batch: int, udp_gro: bool) -> None:
    packets = [from_peer(bytes([i]) * (i // 10)) for i in range(100)]
    with rig(batch=batch, udp_gro=udp_gro) as r:
        for packet in packets:
            r.send(packet)
        assert r.step(batches=200) == 0
        assert received(r.device) == [forwarded(packet) for packet in packets]
        assert r.verdicts() == {"inbound_delivered": 100}
        assert r.counts()["inbound_bytes"] == sum(map(len, packets))


@pytest.mark.parametrize(
    ("bad", "verdict"),
    [
        (b"", "inbound_too_short"),
        (from_peer()[:19], "inbound_too_short"),
        (b"\x00" * 40, "inbound_not_ip"),
        (b"\xff" * 40, "inbound_not_ip"),
        (ipv6(), "inbound_wrong_version"),
        (b"\x41" + from_peer()[1:], "inbound_bad_header"),
        (from_peer(total_length=19), "inbound_bad_length"),
        (from_peer(total_length=2000), "inbound_bad_length"),
        (from_peer(ttl=1), "inbound_ttl_expired"),
        (from_peer(bytes(MTU - 19)), "inbound_oversize"),
        (from_peer(bytes(9000)), "inbound_oversize"),
    ],
)
@pytest.mark.parametrize("udp_gro", [False, True])
def test_a_datagram_that_cannot_be_delivered_is_counted_and_the_next_one_is(
    bad: bytes, verdict: str, udp_gro: bool
) -> None:
    with rig(udp_gro=udp_gro) as r:
        r.send(bad)
        r.send(from_peer())
        r.step()
        assert received(r.device)[-1] == forwarded(from_peer())
        assert r.verdicts() == {verdict: 1, "inbound_delivered": 1}


def test_a_datagram_as_long_as_the_mtu_is_delivered_whole() -> None:
    whole = from_peer(bytes(MTU - 20))
    with rig() as r:
        r.send(whole)
        r.step()
        assert received(r.device) == [forwarded(whole)]


def test_merged_datagrams_are_taken_apart_again() -> None:
    """The kernel keeps a segmented send in one piece on loopback, for a socket with UDP_GRO."""
    packets = [from_peer(bytes([i]) * 100) for i in range(20)] + [from_peer(bytes(7))]
    with rig(udp_gro=True) as r:
        r.udp.setsockopt(fp.SOL_UDP, fp.UDP_GRO, 1)
        r.peer.setsockopt(fp.SOL_UDP, fp.UDP_SEGMENT, len(packets[0]))
        r.send(b"".join(packets))
        r.step()
        assert received(r.device) == [forwarded(packet) for packet in packets]
        assert r.counts()["udp_gro_receives"] == 1
        assert r.counts()["inbound_delivered"] == 21


def test_a_full_device_is_a_counter() -> None:
    with rig() as r:
        r.tun.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for _ in range(50):
            r.send(from_peer(bytes(1000)))
        r.step(batches=9)
        counts = r.verdicts()
        assert counts["inbound_delivered"] == len(received(r.device))
        assert counts["inbound_delivered"] + counts["inbound_queue_full"] == 50


# ---- ICMP errors


@pytest.mark.parametrize(
    ("error", "offender"),
    [
        ("net_unreachable", ipv4(b"12345678", destination="10.6.0.1")),
        ("time_exceeded", to_peer(b"12345678", ttl=1)),
    ],
)
def test_without_a_raw_socket_the_icmp_error_goes_to_the_device(
    error: Literal["net_unreachable", "time_exceeded"], offender: bytes
) -> None:
    with rig() as r:
        r.device.send(offender)
        r.step()
        assert received(r.device) == [twin_icmp.icmp_error(error, socket.inet_aton(OWN), offender)]
        assert r.counts()["icmp_to_tun"] == 1


def test_no_icmp_error_answers_an_icmp_message() -> None:
    with rig() as r:
        r.device.send(ipv4(icmp(8), protocol=1, destination="10.6.0.1"))
        r.step()
        assert received(r.device) == []
        assert r.counts()["icmp_suppressed"] == 1


def test_one_bucket_limits_all_icmp_errors_of_all_workers() -> None:
    with rig(icmp_rate=1, icmp_burst=3) as r:
        second = fp.Worker(
            r.pump, roles=fp.OUTBOUND, tun_fds=[r.tun.fileno()], udp_fd=r.udp.fileno()
        )
        for worker in (r.worker, second):
            for _ in range(5):
                r.device.send(ipv4(b"12345678", destination="10.6.0.1"))
                worker.step(fp.OUTBOUND, 1)
        assert 3 <= len(received(r.device)) <= 4
        assert second.counts()[0][fp_verdict("outbound_no_route")] == 5
        second.close()


def fp_verdict(name: str) -> int:
    return [facts[0] for facts in fp.VERDICTS].index(name)
