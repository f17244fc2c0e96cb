"""Traffic between the hosts of an overlay whose every byte is checked."""

from __future__ import annotations

import hashlib
import os
import socket
import threading

from tests.support.engines import Host
from udpoverlay import _fastpath as fp

__all__ = ["tcp_stream", "udp_datagrams", "udp_segmented"]


def tcp_stream(sender: Host, receiver: Host, megabytes: int) -> None:
    """One TCP connection from `sender` to `receiver` whose bytes arrive as they were sent."""
    block = os.urandom(1 << 20)
    expected = hashlib.sha256(block * megabytes).hexdigest()
    with receiver.socket(socket.SOCK_STREAM) as server:
        server.listen()
        with sender.socket(socket.SOCK_STREAM) as client:
            client.connect(server.getsockname())
            accepted, _ = server.accept()

            def send() -> None:
                for _ in range(megabytes):
                    client.sendall(block)
                client.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=send)
            thread.start()
            found = hashlib.sha256()
            with accepted:
                accepted.settimeout(30)
                while piece := accepted.recv(1 << 20):
                    found.update(piece)
            thread.join()
    assert found.hexdigest() == expected


def udp_datagrams(sender: Host, receiver: Host, sizes: tuple[int, ...]) -> None:
    """Datagrams of `sizes` bytes, those beyond the MTU in fragments, one after the other."""
    with sender.socket() as left, receiver.socket() as right:
        for size in sizes:
            payload = os.urandom(size)
            left.sendto(payload, right.getsockname())
            assert right.recvfrom(65536) == (payload, left.getsockname())


def udp_segmented(sender: Host, receiver: Host, size: int, count: int) -> None:
    """A program that sends many datagrams in one call (UDP_SEGMENT), as QUIC does."""
    payload = os.urandom(size * count)
    with sender.socket() as left, receiver.socket() as right:
        left.setsockopt(fp.SOL_UDP, fp.UDP_SEGMENT, size)
        left.sendto(payload, right.getsockname())
        assert b"".join(right.recv(65536) for _ in range(count)) == payload
