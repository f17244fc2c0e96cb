"""Tests between two addresses: ICMP echo, TCP, UDP; what was sent, what came, how fast.

The sockets live in the hosts' namespaces, the work is done by threads of this process in C
(udpoverlay._traffic). Owns: sockets of a test and their end, also when a test fails. Must not know:
what is between the two addresses, what a good result is.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from udpoverlay.errors import OperatorError
from udpoverlay.lab import congestion
from udpoverlay.lab.cpus import run_on, sides
from udpoverlay.lab.hosts import Host

try:
    from udpoverlay import _traffic
    from udpoverlay._traffic import Pattern
except ImportError as error:  # docs/adr/0019: not in the default wheel
    raise OperatorError(
        "this installation has no traffic generator, which lab and bench need",
        fix="run make lab in the source folder, or UDPOVERLAY_LAB=1 pip install . there",
    ) from error

if TYPE_CHECKING:
    # They exist in the stub only.
    from udpoverlay._traffic import Datagrams, Stream, Trips

__all__ = [
    "End",
    "Pair",
    "datagram_trips",
    "datagrams",
    "icmp_trips",
    "stream_trips",
    "streams",
]

_CONNECT_SECONDS = 10.0
_SLACK_SECONDS = 15.0
"""What a receiver waits longer than its sender sends: data in flight on a bad path."""
_IDLE_SECONDS = 1.0
_PATIENCE_SECONDS = 2.0
"""An echo that takes longer is lost."""
_RECEIVE_BUFFER = 4 << 20
_SO_RCVBUFFORCE = 33
"""include/uapi/asm-generic/socket.h; beyond net.core.rmem_max, for root."""
_seeds = itertools.count(int.from_bytes(os.urandom(4), "big"))
_Result = TypeVar("_Result")


class End(NamedTuple):
    """One side of a test: a host and the address in it that is bound."""

    host: Host
    address: str


@dataclass(frozen=True, slots=True)
class Pair:
    """From whom to whom."""

    client: End
    server: End
    congestion: str = ""
    """TCP's congestion control between them, "" for the machine's own."""


class _Run:
    """The sockets and threads of one test.

    The threads do not keep this process alive. However the test is left, blocked ones are woken,
    and the sockets are closed when they are not used any more.
    """

    def __init__(self, *sockets: socket.socket) -> None:
        self._sockets = sockets
        self._threads: list[threading.Thread] = []

    def start(
        self, work: Callable[[], _Result], cpus: frozenset[int] | None = None
    ) -> Future[_Result]:
        """Do `work` in a thread, kept on `cpus` if given."""
        future: Future[_Result] = Future()

        def run() -> None:
            try:
                if cpus is not None:
                    run_on(cpus)
                result = work()
            except BaseException as error:  # handed on, whatever it is
                future.set_exception(error)
            else:
                future.set_result(result)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        return future

    def __enter__(self) -> _Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._close()
            return
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        threading.Thread(target=self._close, daemon=True).start()

    def _close(self) -> None:
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()


def _tcp_pair(pair: Pair) -> tuple[socket.socket, socket.socket]:
    client, server = pair.client, pair.server
    with contextlib.ExitStack() as undo:
        listener = server.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        with listener:
            listener.settimeout(_CONNECT_SECONDS)
            congestion.apply(listener, pair.congestion)
            listener.bind((server.address, 0))
            listener.listen(1)
            near = client.host.socket(socket.AF_INET, socket.SOCK_STREAM)
            undo.callback(near.close)
            near.settimeout(_CONNECT_SECONDS)
            congestion.apply(near, pair.congestion)
            near.bind((client.address, 0))
            near.connect(listener.getsockname())
            far, _ = listener.accept()
        undo.pop_all()
    near.setblocking(True)
    far.setblocking(True)
    return near, far


def _udp_pair(pair: Pair) -> tuple[socket.socket, socket.socket]:
    """The first is connected to the second; both have room for bursts."""
    far = pair.server.host.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.bind((pair.server.address, 0))
    near = pair.client.host.socket(socket.AF_INET, socket.SOCK_DGRAM)
    near.bind((pair.client.address, 0))
    near.connect(far.getsockname())
    for each in (near, far):
        try:
            each.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    return near, far


def streams(
    pair: Pair, *, seconds: float, max_bytes: int = 0, count: int = 1, compare: bool = True
) -> list[tuple[Stream, Stream]]:
    """`count` TCP streams at once from client to server: what each sent and what arrived.

    Each ends after `seconds` or `max_bytes` (0: no limit). `compare`: every byte is checked.
    """
    sockets = [_tcp_pair(pair) for _ in range(count)]
    with _Run(*itertools.chain(*sockets)) as run:
        running = []
        pattern = Pattern(next(_seeds))
        for near, far in sockets:
            if compare:
                # Mixed up streams must be noticed. Otherwise one pattern spares the caches.
                pattern = Pattern(next(_seeds))

            def receive(pattern: Pattern = pattern, far: socket.socket = far) -> Stream:
                return pattern.stream_receive(far.fileno(), seconds + _SLACK_SECONDS, compare)

            def send(pattern: Pattern = pattern, near: socket.socket = near) -> Stream:
                return pattern.stream_send(near.fileno(), max_bytes, seconds)

            running.append((run.start(send), run.start(receive)))
        return [(sent.result(), received.result()) for sent, received in running]


def stream_trips(pair: Pair, *, size: int, seconds: float) -> Trips:
    """TCP ping-pong with messages of `size` bytes, the ends on CPUs of their own."""
    near, far = _tcp_pair(pair)
    limit = seconds + _SLACK_SECONDS
    client, server = sides()
    with _Run(near, far) as run:
        pong = run.start(lambda: _traffic.stream_pong(far.fileno(), size, limit), server)
        ping = run.start(lambda: _traffic.stream_ping(near.fileno(), size, seconds), client)
        trips = ping.result()
        pong.result()
        return trips


def datagrams(
    pair: Pair, *, size: int, seconds: float, rate: int = 0, compare: bool = False
) -> tuple[Datagrams, Datagrams]:
    """UDP one way, `size` payload bytes, `rate` a second (0: unthrottled): sent, received."""
    near, far = _udp_pair(pair)
    pattern, number = Pattern(next(_seeds)), next(_seeds) & 0xFFFFFFFF
    limit = seconds + 2 * _IDLE_SECONDS

    def receive() -> Datagrams:
        return pattern.datagram_receive(far.fileno(), number, _IDLE_SECONDS, limit, compare)

    def send() -> Datagrams:
        return pattern.datagram_send(near.fileno(), number, size, rate, 0, seconds)

    with _Run(near, far) as run:
        received = run.start(receive)
        return run.start(send).result(), received.result()


def datagram_trips(
    pair: Pair, *, sizes: tuple[int, int], count: int, window: int, seconds: float
) -> Trips:
    """UDP there and back, all compared: `count` datagrams of sizes between the two given."""
    near, far = _udp_pair(pair)
    pattern, number = Pattern(next(_seeds)), next(_seeds) & 0xFFFFFFFF

    def ping() -> Trips:
        return pattern.datagram_ping(
            near.fileno(), number, *sizes, count, window, _PATIENCE_SECONDS, seconds
        )

    with _Run(near, far) as run:
        pong = run.start(lambda: _traffic.datagram_pong(far.fileno(), seconds + _IDLE_SECONDS))
        trips = run.start(ping).result()
        pong.result()
        return trips


def icmp_trips(pair: Pair, *, size: int, count: int, pause: float) -> Trips:
    """ICMP echo with `size` payload bytes, answered by the kernel of the other host."""
    near = pair.client.host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    pattern, ident = Pattern(next(_seeds)), next(_seeds) & 0xFFFF
    with _Run(near) as run:
        near.bind((pair.client.address, 0))
        near.connect((pair.server.address, 0))
        return run.start(
            lambda: pattern.icmp_ping(near.fileno(), ident, size, count, pause, _PATIENCE_SECONDS)
        ).result()
