"""The compiled data path (ext/): what may be forwarded, where to, and what is counted.

All addresses and packets are bytes in network byte order; every number is a plain int. A bad packet
is a result, never an exception; ValueError and MemoryError mean that the caller's own arguments or
this machine are at fault. The rules are in the headers of ext/, one unit each.
"""

from collections.abc import Sequence
from typing import Literal, final

from typing_extensions import Self

_Facts = tuple[str, str, str, str]
_Route = tuple[bytes, int, bytes, int, int]

VERDICTS: tuple[_Facts, ...]
"""Every fate of a packet, as (name, direction, kind, help); exactly one per packet.

`direction` is "outbound" (TUN → UDP) or "inbound" (UDP → TUN), `kind` "ok" or "drop". The position
is the number that the C code uses (ext/verdict.h).
"""

TALLIES: tuple[_Facts, ...]
"""Everything else that is counted, laid out as VERDICTS; `direction` is "" where neither fits."""

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
    carries. The header checksum is not verified (ext/packet.h).
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

    `source` is our own address on the TUN device, 4 bytes. ext/icmp.h says who is not answered.
    """

@final
class IcmpLimiter:
    """The token bucket over all ICMP errors that a tunnel originates."""

    def __init__(self, rate: int = ..., burst: int = ...) -> None:
        """At most `burst` errors (1..1,000) at once and `rate` (1..10,000) a second thereafter."""

    def take(self, now_ns: int) -> bool:
        """Whether an error may be sent now; `now_ns` is a monotonic clock in nanoseconds."""

@final
class RouteTable:
    """Subnets and the peers that hold them: longest prefix wins, tables are replaced whole.

    Any thread may call any method. A table that was replaced is freed once every worker has passed
    a batch boundary (ext/routes.h); each `publish` and `collect` tries that.
    """

    def publish(self, routes: Sequence[_Route]) -> None:
        """Replace all routes by `routes`; packets see either the old or the new table, whole.

        A route is (address, prefix length, peer address, peer port, MTU): addresses of 4 or 16
        bytes, host bits ignored; MTU is the longest inner packet in bytes, 0 for no limit. Of two
        with the same prefix the last counts. ValueError names the route that is wrong, MemoryError
        tells of too little memory or a table of more than 256 MiB; the old table then stays.
        """

    def collect(self) -> int:
        """Free what no worker can see any more; returns how many replaced tables are left."""

    def lookup(self, address: bytes) -> tuple[bytes, int, int] | None:
        """Where a packet to `address` goes: (peer address, port, MTU); None without a route."""

    def lookup_many(self, addresses: bytes, address_length: int, rounds: int = 1) -> int:
        """Look up each address of `addresses` (laid end to end) `rounds` times, without the GIL.

        For benchmarks and tests: a worker's loop without its packets. Returns how many had a route.
        """

    def __len__(self) -> int: ...
    @property
    def generation(self) -> int:
        """How often routes were published."""

    @property
    def memory(self) -> int:
        """Bytes that the current table takes."""

    @property
    def retired(self) -> int:
        """Replaced tables that are not freed yet."""

    @property
    def peers(self) -> int:
        """Distinct peer addresses (with port) that current or retired tables refer to."""

def finish_checksum(header: bytes, packet: bytes) -> bytes | None:
    """The packet read behind a vnet header (10 bytes), its checksum finished where it asks for it.

    None where the header names a place outside the packet or inside its IP header.
    """

def cut(
    header: bytes,
    packet: bytes,
    *,
    max_segments: int = ...,
    max_bytes: int = ...,
    encap: bytes = b"",
    arena_size: int = ...,
) -> list[tuple[int, list[bytes]]] | str:
    """The super-packet behind a vnet header as the datagrams that go on the wire.

    One element a send: (bytes of each datagram but the last, the datagrams). `encap` goes in front
    of each. At most `max_segments` datagrams and `max_bytes` a send; `arena_size` bytes of headers.
    A refusal is a word: "unsupported" or "malformed" (ext/offload.h), or "too_large" when not even
    one segment fits the limits.
    """

def cut_many(header: bytes, packet: bytes, rounds: int) -> int:
    """Cut the same super-packet `rounds` times without the GIL; returns how many segments it made.

    For benchmarks: what a worker does, without its sends.
    """

def fold(
    packets: Sequence[bytes], *, kinds: int = ..., max_segments: int = ...
) -> tuple[list[tuple[bytes, list[bytes]]], dict[str, int]]:
    """What one batch of packets becomes on its way to the TUN, in the order of the writes.

    A write is (vnet header and packet, the packets that are in it as they came). `kinds` is a mask:
    1 TCP over IPv4, 2 TCP over IPv6, 4 UDP over IPv4, 8 UDP over IPv6. The counts are those of
    struct fold_tally (ext/offload.h).
    """

def fold_many(packets: Sequence[bytes], rounds: int) -> int:
    """Fold the same batch `rounds` times without the GIL; returns how many writes it made.

    For benchmarks: what a worker does, without its writes.
    """

TUNGETFEATURES: int
"""ioctl numbers and flags of <linux/if_tun.h>; the numbers differ between CPU architectures."""
TUNSETOFFLOAD: int
TUN_F_CSUM: int
TUN_F_TSO4: int
TUN_F_TSO6: int
TUN_F_TSO_ECN: int
TUN_F_USO4: int
TUN_F_USO6: int
SO_RCVBUFFORCE: int
"""Socket options that Python's socket module lacks."""
SO_SNDBUFFORCE: int
SOL_UDP: int
UDP_SEGMENT: int
UDP_GRO: int

OUTBOUND: int
"""Directions of a Worker, or-ed: TUN → UDP."""
INBOUND: int
"""UDP → TUN."""
MORE_OUTBOUND: int
"""What Worker.step returns, or-ed: the budget ended, the TUN may have more."""
MORE_INBOUND: int
"""The budget ended, the UDP socket may have more."""
BLOCKED: int
"""Packets wait for room in the UDP socket: step outbound when it is writable, until then no more
is read from the TUN."""
RETRY: int
"""Packets wait for kernel memory: step outbound again in a millisecond."""
BATCH_MAX: int
"""Most packets a batch."""

@final
class Pump:
    """What all workers of a tunnel share (ext/pump.h, struct pump)."""

    def __new__(
        cls,
        routes: RouteTable,
        *,
        mtu: int,
        tun_address: bytes,
        icmp_fd: int = -1,
        batch: int = ...,
        busy_poll_us: int = 0,
        vnet_header: bool = False,
        udp_segment: bool = False,
        udp_gro: bool = False,
        icmp_rate: int = ...,
        icmp_burst: int = ...,
    ) -> Self:
        """`mtu` is the longest inner packet in bytes, `tun_address` 4 bytes, source of our ICMP.

        `icmp_fd` is a raw socket that takes whole packets, -1 for none. `batch` is 1..BATCH_MAX.
        `vnet_header` and `udp_gro` are facts about the descriptors that workers get. ValueError.
        """

@final
class Worker:
    """Moves packets between one TUN queue and one UDP socket, by run() or by step().

    Both descriptors must be non-blocking and stay open until close(); they are borrowed. run, step
    and close are for one thread at a time (RuntimeError); the rest may be called from any thread.
    """

    def __new__(cls, pump: Pump, *, roles: int, tun_fd: int, udp_fd: int) -> Self:
        """`roles`: OUTBOUND, INBOUND or both. ValueError, MemoryError, OSError."""

    def run(self) -> None:
        """Move packets until stop(), without the GIL. OSError: the device or socket is gone."""

    def step(self, directions: int, batches: int) -> int:
        """Move up to `batches` batches for each of `directions`; what is left, or-ed. OSError."""

    def stop(self) -> None:
        """Make run() return soon, now or when it is called next."""

    def close(self) -> None:
        """Free the memory; packets that wait to be sent get a last try. Idempotent."""

    def counts(self) -> tuple[list[int], list[int]]:
        """(one number for each of VERDICTS, one for each of TALLIES); also after close()."""
