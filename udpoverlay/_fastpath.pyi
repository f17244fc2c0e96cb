"""The compiled data path (ext/): verdicts, routes, and the workers that move packets.

All addresses and packets are bytes in network byte order; every number is a plain int. A bad packet
is a result, never an exception; ValueError and MemoryError mean that the caller's own arguments or
this machine are at fault. The rules are in the headers of ext/, one unit each.
"""

from collections.abc import Collection, Sequence
from typing import final

from typing_extensions import Self

_Facts = tuple[str, str, str, str]
_Route = tuple[bytes, int, bytes, int, int] | tuple[bytes, int, bytes, int, int, bytes]
_Fallback = tuple[str, str, int, int]
"""An offload that was refused: (offload, cause, how often, when it is tried again).

The last is in nanoseconds of the monotonic clock, 0 when the offload is in use again.
"""

VERDICTS: tuple[_Facts, ...]
"""Every fate of a packet, as (name, direction, kind, help); exactly one per packet.

`direction` is "outbound" (TUN → UDP) or "inbound" (UDP → TUN), `kind` "ok" or "drop". The position
is the number that the C code uses (ext/verdict.h).
"""

COUNTERS: tuple[_Facts, ...]
"""Everything else that is counted, laid out as VERDICTS; `direction` is "" where neither fits."""
HISTOGRAMS: tuple[_Facts, ...]
"""Of which values it is counted how large they are, laid out as VERDICTS."""

@final
class RouteTable:
    """Subnets and the peers that hold them: longest prefix wins, tables are replaced whole.

    Any thread may call any method. A table that was replaced is freed once every worker has passed
    a batch boundary (ext/routes/routes.h); each `publish` and `collect` tries that.
    """

    def publish(
        self, routes: Sequence[_Route], aliases: Collection[tuple[bytes, bytes]] = ()
    ) -> None:
        """Replace all routes by `routes`; packets see either the old or the new table, whole.

        A route is (address, prefix length, peer address, peer port, MTU, header): addresses of 4 or
        16 bytes, host bits ignored; MTU is the longest inner packet in bytes, 0 for no limit; the
        header, which may be missing, goes in front of each packet (24 bytes at most). Of two with
        the same prefix the last counts. An alias is (address, peer address): datagrams of that peer
        come from `address` too; one for an address that no peer has is ignored. ValueError names
        the route that is wrong, MemoryError tells of too little memory or a table of more than
        256 MiB; the old table then stays.
        """

    def collect(self) -> int:
        """Free what no worker can see any more; returns how many replaced tables are left."""

    def lookup(self, address: bytes) -> tuple[bytes, int, int] | None:
        """Where a packet to `address` goes: (peer address, port, MTU); None without a route."""

    def lookup_many(self, addresses: bytes, address_length: int, rounds: int = 1) -> int:
        """Look up each address of `addresses` (laid end to end) `rounds` times, without the GIL.

        For benchmarks and tests: a worker's loop without its packets. Returns how many had a route.
        """

    def fallbacks(self) -> list[tuple[bytes, int, _Fallback, int]]:
        """(peer address, port, fall-back, past) of each peer to which UDP_SEGMENT was ever refused.

        Until `past`, nanoseconds of the monotonic clock, what the kernel believes about the path's
        MTU is ignored; 0: it is not. A peer is forgotten with its last route.
        """

    def traffic(self) -> list[tuple[bytes, int, dict[int, int], int, int, int]]:
        """What the workers on this table counted of each peer, while they are open.

        (address, port, packets by index in VERDICTS, bytes of inner packets sent, bytes delivered,
        when a datagram of its came last in nanoseconds of the monotonic clock or 0). At most 16,383
        peers are counted apart (ext/routes/peer_counts.h).
        """

    def heard(self, since_ns: int) -> int:
        """How many peers sent a datagram at that time of the monotonic clock or later."""

    def path_report(self, address: bytes, port: int, mtu: int = 0) -> bool:
        """Hand on what ICMP says of datagrams to a peer: nothing longer than `mtu` bytes passes.

        `mtu` counts the IP header; 0 when it says something else. False: no route leads there.
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

def attach_filter(fd: int, instructions: bytes) -> None:
    """Let only what a classic BPF program accepts into a socket.

    `instructions` are struct sock_filter (linux/filter.h) one after the other, 8 bytes each in the
    machine's byte order. ValueError for another length or a program that the kernel refuses.
    """

def capabilities() -> tuple[int, int, int]:
    """Of this thread, each a bit by its number: (effective, permitted, inheritable)."""

def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """For this thread and those that it starts. Raises OSError."""

def drop_from_bounding_set(capability: int) -> None:
    """Take a capability, by number, from all that this thread will ever execute.

    Raises OSError: EPERM without CAP_SETPCAP, EINVAL when the kernel has no such capability.
    """

def raise_ambient(capability: int) -> None:
    """Keep a capability over execve for a user who is not root. Raises OSError.

    It must be permitted and inheritable.
    """

def set_no_new_privileges() -> None:
    """No program that this thread executes gets more rights by it. Raises OSError."""

def filter_system_calls(instructions: bytes) -> None:
    """Have the kernel run a classic BPF program before each call of every thread, for good.

    `instructions` as for attach_filter; needs set_no_new_privileges. Raises OSError: EBUSY when
    another thread has filters that this one does not have.
    """

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
SOURCE_CHECKS: dict[str, int]
"""What `source_check` of a Pump may be: off, warn, enforce (ext/worker/source_check.h)."""
PROBE_PLACES: int
"""How many probes can be awaited at a time."""
IMPAIR_PLACES_MAX: int
"""How many peers can be impaired at a time (ext/worker/impair.h)."""
IMPAIR_MILLIONTHS: int
"""Chances of an impairment are parts of this."""
IMPAIR_SECONDS: int
"""The longest impairment."""
IMPAIR_DELAY_US: int
"""The longest delay, microseconds."""
IMPAIR_RATE: int
"""The lowest limit of a rate, bits a second."""

def build_probe(source: bytes, destination: bytes, nonce: int) -> bytes:
    """An ICMP echo request between two TUN addresses (4 bytes each) that carries `nonce`.

    It is a whole inner packet, to be sent to the peer as it is (ext/packet/probe.h).
    """

@final
class Pump:
    """What all workers of a tunnel share (ext/worker/pump.h, struct pump)."""

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
        coalesce_tcp: bool = False,
        coalesce_udp: bool = False,
        path_reports: bool = False,
        icmp_rate: int = ...,
        icmp_burst: int = ...,
        source_check: str = "off",
        subnet: tuple[bytes, int] | None = None,
        own_addresses: Collection[bytes] = (),
        probe_rate: int = ...,
        probe_burst: int = ...,
        allow_impair: bool = False,
    ) -> Self:
        """`mtu` is the longest inner packet in bytes, `tun_address` 4 bytes, source of our ICMP.

        `icmp_fd` is a raw socket that takes whole packets, -1 for none. `batch` is 1..BATCH_MAX.
        `vnet_header` and `udp_gro` are facts about the descriptors that workers get; `coalesce_tcp`
        and `coalesce_udp` count only with `vnet_header`. `path_reports` says that ICMP's reports
        are handed to RouteTable.path_report. `source_check` is one of SOURCE_CHECKS; `subnet`
        is ours as (address, prefix length), `own_addresses` what else this host has: no inner
        source of a datagram. To `alarm_fd`, an eventfd, is written once after each arm().
        ValueError.
        """

    def open_probe(self, place: int, nonce: int) -> None:
        """Await a probe's `nonce` (64 bits, not 0) at a place below PROBE_PLACES. ValueError."""

    def probe_answer(self, place: int, nonce: int) -> bytes | None:
        """The address (4 or 16 bytes) that answered the probe, None when there is no answer yet."""

    def close_probe(self, place: int) -> None:
        """Await nothing more there."""

    def set_impairment(
        self,
        place: int,
        peer: bytes,
        until_ns: int,
        *,
        seed: int = 0,
        loss: int = 0,
        duplicate: int = 0,
        corrupt: int = 0,
        reorder: int = 0,
        behind_us: int = 0,
        delay_us: int = 0,
        jitter_us: int = 0,
        rate: int = 0,
    ) -> None:
        """Say what is to happen to packets for the peer with that address (4 or 16 bytes).

        The place must be free: each worker's `reclaim_impairment` says so. Workers go by it once
        it is offered to them, until `until_ns` of the monotonic clock. ext/worker/impair_rule.h has
        the units and limits; ValueError.
        """

    def end_impairment(self, place: int) -> None:
        """Let it be over: the workers notice within a tenth of a second."""

    def arm(self) -> None:
        """Make `alarm_fd` readable when a datagram is refused or a probe answered next, once."""

    @property
    def alarm_fd(self) -> int:
        """An eventfd to wait on; the pump's own."""

@final
class Recorder:
    """The last packets of up to 64 workers, in memory of a fixed size (ext/trace/).

    It outlives the workers; any thread may read while they go on.
    """

    def __new__(cls, workers: int, *, passed: int, dropped: int) -> Self:
        """Rings of `passed` and `dropped` records, powers of two, for each worker.

        ValueError, MemoryError.
        """

    @property
    def workers(self) -> int:
        """For how many workers there are rings."""

    each: bool
    """Whether each packet of those sent or written at once is recorded, and not the first alone."""

    def written(self, worker: int, dropped: bool) -> int:
        """How many records were put into a ring, ever: the number of the next. ValueError."""

    def read(
        self, worker: int, dropped: bool, start: int, most: int
    ) -> tuple[list[tuple[int, int, int, bytes, int, int, bytes]], int, int]:
        """Up to `most` records of one ring from number `start` on, the oldest first.

        (records, number to go on with, records lost in between). A record: monotonic time of
        its batch in nanoseconds; index into VERDICTS; point (0 TUN in, 1 UDP out, 2 UDP in, 3 TUN
        out); IPv4 address of the other host, zeros if it is not known; packets sent or written at
        once with it, itself included; bytes of the inner packet; its first bytes, at most 72.
        ValueError for a worker that there is not.
        """

@final
class Worker:
    """Moves packets between one TUN queue and one UDP socket, by run() or by step().

    All descriptors must be non-blocking and stay open until close(); they are borrowed. run, step
    and close are for one thread at a time (RuntimeError); the rest may be called from any thread.
    """

    def __new__(
        cls,
        pump: Pump,
        *,
        roles: int,
        tun_fds: Sequence[int],
        udp_fd: int,
        recorder: Recorder | None = None,
        number: int = 0,
    ) -> Self:
        """`roles`: OUTBOUND, INBOUND or both. ValueError, MemoryError, OSError.

        What it does is recorded in `recorder` as that of worker `number`; no other worker may do so
        at the same time.

        Packets are read from the first of the TUN's queues `tun_fds` and written to all of them,
        those of one flow always to the same.
        """

    def run(self) -> None:
        """Move packets until stop(), without the GIL. OSError: the device or socket is gone."""

    def step(self, directions: int, batches: int) -> int:
        """Move up to `batches` batches for each of `directions`; what is left, or-ed. OSError.

        For tests and benches: packets without a thread, one batch at a time.
        """

    def stop(self) -> None:
        """Make run() return soon, now or when it is called next."""

    def close(self) -> None:
        """Free the memory; packets that wait to be sent get a last try. Idempotent."""

    def offer_impairment(self, place: int) -> bool:
        """Make the worker go by what Pump.set_impairment said; MemoryError.

        False: it sends nothing, is closed, or its pump does not allow impairments.
        """

    def reclaim_impairment(self, place: int) -> bool:
        """Free what the worker used for it, if it is done with it; whether the place is free."""

    def impairment_counts(self, place: int) -> tuple[int, int, int, int, int, int, int]:
        """Packets, of these lost, corrupted, duplicated, reordered, overflowed; waiting now.

        Since it was offered. Zeros from a worker that has no part in it.
        """

    def fallbacks(self) -> list[_Fallback]:
        """What the TUN refused to take from this worker, ever; empty after close()."""

    def counts(self) -> tuple[list[int], list[int]]:
        """(one number for each of VERDICTS, one for each of COUNTERS); also after close()."""

    def histograms(self) -> list[tuple[list[int], int]]:
        """(counts, sum of the values) for each of HISTOGRAMS; also after close().

        counts[i] has the values up to 2**i and above 2**(i-1), the last one all that are larger.
        Their unit is a microsecond where the name ends in _ns, and that of the sum a nanosecond.
        """

    def times(self) -> tuple[int, int, int]:
        """Nanoseconds since run() began, of these asleep, and spinning; also after close()."""

    def refused(self) -> list[tuple[bytes, int, int, bytes, bytes, int]]:
        """Who sent what the source check refused; empty after close().

        (outer source of 4 or 16 bytes, verdict of the latest, datagrams, inner source and inner
        destination of the latest, when that was in nanoseconds of the monotonic clock). At most 256
        senders; of more, those that send steadily (ext/worker/refused.h).
        """
