"""The pure units of ext/ one function at a time, for tests and benches; not loaded by the daemon.

Packets and addresses are bytes in network byte order, every number is a plain int. A bad packet is
a result, never an exception; ValueError says that the caller's own arguments are at fault. The
rules are in the headers of ext/, one unit each.
"""

from collections.abc import Sequence
from typing import Literal, final

def checksum_implementations() -> tuple[str, ...]:
    """Names of the checksum codes that this CPU can run, best first; "portable" is the last."""

def checksum(data: bytes, implementation: str = "", rounds: int = 1) -> int:
    """The internet checksum (RFC 1071) of `data`, as the number that stands in a header.

    `implementation` forces one of checksum_implementations(); "" takes the best. An odd length
    counts as if a zero byte followed.
    """

def transport_checksum(addresses: bytes, protocol: int, data: bytes) -> int:
    """The checksum of a TCP or UDP header and payload with its pseudo header.

    `addresses` is source and destination together: 8 bytes for IPv4, 32 for IPv6. The checksum
    field within `data` must be zero to compute one; with it in place a correct packet gives 0.
    """

def check(packet: bytes, ipv4: bool = True, ipv6: bool = False) -> tuple[str, int, int]:
    """Whether `packet` may be forwarded: ("ok", length, header length) or (reason, 0, 0).

    `length` is where the packet ends by its own header; bytes after it are not forwarded. Reasons:
    "too_short", "wrong_version", "bad_header", "bad_length". `ipv4` and `ipv6`: what the tunnel
    carries. The header checksum is not verified (ext/packet/packet.h).
    """

def decrease_ttl(packet: bytes) -> bytes | None:
    """The packet with one hop less and its checksum patched; None when it has none to spare.

    ValueError for a packet that does not pass check() (of either IP version).
    """

def forward_many(packets: bytes, length: int, rounds: int = 1) -> int:
    """Check each packet of `length` bytes in `packets` and take a hop from it, `rounds` times.

    For benchmarks and tests: a worker's loop without its system calls, without the GIL. Returns how
    many packets passed. The packets need 32 hops to spare.
    """

def icmp_error(
    error: Literal["net_unreachable", "time_exceeded"], source: bytes, offender: bytes
) -> bytes | None:
    """The IPv4 packet that tells the sender of `offender` about its fate, or None if none is due.

    `source` is our own address on the TUN device, 4 bytes. ext/packet/icmp.h says who
    is not answered.
    """

@final
class IcmpLimiter:
    """The token bucket over all ICMP errors that a tunnel originates."""

    def __init__(self, rate: int = ..., burst: int = ...) -> None:
        """At most `burst` errors (1..1,000) at once and `rate` (1..10,000) a second thereafter."""

    def take(self, now_ns: int) -> bool:
        """Whether an error may be sent now; `now_ns` is a monotonic clock in nanoseconds."""

def finish_checksum(header: bytes, packet: bytes) -> bytes | None:
    """The packet read behind a vnet header (10 bytes), its checksum finished where it asks for it.

    None where the header names a place outside the packet or inside its IP header.
    """

def segment(
    header: bytes,
    packet: bytes,
    *,
    max_segments: int = ...,
    max_bytes: int = ...,
    encap: bytes = b"",
    headers_size: int = ...,
) -> list[tuple[int, list[bytes]]] | str:
    """The super-packet behind a vnet header as the datagrams that go on the wire.

    One element a send: (bytes of each datagram but the last, the datagrams). `encap` goes in front
    of each. At most `max_segments` datagrams and `max_bytes` a send; `headers_size` bytes for
    headers. A refusal is a word: "unsupported" or "malformed" (ext/offload/offload.h), or
    "too_large" when not even one segment fits the limits.
    """

def segment_many(header: bytes, packet: bytes, rounds: int) -> int:
    """Segment the same super-packet `rounds` times without the GIL; returns how many segments.

    For benchmarks: what a worker does, without its sends.
    """

def coalesce(
    packets: Sequence[bytes], *, kinds: int = ..., max_segments: int = ...
) -> tuple[list[tuple[bytes, list[bytes]]], dict[str, int]]:
    """What one batch of packets becomes on its way to the TUN, in the order of the writes.

    A write is (vnet header and packet, the packets that are in it as they came). `kinds` is a mask:
    1 TCP over IPv4, 2 TCP over IPv6, 4 UDP over IPv4, 8 UDP over IPv6. The counts are those of
    struct coalesce_counters (ext/offload/offload.h).
    """

def coalesce_many(packets: Sequence[bytes], rounds: int) -> int:
    """Coalesce the same batch `rounds` times without the GIL; returns how many writes it made.

    For benchmarks: what a worker does, without its writes.
    """
