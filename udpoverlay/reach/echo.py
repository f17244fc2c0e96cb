"""ICMP echo as `udpoverlay ping` and `traceroute` send it: its bytes, and what can come back.

    request   ICMP 8 │ nonce 8 │ filling      (RFC 792; the kernel puts IPv4's 20 in front)

The nonce tells our answers from those of other programs. Owns: this layout, and how the kernel
reports errors about it (linux/errqueue.h). Must not know: sockets, clocks, tunnels.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from udpoverlay.decode.checksum import internet_sum

__all__ = [
    "NONCE_BYTES",
    "SMALLEST",
    "Event",
    "Kind",
    "answer",
    "refusal",
    "report",
    "request",
    "without_ip_header",
]

IP_HEADER = 20
NONCE_BYTES = 8
SMALLEST = IP_HEADER + 8 + NONCE_BYTES
"""Bytes of the shortest packet that can be asked for."""
_ECHO = struct.Struct(">BBHHH")
_REQUEST, _REPLY = 8, 0
_UNREACHABLE, _TIME_EXCEEDED, _FRAGMENTATION_NEEDED = 3, 11, 4
# linux/errqueue.h: struct sock_extended_err, then the offender's sockaddr_in.
_ERROR = struct.Struct("=IBBBBII")
_OFFENDER = struct.Struct("=HH4s")
_ORIGIN_ICMP = 2
_AF_INET = 2
_IPPROTO_IP, _IP_RECVERR = 0, 11
_CODES = {
    0: "net unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    9: "net prohibited",
    10: "host prohibited",
    13: "prohibited by a packet filter",
}
"""Of "destination unreachable" (RFC 792, RFC 1812 section 5.2.7.1)."""


class Kind(Enum):
    """What came of a request; the value is the word in JSON."""

    ANSWER = "answer"
    TIME_EXCEEDED = "time_exceeded"
    TOO_BIG = "fragmentation_needed"
    """A router says so, with the MTU that it can take."""
    UNREACHABLE = "unreachable"
    TOO_BIG_HERE = "too_big_here"
    """This host's kernel did not take a packet so long (EMSGSIZE)."""
    REFUSED_HERE = "refused_here"
    """This host's kernel did not send it for another reason."""


@dataclass(frozen=True, slots=True)
class Event:
    """What came back for one request."""

    sequence: int
    kind: Kind
    at: float
    """When, by the clock of who asked."""
    sender: str = ""
    """Who sent it; "" for this host's kernel."""
    ttl: int = 0
    """That it arrived with; 0: not known."""
    mtu: int = 0
    """Of a Kind.TOO_BIG; 0: the router did not say (RFC 1191 section 4)."""
    words: str = ""
    """The reason of an error, for people."""


def request(identifier: int, sequence: int, nonce: bytes, size: int) -> bytes:
    """The ICMP message of a packet of `size` bytes, IPv4 header included."""
    filling = bytes(size - SMALLEST)
    message = _ECHO.pack(_REQUEST, 0, 0, identifier, sequence) + nonce + filling
    checksum = internet_sum(message) ^ 0xFFFF
    return message[:2] + checksum.to_bytes(2, "big") + message[4:]


def answer(message: bytes, nonce: bytes) -> int | None:
    """The sequence number of an ICMP message that answers a request with `nonce`, else None."""
    if len(message) < _ECHO.size + NONCE_BYTES:
        return None
    kind, code, _, _, sequence = _ECHO.unpack_from(message)
    if (kind, code) != (_REPLY, 0) or message[_ECHO.size :][:NONCE_BYTES] != nonce:
        return None
    return int(sequence)


def without_ip_header(packet: bytes) -> bytes:
    """What a raw socket received, from the ICMP header on; b"" when it is no IPv4 packet."""
    if len(packet) < IP_HEADER or packet[0] >> 4 != 4:
        return b""
    return packet[(packet[0] & 15) * 4 :]


def report(
    offender: bytes, ancillary: Iterable[tuple[int, int, bytes]], identifier: int, at: float
) -> Event | None:
    """What an entry of a socket's error queue says of a request of ours; None: of none.

    `offender` is the ICMP message that it is about, 8 bytes at least.
    """
    if len(offender) < _ECHO.size:
        return None
    kind, _, _, theirs, sequence = _ECHO.unpack_from(offender)
    if kind != _REQUEST or theirs != identifier:
        return None
    for level, name, data in ancillary:
        if (level, name) == (_IPPROTO_IP, _IP_RECVERR) and len(data) >= _ERROR.size:
            return _reported(sequence, data, at)
    return None


def _reported(sequence: int, data: bytes, at: float) -> Event:
    number, origin, icmp, code, _, info, _ = _ERROR.unpack_from(data)
    if origin != _ORIGIN_ICMP:
        return refusal(sequence, number, at, mtu=info)
    sender = _sender(data[_ERROR.size :])
    if icmp == _TIME_EXCEEDED:
        return Event(sequence, Kind.TIME_EXCEEDED, at, sender, words="time exceeded")
    if icmp == _UNREACHABLE and code == _FRAGMENTATION_NEEDED:
        words = "fragmentation needed"
        return Event(sequence, Kind.TOO_BIG, at, sender, mtu=info, words=words)
    known = _CODES.get(code) if icmp == _UNREACHABLE else None
    words = known or f"ICMP type {icmp} code {code}"
    return Event(sequence, Kind.UNREACHABLE, at, sender, words=words)


def _sender(data: bytes) -> str:
    if len(data) < _OFFENDER.size:
        return ""
    family, _, address = _OFFENDER.unpack_from(data)
    return ".".join(map(str, address)) if family == _AF_INET else ""


_REASONS = {
    errno.EPERM: "a packet filter of this host forbids it",
    errno.EACCES: "a route of this host prohibits it",
    errno.ENETUNREACH: "this host has no route to it",
    errno.EHOSTUNREACH: "this host cannot reach it",
    errno.ENETDOWN: "the device is down",
    errno.ENOBUFS: "the device's queue is full",
}


def refusal(sequence: int, number: int, at: float, mtu: int = 0) -> Event:
    """What the kernel's errno says of a request that it did not send."""
    if number == errno.EMSGSIZE:
        return Event(sequence, Kind.TOO_BIG_HERE, at, mtu=mtu, words="too big for this host")
    reason = _REASONS.get(number, errno.errorcode.get(number, f"errno {number}"))
    return Event(sequence, Kind.REFUSED_HERE, at, words=reason)
