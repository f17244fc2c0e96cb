"""dataplane/kernel_drops.py against the kernel's own queues."""

from __future__ import annotations

import contextlib
import socket

from udpoverlay.dataplane.kernel_drops import device_drops, socket_drops

SENT = 1000


def test_datagrams_that_found_no_room_are_counted() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        assert socket_drops(udp) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(SENT):
                sender.sendto(b"x", udp.getsockname())
        received = 0
        with contextlib.suppress(BlockingIOError):
            while udp.recv(8):
                received += 1
        assert 0 < received < SENT
        assert received + socket_drops(udp) == SENT


def test_what_cannot_be_asked_counts_nothing() -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.close()
    assert socket_drops(udp) == 0
    assert device_drops(4711) == 0
