"""ICMP errors as routers and hosts send them, and as a stranger forges them."""

from __future__ import annotations

import socket
import struct

from tests.support.twin.checksum import checksum

__all__ = ["icmp_error", "send_error"]

PORT = 8285


def icmp_error(
    type_: int,
    code: int,
    source: str,
    destination: str,
    *,
    rest: int = 0,
    reporter: str = "192.0.2.254",
    ports: tuple[int, int] = (PORT, PORT),
    protocol: int = 17,
) -> bytes:
    """An IPv4 packet from `reporter` about a datagram of 1,500 bytes from `source`.

    `rest` are the second 4 bytes of the ICMP header: for "fragmentation needed" the MTU.
    """
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    quoted = struct.pack("!BBHHHBBH", 0x45, 0, 1500, 0, 0x4000, 64, protocol, 0) + addresses
    quoted += struct.pack("!HHHH", *ports, 1480, 0)
    body = struct.pack("!BBHI", type_, code, 0, rest) + quoted
    body = body[:2] + checksum(body).to_bytes(2, "big") + body[4:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 1, 0)
    return head + socket.inet_aton(reporter) + socket.inet_aton(source) + body


def send_error(raw: socket.socket, packet: bytes) -> None:
    """Send such a packet to whom it is for; `raw` is a raw socket (IPPROTO_RAW)."""
    raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
