"""ICMP errors that come back for our datagrams: a closed port must not look like success.

Owns: the socket that they are read from, what counts as one, counts by kind and by peer. Must not
know: what is done about a narrow path (ext/routes/path.h), how packets are sent.

They are read from a raw socket, not with IP_RECVERR on the tunnel's own: there each of them makes
the next send fail, whatever peer it is for (docs/adr/0016). Anybody can send one, so they are
counted and shown, and the one with a consequence, "fragmentation needed", costs a pause at most.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from udpoverlay import _fastpath as fp
from udpoverlay.clock import SYSTEM_CLOCK, Clock
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.report import MEANINGS, PathReport

__all__ = ["KINDS", "Reports", "open_reports", "read_report"]

_log = get_logger(__name__)

_UNREACHABLE, _TIME_EXCEEDED, _PARAMETER_PROBLEM = 3, 11, 12
"""ICMP types (RFC 792)."""
_FRAGMENTATION_NEEDED = 4
_SMALLEST_MTU = 68
"""Of IPv4 (RFC 791): for routers older than RFC 1191, which tell none."""
_CODES = {
    0: "net_unreachable",
    1: "host_unreachable",
    2: "protocol_unreachable",
    3: "port_unreachable",
    _FRAGMENTATION_NEEDED: "fragmentation_needed",
    6: "net_unreachable",
    7: "host_unreachable",
    9: "prohibited",
    10: "prohibited",
    11: "net_unreachable",
    12: "host_unreachable",
    13: "prohibited",
}
"""Codes of "destination unreachable" (RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1)."""
_OTHER = "other"
_UNKNOWN = "unknown_peer"
KINDS = (*dict.fromkeys(_CODES.values()), "time_exceeded", "parameter_problem", _OTHER)

QUIET_SECONDS = 300.0
"""After this a report is news again."""

_SOL_RAW, _ICMP_FILTER = 255, 1
"""linux/socket.h, linux/icmp.h."""
_RECEIVE_BYTES = 1 << 16
"""Of socket buffer: what a flood has more is dropped by the kernel."""
_BATCH = 64
_PAUSE_SECONDS = 0.1
"""After a full batch: what a flood of reports can make us do."""
_PEERS_MAX = 1024
"""Peers remembered; the one heard of longest ago is forgotten."""


@dataclass(frozen=True, slots=True)
class Read:
    """What one ICMP error says."""

    kind: str
    reporter: bytes
    destination: bytes
    port: int
    mtu: int
    """Of the next hop with fragmentation_needed, the smallest there is if it tells none; else 0."""


def read_report(packet: bytes) -> Read | None:
    """The report in an IPv4 packet from a raw ICMP socket; None: it is none about a UDP datagram.

    Whatever the bytes are: they come from anybody.
    """
    if len(packet) < 1:
        return None
    start = (packet[0] & 0x0F) * 4
    inner = packet[start + 8 :]
    if start < 20 or len(inner) < 28 or inner[0] != 0x45 or inner[9] != socket.IPPROTO_UDP:
        return None
    type_, code = packet[start], packet[start + 1]
    if type_ == _UNREACHABLE:
        kind = _CODES.get(code, _OTHER)
    else:
        kind = {_TIME_EXCEEDED: "time_exceeded", _PARAMETER_PROBLEM: "parameter_problem"}.get(
            type_, _OTHER
        )
    (mtu,) = struct.unpack_from("!H", packet, start + 6)
    (port,) = struct.unpack_from("!H", inner, 22)
    return Read(
        kind,
        packet[12:16],
        inner[16:20],
        port,
        max(mtu, _SMALLEST_MTU) if kind == "fragmentation_needed" else 0,
    )


def open_reports(address: str, port: int) -> socket.socket | None:
    """A raw socket with the ICMP errors about datagrams from `address` and `port`.

    None for an IPv6 address, and where the kernel gives none: a count is no reason not to start.
    It throws away what is no such error.
    """
    if ":" in address:
        return None
    try:
        return _open(address, port)
    except OSError as error:
        _log.warning(
            "ICMP errors cannot be read: a peer whose port is closed looks like one that listens",
            why=error.strerror or str(error),
            fix="give the daemon CAP_NET_RAW",
        )
        return None


def _open(address: str, port: int) -> socket.socket:
    raw = socket.socket(
        socket.AF_INET,
        socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
        socket.IPPROTO_ICMP,
    )
    try:
        # Set bits are types that are not wanted.
        wanted = 1 << _UNREACHABLE | 1 << _TIME_EXCEEDED | 1 << _PARAMETER_PROBLEM
        raw.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~wanted & 0xFFFFFFFF))
        _attach_filter(raw, socket.inet_aton(address), port)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        raw.bind((address, 0))
        while True:  # what came before the filter stood
            raw.recv(1)
    except BlockingIOError:
        return raw
    except OSError:
        raw.close()
        raise


def _attach_filter(raw: socket.socket, address: bytes, port: int) -> None:
    """Let only ICMP errors pass that quote a UDP datagram from `address` and `port`.

    Classic BPF (linux/filter.h); the packet begins with the outer IP header, the quoted one stands
    behind 8 bytes of ICMP and has no options, as our datagrams have none.
    """
    load_header_length, load_byte, load_half, load_word = 0xB1, 0x50, 0x48, 0x40
    jump_equal, accept = 0x15, 0x06
    tests = [(load_byte, 8, 0x45), (load_byte, 17, socket.IPPROTO_UDP), (load_half, 28, port)]
    if any(address):
        tests.append((load_word, 20, int.from_bytes(address, "big")))
    code = [(load_header_length, 0, 0, 0)]
    for number, (load, offset, value) in enumerate(tests):
        code.append((load, 0, 0, offset))
        code.append((jump_equal, 0, 2 * (len(tests) - number) - 1, value))
    code += [(accept, 0, 0, 0xFFFF), (accept, 0, 0, 0)]
    fp.attach_filter(raw.fileno(), b"".join(struct.pack("=HBBI", *each) for each in code))


@dataclass(slots=True)
class _Seen:
    count: int = 0
    reporter: bytes = b""
    last: float = 0.0


class Reports:
    """Reads them in the event loop, between start() and stop()."""

    def __init__(
        self,
        raw: socket.socket | None,
        hand_on: Callable[[bytes, int, int], bool],
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`hand_on` takes a peer's address, its port and an MTU (0: none); false: no such peer."""
        self._raw = raw
        self._can_read = raw is not None
        self._hand_on = hand_on
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._counters: Counter[str] = Counter()
        self._seen: dict[tuple[bytes, str], _Seen] = {}
        """In the order in which they were heard of last."""
        self._limited = RateLimited(_log, clock.monotonic)

    def counters(self) -> dict[str, int]:
        """Reports by kind since start; empty where they cannot be read (no CAP_NET_RAW)."""
        if not self._can_read:
            return {}
        return {name: self._counters[name] for name in (*KINDS, _UNKNOWN)}

    def by_peer(self) -> list[PathReport]:
        """What was reported about each peer, the latest first."""
        now = self._clock.monotonic()
        return [
            PathReport(
                peer=socket.inet_ntoa(peer),
                kind=kind,
                count=seen.count,
                reporter=socket.inet_ntoa(seen.reporter),
                seconds_ago=max(0.0, round(now - seen.last, 3)),
            )
            for (peer, kind), seen in reversed(self._seen.items())
        ]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read from here on."""
        self._loop = loop
        if self._raw is not None:
            loop.add_reader(self._raw.fileno(), self._readable)

    def stop(self) -> None:
        """Read no more, and close the socket. Idempotent."""
        loop, self._loop = self._loop, None
        raw, self._raw = self._raw, None
        if self._resume is not None:
            self._resume.cancel()
        if raw is not None:
            if loop is not None:
                loop.remove_reader(raw.fileno())
            raw.close()

    def _readable(self) -> None:
        if self._loop is None or self._raw is None:
            return
        for _ in range(_BATCH):
            try:
                packet = self._raw.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:  # of the socket, once each; the next read goes on
                self._counters[_OTHER] += 1
                return
            self._take(packet)
        self._loop.remove_reader(self._raw.fileno())
        self._resume = self._loop.call_later(_PAUSE_SECONDS, self.start, self._loop)

    def _take(self, packet: bytes) -> None:
        read = read_report(packet)
        if read is None:
            self._counters[_OTHER] += 1
            return
        if not self._hand_on(read.destination, read.port, read.mtu):
            self._counters[_UNKNOWN] += 1
            return
        self._counters[read.kind] += 1
        self._remember(read)

    def _remember(self, read: Read) -> None:
        key = read.destination, read.kind
        now = self._clock.monotonic()
        seen = self._seen.pop(key, None)
        if seen is None:
            seen = _Seen()
            if len(self._seen) >= _PEERS_MAX:
                del self._seen[next(iter(self._seen))]
        is_news = not seen.count or now - seen.last > QUIET_SECONDS
        seen.count += 1
        seen.reporter = read.reporter
        seen.last = now
        self._seen[key] = seen
        if is_news and read.kind in MEANINGS:
            self._limited.warning(
                read.kind,
                MEANINGS[read.kind],
                peer=socket.inet_ntoa(read.destination),
                port=read.port,
                reported_by=socket.inet_ntoa(read.reporter),
            )
