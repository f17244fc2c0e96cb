"""The lab's and the bench's traffic generator: packets moved by C with the GIL released.

All functions take the descriptor of an open, connected blocking socket that stays the caller's,
and set its timeouts. Times are seconds going in; results are dicts of the C structs of
ext/traffic/traffic.h with times in nanoseconds. A run ends at most about five seconds after its
limit.
Errors of the socket are OSError; what the network does to single packets is only counted.

Both ends of a comparing run make their Pattern from the same seed.
"""

from typing import TypedDict, final, type_check_only

@type_check_only
class Stream(TypedDict):
    """One direction of a TCP stream."""

    bytes: int
    nanoseconds: int
    """From the first byte to the last."""
    calls: int
    """System calls that moved bytes."""
    corrupt: int
    """1 + offset of the first wrong byte, 0 when all were right."""

@type_check_only
class Trips(TypedDict):
    """Round trips; the times are nanoseconds, 0 when none was answered."""

    sent: int
    answered: int
    corrupt: int
    nanoseconds: int
    p50: int
    p99: int
    p999: int
    minimum: int
    maximum: int
    mean: int

@type_check_only
class Datagrams(TypedDict):
    """One direction of a run of datagrams."""

    datagrams: int
    """Sent, or received without duplicates."""
    bytes: int
    """Of UDP payload."""
    nanoseconds: int
    """From the first datagram to the last."""
    calls: int
    corrupt: int
    duplicates: int
    reordered: int
    """Came after one that was sent later."""
    refused: int
    """Sends that the kernel refused without a buffer or a route."""

@final
class Pattern:
    """The bytes that both ends can compute from `seed` (0 … 2**64-1)."""

    def __new__(cls, seed: int) -> Pattern: ...
    def stream_send(self, fd: int, max_bytes: int, seconds: float) -> Stream:
        """Send until `max_bytes` (0: no limit) or `seconds` are reached, then shut for writing."""

    def stream_receive(self, fd: int, seconds: float, compare: bool) -> Stream:
        """Receive to the end of the stream, or to the first wrong byte when comparing.

        TimeoutError when the end has not come after `seconds`.
        """

    def datagram_send(
        self, fd: int, run: int, size: int, rate: int, datagrams: int, seconds: float
    ) -> Datagrams:
        """Send datagrams of `size` payload bytes (24 … 65507), `rate` a second (0: unthrottled).

        Ends after `datagrams` (0: no limit) or `seconds`; `run` (32 bits) tells runs apart.
        """

    def datagram_receive(
        self, fd: int, run: int, idle: float, seconds: float, compare: bool
    ) -> Datagrams:
        """Receive the datagrams of `run` until its end, or `idle` seconds after the last one."""

    def datagram_ping(
        self,
        fd: int,
        run: int,
        least: int,
        most: int,
        datagrams: int,
        window: int,
        patience: float,
        seconds: float,
    ) -> Trips:
        """Send `datagrams` of `least` … `most` bytes, `window` at a time, and compare the answers.

        One that is not back after `patience` seconds is lost.
        """

    def icmp_ping(
        self, fd: int, ident: int, size: int, count: int, pause: float, patience: float
    ) -> Trips:
        """ICMP echo over a connected raw socket: `count` requests of `size` payload bytes.

        Each is sent `pause` seconds after the last one at the earliest; `patience` as above.
        """

def stream_ping(fd: int, size: int, seconds: float) -> Trips:
    """TCP ping-pong: send `size` bytes, await as many, for `seconds`; then shut for writing."""

def stream_pong(fd: int, size: int, seconds: float) -> Stream:
    """Return pieces of `size` bytes until the other end shuts its stream."""

def datagram_pong(fd: int, seconds: float) -> Datagrams:
    """On an unconnected socket: return datagrams to their senders until a run ends."""
