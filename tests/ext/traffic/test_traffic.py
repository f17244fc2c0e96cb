"""The traffic generator: what it sends arrives, and what does not arrive intact is noticed."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from udpoverlay import _traffic
from udpoverlay._traffic import Pattern
from udpoverlay.lab.actions import links
from udpoverlay.lab.hosts import Host

HEADER = 24


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    return left, right


def udp_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def tcp() -> Iterator[Pair]:
    left, right = tcp_pair()
    with left, right:
        yield left, right


@pytest.fixture
def udp() -> Iterator[Pair]:
    """The first is connected to the second."""
    left, right = udp_socket(), udp_socket()
    left.connect(right.getsockname())
    with left, right:
        yield left, right


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


def relay(
    source: socket.socket, sink: socket.socket, change: Callable[[bytes, int], list[bytes]]
) -> threading.Thread:
    """Pass datagrams from `source` on through `sink`, each as the list that `change` makes of it.

    `change` gets the datagram and its number. Ends with the run's last datagram.
    """

    def work() -> None:
        number = 0
        while True:
            data = source.recv(65536)
            if data[8:16] == b"\xff" * 8:
                sink.send(data)
                return
            for each in change(data, number):
                sink.send(each)
            number += 1

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_stream_arrives_whole(tcp: Pair, pool: ThreadPoolExecutor) -> None:
    left, right = tcp
    received = pool.submit(Pattern(7).stream_receive, right.fileno(), 30, True)
    sent = Pattern(7).stream_send(left.fileno(), 10_000_001, 30)
    result = received.result()
    assert sent["bytes"] == result["bytes"] == 10_000_001
    assert result["corrupt"] == 0
    assert result["nanoseconds"] > 0


def test_a_stream_ends_at_its_time_limit(tcp: Pair, pool: ThreadPoolExecutor) -> None:
    left, right = tcp
    received = pool.submit(Pattern(7).stream_receive, right.fileno(), 30, False)
    sent = Pattern(7).stream_send(left.fileno(), 0, 0.05)
    assert sent["bytes"] == received.result()["bytes"] > 0
    assert sent["nanoseconds"] >= 50_000_000


@pytest.mark.parametrize("offset", [0, 1, 131_070, 131_071, 299_999])
def test_a_wrong_byte_of_a_stream_is_found_where_it_is(
    tcp: Pair, pool: ThreadPoolExecutor, offset: int
) -> None:
    left, right = tcp
    good, good_end = tcp_pair()
    with good, good_end:
        Pattern(3).stream_send(good.fileno(), 300_000, 30)
        good.close()
        with good_end.makefile("rb") as reader:
            data = bytearray(reader.read())
    assert len(data) == 300_000
    data[offset] ^= 1
    received = pool.submit(Pattern(3).stream_receive, right.fileno(), 30, True)
    left.sendall(data)
    left.shutdown(socket.SHUT_WR)
    assert received.result()["corrupt"] == offset + 1


def test_two_seeds_give_two_patterns(tcp: Pair, pool: ThreadPoolExecutor) -> None:
    left, right = tcp
    received = pool.submit(Pattern(1).stream_receive, right.fileno(), 30, True)
    Pattern(2).stream_send(left.fileno(), 1000, 30)
    assert received.result()["corrupt"] != 0


def test_a_stream_that_never_ends_times_out(tcp: Pair) -> None:
    with pytest.raises(TimeoutError):
        Pattern(1).stream_receive(tcp[1].fileno(), 0.01, True)


def test_a_reset_stream_is_an_error(tcp: Pair) -> None:
    left, right = tcp
    right.close()
    with pytest.raises(OSError, match=r"reset|pipe"):
        Pattern(1).stream_send(left.fileno(), 0, 30)


def test_ping_pong_measures_every_trip(tcp: Pair, pool: ThreadPoolExecutor) -> None:
    left, right = tcp
    pong = pool.submit(_traffic.stream_pong, right.fileno(), 64, 30)
    trips = _traffic.stream_ping(left.fileno(), 64, 0.1)
    assert trips["sent"] == trips["answered"] > 0
    assert trips["corrupt"] == 0
    assert 0 < trips["minimum"] <= trips["p50"] <= trips["p99"] <= trips["p999"]
    assert trips["p999"] <= trips["maximum"]
    assert pong.result()["bytes"] == 64 * trips["answered"]


def test_datagrams_arrive_and_are_counted(udp: Pair, pool: ThreadPoolExecutor) -> None:
    left, right = udp
    received = pool.submit(Pattern(5).datagram_receive, right.fileno(), 9, 5, 30, True)
    sent = Pattern(5).datagram_send(left.fileno(), 9, 1400, 5000, 500, 30)
    result = received.result()
    assert sent["datagrams"] == 500
    assert sent["nanoseconds"] >= 499 / 5000 * 1e9 * 0.9
    # Nothing is promised about loss; what came is right and was counted once.
    assert 0 < result["datagrams"] <= 500
    assert result["bytes"] == 1400 * result["datagrams"]
    assert (result["corrupt"], result["duplicates"], result["reordered"]) == (0, 0, 0)


def test_a_receiver_counts_what_the_network_did(udp: Pair, pool: ThreadPoolExecutor) -> None:
    left, middle = udp
    out, right = udp_socket(), udp_socket()
    out.connect(right.getsockname())
    held: list[bytes] = []

    def change(data: bytes, number: int) -> list[bytes]:
        if number == 10:
            return []  # lost
        if number == 20:
            return [data, data]
        if number == 30:
            return [data[:-1] + bytes([data[-1] ^ 1])]
        if number == 40:
            held.append(data)
            return []
        if number == 41:
            return [data, held.pop()]
        return [data]

    with out, right:
        received = pool.submit(Pattern(5).datagram_receive, right.fileno(), 1, 5, 30, True)
        thread = relay(middle, out, change)
        Pattern(5).datagram_send(left.fileno(), 1, 100, 2000, 100, 30)
        result = received.result()
        thread.join()
    assert result["datagrams"] == 99
    assert result["duplicates"] == 1
    assert result["corrupt"] == 1
    assert result["reordered"] == 1


def test_a_receiver_ends_when_nothing_more_comes(udp: Pair) -> None:
    left, right = udp
    left.send(os.urandom(100))
    result = Pattern(5).datagram_receive(right.fileno(), 1, 0.05, 0.3, True)
    assert result["datagrams"] == 0
    assert result["corrupt"] == 1


def test_datagrams_of_another_run_are_not_counted(udp: Pair, pool: ThreadPoolExecutor) -> None:
    left, right = udp
    Pattern(5).datagram_send(left.fileno(), 1, 100, 0, 10, 30)
    received = pool.submit(Pattern(5).datagram_receive, right.fileno(), 2, 5, 30, True)
    Pattern(5).datagram_send(left.fileno(), 2, 100, 0, 20, 30)
    assert received.result()["datagrams"] == 20


def test_a_window_of_datagrams_comes_back(udp: Pair, pool: ThreadPoolExecutor) -> None:
    left, right = udp
    pong = pool.submit(_traffic.datagram_pong, right.fileno(), 30)
    trips = Pattern(5).datagram_ping(left.fileno(), 1, 24, 4000, 2000, 8, 5, 30)
    assert (trips["sent"], trips["answered"], trips["corrupt"]) == (2000, 2000, 0)
    assert 0 < trips["p50"] <= trips["maximum"]
    assert pong.result()["datagrams"] == 2000


def test_lost_and_damaged_answers_are_told_apart(udp: Pair) -> None:
    left, right = udp
    back = udp_socket()
    right.connect(left.getsockname())

    def change(data: bytes, number: int) -> list[bytes]:
        if number == 3:
            return []
        if number == 5:
            return [data[:HEADER] + bytes(len(data) - HEADER)]
        if number == 7:
            return [data[:-1]]
        return [data]

    with back:
        thread = relay(right, right, change)
        trips = Pattern(5).datagram_ping(left.fileno(), 1, 100, 100, 50, 4, 0.2, 30)
        thread.join()
    assert (trips["sent"], trips["answered"], trips["corrupt"]) == (50, 49, 2)


@pytest.mark.parametrize(("least", "most", "window"), [(23, 99, 1), (99, 98, 1), (24, 65508, 1)])
def test_sizes_that_cannot_be_are_refused(udp: Pair, least: int, most: int, window: int) -> None:
    with pytest.raises(OSError, match="Invalid"):
        Pattern(5).datagram_ping(udp[0].fileno(), 1, least, most, 1, window, 1, 1)


@pytest.mark.root
def test_icmp_echo_is_answered_by_the_kernel() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.connect(("127.0.0.1", 0))
        trips = Pattern(5).icmp_ping(raw.fileno(), 0x1234, 1400, 20, 0, 5)
    assert (trips["sent"], trips["answered"], trips["corrupt"]) == (20, 20, 0)
    assert trips["p50"] > 0


@pytest.mark.root
def test_icmp_echo_counts_what_does_not_come_back() -> None:
    with Host("lonely") as host:
        host.call(links.add_bridge, name="br0")
        host.call(links.add_address, name="br0", address="198.18.0.1", prefix_len=24)
        with host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            raw.connect(("198.18.0.2", 0))
            trips = Pattern(5).icmp_ping(raw.fileno(), 0x1235, 56, 2, 0.01, 0.05)
    assert (trips["sent"], trips["answered"], trips["p50"]) == (2, 0, 0)
