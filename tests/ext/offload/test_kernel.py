"""Segmenting and coalescing against the kernel itself.

   write ─▶ vnet0 ─▶ the kernel forwards, and segments without offloads ─▶ vnet1 ─▶ read

gives the kernel's own segmentation of any super-packet: what ours must equal, and what must take
the super-packets that we make apart into their packets. Then two hosts with offloads on, and real
sockets:

   client ─▶ vnet0 ─ read ─▶ segment ─ wire ─ coalesce ─▶ write ─ vnet0 ─▶ server
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

import pytest

from tests.support.namespace import enter, entered_namespace, in_new_namespace
from tests.support.segments import Segment, noise, super_packet
from tests.support.vnet_tun import ALL_OFFLOADS, VnetTun, allow_forwarding, vnet_tun
from udpoverlay import _pure

pytestmark = pytest.mark.root

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
TIMESTAMPS = b"\1\1\x08\x0a" + bytes(range(8))
SUPERS = [
    base.but(payload=noise(length), flags=flags, options=options)
    for base in (Segment(), Segment(ipv6=True))
    for length, flags, options in (
        (14000, ACK, TIMESTAMPS),
        (60000, ACK | PSH, TIMESTAMPS),
        (1401, ACK | PSH | FIN, b""),
        (4200, ACK | CWR | ECE, TIMESTAMPS),
        (4199, ACK | PSH | CWR, b"\1" * 40),
        (4199, SYN | URG | RST, b""),
    )
] + [
    Segment(payload=noise(5000), ip_options=b"\1\1\1\0"),
    Segment(payload=noise(5000), id=0xFFFE, sequence=0xFFFFFF00, fragment=0, tos=2),
    Segment(ipv6=True, payload=noise(5000), extension=bytes([0, 0, 1, 4, 0, 0, 0, 0])),
    Segment(tcp=False, payload=noise(14000)),
    Segment(tcp=False, payload=noise(60001), id=0xFFFF, fragment=0),
    Segment(tcp=False, ipv6=True, payload=noise(14000)),
    Segment(tcp=False, ipv6=True, payload=noise(1401)),
]
GSO_SIZE = 1400


def without_offloads(use: Callable[[VnetTun, VnetTun], None]) -> None:
    """`use(in, out)` where the kernel forwards from `in` to `out` and has to segment."""

    def run() -> None:
        allow_forwarding()
        with (
            vnet_tun(0, [], []) as entry,
            vnet_tun(0, ["10.1.1.0/24", "fd00::/64"], []) as leave,
        ):
            use(entry, leave)

    in_new_namespace(run)


def one_hop_less(packet: bytes) -> bytes:
    hopped = _pure.decrease_ttl(packet)
    assert hopped is not None
    return hopped


def test_cut_makes_the_segments_that_the_kernel_makes() -> None:
    def use(entry: VnetTun, leave: VnetTun) -> None:
        for segment in SUPERS:
            header, packet = super_packet(segment, GSO_SIZE)
            groups = _pure.segment(header, one_hop_less(packet))
            assert not isinstance(groups, str)
            ours = [datagram for _, group in groups for datagram in group]
            entry.write(header + packet)
            theirs = [read[10:] for read in leave.read_traffic(len(ours))]
            assert ours == theirs, segment.but(payload=b"")

    without_offloads(use)


def test_the_kernel_takes_coalesced_packets_apart_into_the_originals() -> None:
    def use(entry: VnetTun, leave: VnetTun) -> None:
        for segment in SUPERS:
            header, packet = super_packet(segment, GSO_SIZE)
            groups = _pure.segment(header, packet)
            assert not isinstance(groups, str)
            originals = [datagram for _, group in groups for datagram in group]
            writes, counters = _pure.coalesce(originals)
            for written, _ in writes:
                entry.write(written)
            arrived = [read[10:] for read in leave.read_traffic(len(originals))]
            assert arrived == [one_hop_less(original) for original in originals]
            kept_apart = segment.ip_options or segment.extension or segment.flags & (SYN | FIN)
            assert (counters["supers"] == 0) == bool(kept_apart)

    without_offloads(use)


def test_a_plain_packet_is_finished_as_the_kernel_finishes_it() -> None:
    def use(entry: VnetTun, leave: VnetTun) -> None:
        for base in (
            Segment(),
            Segment(tcp=False),
            Segment(ipv6=True),
            Segment(tcp=False, ipv6=True),
        ):
            segment = base.but(payload=noise(777))
            header, packet = super_packet(segment, 1)
            plain = struct.pack("=BB", 1, 0) + header[2:4] + b"\0\0" + header[6:]
            entry.write(plain + packet)
            (read,) = leave.read_traffic(1)
            assert read[10:] == _pure.finish_checksum(plain, one_hop_less(packet))

    without_offloads(use)


# ---- two hosts


class Link:
    """Carries packets between two devices with offloads, as a tunnel would."""

    def __init__(self, left: VnetTun, right: VnetTun) -> None:
        self.supers_read = 0
        self.supers_written = 0
        self.longest_datagram = 0
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._carry, args=ends)
            for ends in ((left, right), (right, left))
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _carry(self, source: VnetTun, sink: VnetTun) -> None:
        try:
            while not self._stop.is_set():
                read = source.read(timeout=0.05)
                if read is None:
                    continue
                wire = self._segment(read[:10], read[10:])
                self.longest_datagram = max(self.longest_datagram, *map(len, wire))
                writes, counters = _pure.coalesce(wire)
                self.supers_written += counters["supers"]
                for written, _ in writes:
                    sink.write(written)
        except BaseException as error:  # shown by close()
            self._errors.append(error)

    def _segment(self, header: bytes, packet: bytes) -> list[bytes]:
        if header[1] == 0:
            finished = _pure.finish_checksum(header, packet)
            assert finished is not None
            return [finished]
        groups = _pure.segment(header, packet)
        assert not isinstance(groups, str), groups
        self.supers_read += 1
        return [datagram for _, group in groups for datagram in group]


def two_hosts(use: Callable[[Link, Callable[..., socket.socket]], None]) -> None:
    """`use(link, socket_on)`; `socket_on(host, …)` is a socket on host 0 or 1.

    Host 0 is 10.9.0.1 and fd09::1, host 1 is 10.9.1.1 and fd09:1::1.
    """
    near = (["10.9.1.0/24", "fd09:1::/64"], ["10.9.0.1", "fd09::1"])
    far = (["10.9.0.0/24", "fd09::/64"], ["10.9.1.1", "fd09:1::1"])

    def run() -> None:
        with (
            entered_namespace() as far_side,
            vnet_tun(ALL_OFFLOADS, *far) as far_device,
            entered_namespace() as near_side,
            vnet_tun(ALL_OFFLOADS, *near) as near_device,
        ):

            def socket_on(host: int, family: int, kind: int) -> socket.socket:
                """A socket belongs to the namespace in which it is made."""
                enter(near_side if host == 0 else far_side)
                return socket.socket(family, kind)

            link = Link(near_device, far_device)
            try:
                use(link, socket_on)
            finally:
                link.close()

    in_new_namespace(run)


FAMILIES = [(socket.AF_INET, "10.9.1.1"), (socket.AF_INET6, "fd09:1::1")]
each_family = pytest.mark.parametrize(("family", "address"), FAMILIES, ids=["ipv4", "ipv6"])


@each_family
def test_a_tcp_stream_arrives_whole_through_segment_and_coalesce(family: int, address: str) -> None:
    data = noise(4_000_000)

    def use(link: Link, socket_on: Callable[..., socket.socket]) -> None:
        with (
            socket_on(1, family, socket.SOCK_STREAM) as listener,
            socket_on(0, family, socket.SOCK_STREAM) as client,
        ):
            for each in (listener, client):
                each.settimeout(60)
            listener.bind((address, 5201))
            listener.listen()
            client.connect((address, 5201))
            server, _ = listener.accept()
            server.settimeout(60)
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            received = bytearray()
            while len(received) < len(data):
                piece = server.recv(1 << 20)
                assert piece, "the stream ended early"
                received += piece
            sender.join()
            server.close()
        assert received == data
        assert link.supers_read > 10
        assert link.supers_written > 10
        assert link.longest_datagram <= 1500

    two_hosts(use)


@each_family
def test_a_segmented_udp_send_arrives_datagram_by_datagram(family: int, address: str) -> None:
    """Sent with UDP_SEGMENT, which the kernel hands to the device whole (USO)."""
    udp_segment = 103
    data = noise(20_500)

    def use(link: Link, socket_on: Callable[..., socket.socket]) -> None:
        with (
            socket_on(1, family, socket.SOCK_DGRAM) as server,
            socket_on(0, family, socket.SOCK_DGRAM) as client,
        ):
            server.settimeout(60)
            server.bind((address, 5201))
            client.connect((address, 5201))
            client.setsockopt(socket.IPPROTO_UDP, udp_segment, 1000)
            client.send(data)
            received = [server.recv(65536) for _ in range(21)]
        assert [len(each) for each in received] == [1000] * 20 + [500]
        assert b"".join(received) == data
        assert (link.supers_read, link.supers_written) == (1, 1)

    two_hosts(use)


def test_a_damaged_datagram_in_a_coalesced_batch_is_lost_alone() -> None:
    """The kernel's own check must still see it."""

    def use() -> None:
        with (
            vnet_tun(ALL_OFFLOADS, ["10.1.0.0/24"], ["10.1.1.2"]) as device,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        ):
            server.settimeout(60)
            server.bind(("10.1.1.2", 5201))
            run = [
                Segment(tcp=False, payload=bytes([index]) * 100, id=index) for index in range(20)
            ]
            packets = [each.build() for each in run]
            packets[7] = packets[7][:-1] + b"\xff"
            writes, _ = _pure.coalesce(packets)
            assert [len(originals) for _, originals in writes] == [7, 1, 12]
            for written, _ in writes:
                device.write(written)
            received = [server.recv(1000)[0] for _ in range(19)]
            assert received == [index for index in range(20) if index != 7]

    in_new_namespace(use)
