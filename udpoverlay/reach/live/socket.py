"""One ICMP socket towards one inner address: sends requests, collects what came back.

Owns: options, rights, the error queue. Must not know: why a request is sent.

A raw socket where we may have one (CAP_NET_RAW), else the kernel's own ping socket, for which
net.ipv4.ping_group_range must hold one of our groups (man 7 icmp). DF is always set, in the mode
in which the kernel does not believe what it learned of the path (IP_PMTUDISC_PROBE): the size is
ours to find out.
"""

from __future__ import annotations

import errno
import secrets
import select
import socket
import struct
import time
from types import TracebackType

from udpoverlay.errors import KernelError, OperatorError
from udpoverlay.reach.echo import (
    NONCE_BYTES,
    Event,
    Kind,
    answer,
    refusal,
    report,
    request,
    without_ip_header,
)

__all__ = ["EchoSocket", "open_icmp"]

# linux/in.h
_IP_RECVTTL, _IP_RECVERR, _IP_MTU_DISCOVER, _IP_MTU = 12, 11, 10, 14
_PMTUDISC_PROBE = 3
_MSG_ERRQUEUE = 0x2000
_MESSAGE, _ANCILLARY = 1 << 16, 512
_DENIED = {errno.EPERM, errno.EACCES}
_TRIES = 3
"""An error that came for an earlier request is told by the next send (man 7 ip, IP_RECVERR)."""


class EchoSocket:
    """Requests to `target` from `source` ("": the kernel chooses).

    Raises OperatorError without the right, KernelError when the kernel refuses the addresses.
    """

    def __init__(self, target: str, source: str = "") -> None:
        self.target = target
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._socket, self._raw = open_icmp()
        try:
            self._configure(source)
        except OSError as error:
            self._socket.close()
            raise KernelError(
                f"cannot send from {source or 'here'} to {target}: {error.strerror}",
                fix=f"udpoverlay explain {target}",
                errno=error.errno or 0,
            ) from error

    def _configure(self, source: str) -> None:
        sock = self._socket
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        sock.bind((source, 0))
        sock.connect((self.target, 0))
        self.source: str = sock.getsockname()[0]
        # A ping socket's port is the identifier that the kernel writes into its requests.
        self._identifier: int = secrets.randbits(16) if self._raw else sock.getsockname()[1]

    @property
    def mtu(self) -> int:
        """Of the kernel's route to the target, in bytes; also what it learned of the path."""
        return self._socket.getsockopt(socket.IPPROTO_IP, _IP_MTU)

    def send(self, sequence: int, size: int, ttl: int = 64) -> Event | None:
        """Send a packet of `size` bytes; an event when the kernel did not take it."""
        message = request(self._identifier, sequence, self._nonce, size)
        number = 0
        for _ in range(_TRIES):
            try:
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                self._socket.send(message)
            except OSError as error:
                number = error.errno or errno.EIO
                if number == errno.EMSGSIZE:
                    break
            else:
                return None
        return refusal(sequence, number, time.monotonic())

    def receive(self, until: float) -> list[Event]:
        """What came, at the latest by `until` (time.monotonic); [] when nothing did."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while True:
            found = [*self._answers(), *self._reports()]
            seconds = until - time.monotonic()
            if found or seconds <= 0:
                return found
            poll.poll(seconds * 1000)

    def _answers(self) -> list[Event]:
        found: list[Event] = []
        while True:
            try:
                data, ancillary, _, (sender, _) = self._socket.recvmsg(_MESSAGE, _ANCILLARY)
            except BlockingIOError:
                return found
            except OSError:  # of an error that the queue explains
                return found
            at = time.monotonic()
            sequence = answer(without_ip_header(data) if self._raw else data, self._nonce)
            if sequence is not None:
                found.append(Event(sequence, Kind.ANSWER, at, sender, _ttl(ancillary)))

    def _reports(self) -> list[Event]:
        found: list[Event] = []
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_MESSAGE, _ANCILLARY, _MSG_ERRQUEUE)
            except OSError:
                return found
            event = report(data, ancillary, self._identifier, time.monotonic())
            if event is not None:
                found.append(event)

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def __enter__(self) -> EchoSocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_icmp() -> tuple[socket.socket, bool]:
    """A socket for ICMP, and whether it is a raw one. Raises OperatorError, KernelError."""
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
        try:
            return socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP), kind == socket.SOCK_RAW
        except OSError as error:
            if error.errno not in _DENIED:
                raise KernelError(
                    f"no ICMP socket: {error.strerror}", errno=error.errno or 0
                ) from error
    raise OperatorError(
        "this user may send no ICMP: it needs CAP_NET_RAW, or a group in ping_group_range",
        fix="sudo, or as root: sysctl -w net.ipv4.ping_group_range='0 2147483647'",
    )


def _ttl(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, socket.IP_TTL) and len(data) >= 4:
            return int(struct.unpack_from("=i", data)[0])
    return 0
