"""Asks a peer: in UDP, in any shape, or with a ping through the tunnel. Bounded in time.

Owns: sockets, repetitions, what an ICMP error says of who sent it. Must not know: what an outcome
means.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from netaddr import IPAddress

from udpoverlay.doctor.facts import shapes

__all__ = ["Outcome", "ask", "ping"]

TRIES = 4
PAUSE_SECONDS = 0.4
"""One lost datagram means nothing."""
_IP_RECVERR = 11
_IP_MTU_DISCOVER, _PMTUDISC_DO = 10, 2
_MSG_ERRQUEUE = 0x2000
# linux/in.h, linux/socket.h; linux/errqueue.h: struct sock_extended_err, then the offender.
_ERROR = struct.Struct("=IBBBBII")
_OFFENDER = struct.Struct("=HH4s")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a question."""

    seconds: float | None = None
    """Until the answer; None: there was none."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What `doctor --listen` said of itself."""
    error: int = 0
    """errno of the ICMP error that came back, or of the sending itself."""
    reporter: str = ""
    """Who sent that error, "" for this host itself."""

    @property
    def answered(self) -> bool:
        """Whether the peer answered."""
        return self.seconds is not None

    @property
    def refused(self) -> bool:
        """Whether it arrived, where nothing listens."""
        return self.error == errno.ECONNREFUSED


async def ask(
    made: Callable[[int], bytes],
    target: tuple[str, int],
    bind: tuple[str, int] | None = None,
) -> Outcome:
    """Send what `made(nonce)` makes; from `bind`, or from any free port."""
    nonce = secrets.randbits(63) + 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        try:
            if bind is not None:
                sock.bind(bind)
            sock.connect(target)
        except OSError as error:
            return Outcome(error=error.errno or errno.EIO)
        return await _exchange(sock, lambda: sock.send(made(nonce)), nonce)


async def ping(source: str, target: str, length: int) -> Outcome:
    """An echo of `length` bytes, IP header and all, unfragmented. Needs CAP_NET_RAW."""
    nonce = secrets.randbits(63) + 1
    made = shapes.question(IPAddress(source), IPAddress(target), nonce, length)[20:]
    try:
        sock = socket.socket(
            socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP
        )
    except OSError as error:
        return Outcome(error=error.errno or errno.EIO)
    with sock:
        try:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
            sock.bind((source, 0))
            sock.connect((target, 0))
        except OSError as error:
            return Outcome(error=error.errno or errno.EIO)
        return await _exchange(sock, lambda: sock.send(made), nonce)


async def _exchange(sock: socket.socket, send: Callable[[], int], nonce: int) -> Outcome:
    failed = Outcome()
    for _ in range(TRIES):
        begun = time.monotonic()
        try:
            send()
        except OSError as error:
            failed = _reported(sock, error)
        try:
            return await asyncio.wait_for(_answer(sock, nonce, begun), PAUSE_SECONDS)
        except asyncio.TimeoutError:
            continue
        except OSError as error:
            failed = _reported(sock, error)
            if failed.refused:
                return failed
    return failed


async def _answer(sock: socket.socket, nonce: int, begun: float) -> Outcome:
    loop = asyncio.get_running_loop()
    while True:
        data = await loop.sock_recv(sock, 1 << 16)
        probe = shapes.read(data)
        if probe is not None and probe.is_answer and probe.nonce == nonce:
            return Outcome(time.monotonic() - begun, probe.facts)


def _reported(sock: socket.socket, error: OSError) -> Outcome:
    """The error with the address of who reported it, from the socket's error queue."""
    reporter = ""
    try:
        _, ancillary, _, _ = sock.recvmsg(1 << 16, 512, _MSG_ERRQUEUE)
    except OSError:
        ancillary = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_RECVERR) and len(data) >= 24:
            family, _, address = _OFFENDER.unpack_from(data, _ERROR.size)
            if family == socket.AF_INET:
                reporter = socket.inet_ntoa(address)
    return Outcome(error=error.errno or errno.EIO, reporter=reporter)
