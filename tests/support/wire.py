"""Packets by hand: pings and streams between lab hosts, and what went over the underlay."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from udpoverlay.lab.hosts import Host

ETH_P_IP = 0x0800
FLANNEL_UDP_PORT = 8285
_CHUNK = 1 << 18


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(host: Host, source: str, target: str, size: int = 56, seconds: float = 30.0) -> int | None:
    """Echo requests, one every 0.1 s, until one is answered; the TTL of the answer, else None."""
    ident, payload = random.getrandbits(16), os.urandom(size)
    deadline = time.monotonic() + seconds
    with host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.bind((source, 0))
        raw.settimeout(0.1)
        for number in range(1 << 16):
            request = struct.pack("!BBHHH", 8, 0, 0, ident, number) + payload
            request = request[:2] + struct.pack("!H", checksum(request)) + request[4:]
            if time.monotonic() > deadline:
                return None
            try:
                raw.sendto(request, (target, 0))
                ttl = _echo_reply(raw, ident, payload)
            except (TimeoutError, OSError):
                continue
            if ttl is not None:
                return ttl
    return None


def _echo_reply(raw: socket.socket, ident: int, payload: bytes) -> int | None:
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        packet = raw.recv(1 << 16)
        icmp = packet[(packet[0] & 15) * 4 :]
        if icmp[0] == 0 and icmp[4:6] == struct.pack("!H", ident):
            assert icmp[8:] == payload, "the echo came back changed"
            return packet[8]
    return None


def listen(host: Host, address: str) -> socket.socket:
    """A TCP listener in a host, on a port of the kernel's choice."""
    server = host.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind((address, 0))
    server.listen()
    return server


def transfer(
    source: tuple[Host, str],
    target: tuple[Host, str],
    size: int,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[str, str]:
    """Send `size` random bytes from one (host, address) to another over one TCP connection.

    Returns the SHA-256 of what was sent and of what was received.
    """
    received = hashlib.sha256()
    errors: list[BaseException] = []
    server = listen(*target)

    def receive() -> None:
        try:
            server.settimeout(60)
            connection, _ = server.accept()
            with connection:
                connection.settimeout(60)
                while data := connection.recv(_CHUNK):
                    received.update(data)
        except BaseException as error:  # handed to the test's own thread
            errors.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        with source[0].socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(60)
            client.bind((source[1], 0))
            client.connect(server.getsockname())
            sent = _send_random(client, size, on_progress)
    finally:
        thread.join()
        server.close()
    if errors:
        raise errors[0]
    return sent, received.hexdigest()


def _send_random(
    client: socket.socket, size: int, on_progress: Callable[[int], None] | None
) -> str:
    digest = hashlib.sha256()
    block = os.urandom(_CHUNK)
    done = 0
    while done < size:
        # Each block differs from the one before, so that a lost or doubled one cannot go unseen.
        data = (done.to_bytes(8, "big") + block)[: min(_CHUNK, size - done)]
        client.sendall(data)
        digest.update(data)
        done += len(data)
        if on_progress is not None:
            on_progress(done)
    return digest.hexdigest()


@contextmanager
def captured(host: Host, link: str = "eth0") -> Iterator[list[bytes]]:
    """IPv4 packets that arrive on a link of the host while the block runs."""
    packets: list[bytes] = []
    stop = threading.Event()
    with host.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        tap.bind((link, ETH_P_IP))
        tap.settimeout(0.05)

        def read() -> None:
            while True:
                try:
                    packets.append(tap.recv(1 << 16))
                except TimeoutError:
                    if stop.is_set():
                        return

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield packets
        finally:
            stop.set()
            thread.join()


def udp_payloads(packets: list[bytes], port: int = FLANNEL_UDP_PORT) -> list[bytes]:
    """Payloads of those unfragmented IPv4 packets that are UDP from and to `port`."""
    found = []
    for packet in packets:
        length = (packet[0] & 15) * 4
        if packet[9] == socket.IPPROTO_UDP and packet[length : length + 4] == struct.pack(
            "!HH", port, port
        ):
            found.append(packet[length + 8 :])
    return found
