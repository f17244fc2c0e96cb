# SPDX-License-Identifier: Apache-2.0
# cython: auto_pickle=False, autotestdict=False
"""The compiled data path: checks, checksums, ICMP errors and routes (documented in _fastpath.pyi).

Thin on purpose: values in, values out. Every rule is in the C unit that the call goes to.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport E2BIG, EINVAL, ENOMEM, EOPNOTSUPP
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from posix.stdlib cimport posix_memalign

from fastpath cimport *

import os


cdef int _check(int rc) except -1:
    """The one place where -errno becomes an exception."""
    if rc >= 0:
        return 0
    if rc == -ENOMEM:
        raise MemoryError
    if rc == -E2BIG:
        raise MemoryError(f"routes would take more than {ROUTES_MEMORY_MAX >> 20} MiB")
    if rc == -EINVAL:
        raise ValueError(os.strerror(-rc))
    raise OSError(-rc, os.strerror(-rc))


# ---- verdict.h


cdef dict _DIRECTIONS = {
    <int>DIRECTION_OUTBOUND: "outbound",
    <int>DIRECTION_INBOUND: "inbound",
    <int>DIRECTION_NONE: "",
}


cdef tuple _facts(const verdict_facts_t *facts):
    return (
        facts.name.decode().lower(),
        _DIRECTIONS[<int>facts.direction],
        "ok" if facts.kind == VERDICT_KIND_OK else "drop",
        facts.help.decode(),
    )


VERDICTS = tuple([_facts(&verdict_facts[i]) for i in range(VERDICT_COUNT)])
TALLIES = tuple([_facts(&tally_facts[i]) for i in range(TALLY_COUNT)])


# ---- checksum.h


def checksum_implementations():
    cdef const checksum_implementation *each = c_checksum_implementations()
    names = []
    while each.name != NULL:
        names.append(each.name.decode())
        each += 1
    return tuple(names)


cdef const checksum_implementation *_named(str name) except NULL:
    cdef const checksum_implementation *each = c_checksum_implementations()
    while each.name != NULL:
        if not name or each.name.decode() == name:
            return each
        each += 1
    raise ValueError(
        f"checksum implementation {name!r} is not one of {', '.join(checksum_implementations())}"
    )


cdef int _network(uint16_t memory_order):
    cdef const uint8_t *bytes = <const uint8_t *>&memory_order
    return bytes[0] << 8 | bytes[1]


def checksum(bytes data not None, str implementation not None="", size_t rounds=1):
    cdef const checksum_implementation *chosen = _named(implementation)
    cdef const uint8_t *start = data
    cdef size_t length = len(data)
    cdef size_t turn
    cdef uint32_t sum = 0
    with nogil:
        for turn in range(rounds):
            sum = chosen.add(0, start, length)
    return _network(checksum_finish(sum))


def transport_checksum(bytes addresses not None, int protocol, bytes data not None):
    if len(addresses) not in (8, 32):
        raise ValueError(f"source and destination take 8 or 32 bytes, not {len(addresses)}")
    cdef const uint8_t *start = data
    cdef uint32_t sum = checksum_pseudo(addresses, len(addresses), protocol, len(data))
    return _network(checksum_finish(_named("").add(sum, start, len(data))))


# ---- packet.h


cdef packet_check_t _parse(bytes data, packet_t *parsed):
    return packet_check(data, len(data), PACKET_IPV4 | PACKET_IPV6, parsed)


cdef int _must_parse(bytes data, packet_t *parsed) except -1:
    if _parse(data, parsed) != PACKET_OK:
        raise ValueError("not a packet that passes check()")
    return 0


def check(bytes packet not None, bint ipv4=True, bint ipv6=False):
    cdef packet_t parsed
    cdef unsigned families = (PACKET_IPV4 if ipv4 else 0) | (PACKET_IPV6 if ipv6 else 0)
    cdef packet_check_t result = packet_check(packet, len(packet), families, &parsed)
    if result == PACKET_OK:
        return "ok", parsed.length, parsed.header_length
    cdef verdict refusal = packet_refusal(DIRECTION_OUTBOUND, result)
    return VERDICTS[refusal][0].removeprefix("outbound_"), 0, 0


def decrease_ttl(bytes packet not None):
    cdef packet_t parsed
    _must_parse(packet, &parsed)
    cdef bytes patched = PyBytes_FromStringAndSize(<const char *>packet, len(packet))
    return patched if packet_decrease_ttl(<uint8_t *><char *>patched, &parsed) else None


def forward_many(bytes packets not None, size_t length, size_t rounds=1):
    cdef size_t count = len(packets) // length, passed = 0, turn, i
    cdef bytes working = PyBytes_FromStringAndSize(NULL, len(packets))
    cdef uint8_t *start = <uint8_t *><char *>working
    cdef const uint8_t *fresh = packets
    cdef packet_t parsed
    if length == 0 or length > <size_t>len(packets):
        raise ValueError(f"packets of {length} bytes in {len(packets)}")
    with nogil:
        for turn in range(rounds):
            if turn % 32 == 0:  # hops enough for some rounds
                memcpy(start, fresh, count * length)
            for i in range(count):
                if packet_check(start + i * length, length, PACKET_IPV4, &parsed) == PACKET_OK:
                    passed += packet_decrease_ttl(start + i * length, &parsed)
    return passed


# ---- icmp.h


cdef dict _ERRORS = {
    "net_unreachable": <int>ICMP_ERROR_NET_UNREACHABLE,
    "time_exceeded": <int>ICMP_ERROR_TIME_EXCEEDED,
}


def icmp_error(str error not None, bytes source not None, bytes offender not None):
    cdef packet_t parsed
    cdef uint8_t out[96]
    if error not in _ERRORS:
        raise ValueError(f"ICMP error {error!r} is not one of {', '.join(_ERRORS)}")
    if len(source) != 4:
        raise ValueError(f"an IPv4 source takes 4 bytes, not {len(source)}")
    _must_parse(offender, &parsed)
    cdef size_t length = icmp_error_build(
        out, <icmp_error_t><int>_ERRORS[error], source, offender, &parsed
    )
    return out[:length] if length else None


@cython.final
cdef class IcmpLimiter:
    cdef icmp_limiter limiter

    def __init__(self, uint32_t rate=ICMP_RATE_DEFAULT, uint32_t burst=ICMP_BURST_DEFAULT):
        if icmp_limiter_init(&self.limiter, rate, burst) < 0:
            raise ValueError(
                f"rate {rate} must be within 1..10000 a second, burst {burst} within 1..1000"
            )

    def take(self, uint64_t now_ns):
        return bool(icmp_limiter_take(&self.limiter, now_ns))


# ---- routes.h


cdef int _read_route(object item, route *to) except -1:
    cdef bytes address, endpoint_address
    cdef unsigned length, mtu
    cdef uint16_t port
    address, length, endpoint_address, port, mtu = item
    if len(address) not in (4, 16) or length > 8 * <unsigned>len(address):
        raise ValueError(f"route {item!r}: not an IPv4 or IPv6 prefix")
    memcpy(to.address, <const uint8_t *>address, len(address))
    to.version = 4 if len(address) == 4 else 6
    to.length = length
    to.mtu = mtu
    if endpoint_set(&to.endpoint, endpoint_address, len(endpoint_address), port) < 0:
        raise ValueError(f"route {item!r}: the peer's address takes 4 or 16 bytes")
    return 0


cdef unsigned _version(Py_ssize_t length) except 0:
    if length == 4:
        return 4
    if length == 16:
        return 6
    raise ValueError(f"an address takes 4 or 16 bytes, not {length}")


@cython.final
cdef class RouteTable:
    cdef route_slot *slot  # on the heap, aligned to cache lines; valid as long as this object

    def __cinit__(self):
        cdef int rc
        if posix_memalign(<void **>&self.slot, 64, sizeof(route_slot)) != 0:
            self.slot = NULL
            raise MemoryError
        rc = route_slot_init(self.slot)
        if rc < 0:
            free(self.slot)
            self.slot = NULL
            _check(rc)

    def __dealloc__(self):
        if self.slot != NULL:
            route_slot_destroy(self.slot)
            free(self.slot)

    def publish(self, routes):
        cdef size_t count = len(routes), i = 0
        cdef int rc
        cdef route *flat = <route *>calloc(count or 1, sizeof(route))
        if flat == NULL:
            raise MemoryError
        try:
            for item in routes:
                if i == count:
                    raise ValueError("routes changed while they were published")
                _read_route(item, &flat[i])
                i += 1
            with nogil:
                rc = routes_publish(self.slot, flat, i, &encap_udp)
        finally:
            free(flat)
        _check(rc)

    def collect(self):
        cdef size_t left
        with nogil:
            left = routes_collect(self.slot)
        return left

    def lookup(self, bytes address not None):
        cdef nexthop found
        cdef uint8_t peer_address[16]
        cdef uint16_t port
        cdef size_t length
        if not routes_find(self.slot, _version(len(address)), address, &found):
            return None
        length = endpoint_get(&found.endpoint, peer_address, &port)
        return peer_address[:length], port, found.mtu

    def lookup_many(self, bytes addresses not None, size_t address_length, size_t rounds=1):
        cdef unsigned version = _version(address_length)
        cdef const uint8_t *start = addresses
        cdef size_t count = len(addresses) // address_length, hits = 0, i
        cdef const route_table *table
        cdef route_reader reader
        with nogil:
            route_reader_add(self.slot, &reader)
            route_reader_online(&reader)
            for _ in range(rounds):
                route_reader_pass(&reader)
                table = routes_current(self.slot)
                for i in range(count):
                    hits += routes_lookup(table, version, start + i * address_length) != NULL
            route_reader_offline(&reader)
            route_reader_remove(&reader)
        return hits

    cdef route_facts _read_facts(self):
        cdef route_facts facts
        with nogil:
            routes_facts(self.slot, &facts)
        return facts

    def __len__(self):
        return self._read_facts().routes

    @property
    def generation(self):
        return self._read_facts().generation

    @property
    def memory(self):
        return self._read_facts().memory

    @property
    def retired(self):
        return self._read_facts().retired

    @property
    def peers(self):
        return self._read_facts().peers


# ---- offload.h


cdef int _load_vnet(bytes header, vnet *loaded) except -1:
    if len(header) != VNET_HEADER_LENGTH:
        raise ValueError(f"a vnet header takes {VNET_HEADER_LENGTH} bytes, not {len(header)}")
    vnet_load(loaded, header)
    return 0


cdef bytes _copy(bytes data):
    return PyBytes_FromStringAndSize(<const char *>data, len(data))


cdef bytes _gather(const iovec *iov, unsigned count):
    return b"".join([(<char *>iov[i].iov_base)[:iov[i].iov_len] for i in range(count)])


def finish_checksum(bytes header not None, bytes packet not None):
    cdef vnet loaded
    _load_vnet(header, &loaded)
    cdef bytes patched = _copy(packet)
    cdef uint8_t *start = <uint8_t *><char *>patched
    return None if vnet_finish_checksum(&loaded, start, len(patched)) < 0 else patched


@cython.final
cdef class _Cutter:
    """Memory and limits of one cut."""
    cdef cut_limits limits
    cdef cut_space space
    cdef cut_t cut
    cdef vnet header
    cdef bytes encap, packet
    cdef uint8_t *start
    cdef size_t length

    def __cinit__(self, bytes header, bytes packet, unsigned max_segments, size_t max_bytes,
                  bytes encap, size_t arena_size):
        _load_vnet(header, &self.header)
        self.encap, self.packet = encap, packet
        self.start, self.length = <uint8_t *><char *>self.packet, len(packet)
        self.limits.segments, self.limits.bytes = max_segments, max_bytes
        self.limits.encap, self.limits.encap_length = encap, len(encap)
        self.space.arena_size, self.space.iov_size = arena_size, 2 * max_segments
        self.space.arena = <uint8_t *>calloc(arena_size or 1, 1)
        self.space.iov = <iovec *>calloc(self.space.iov_size or 1, sizeof(iovec))
        if self.space.arena == NULL or self.space.iov == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.space.arena)
        free(self.space.iov)

    cdef int begin(self) noexcept nogil:
        return cut_begin(&self.cut, &self.header, self.start, self.length)


def cut(bytes header not None, bytes packet not None, *, unsigned max_segments=CUT_MAX_SEGMENTS,
        size_t max_bytes=CUT_MAX_BYTES, bytes encap not None=b"",
        size_t arena_size=CUT_ARENA_SIZE):
    cdef _Cutter cutter = _Cutter(header, packet, max_segments, max_bytes, encap, arena_size)
    cdef cut_group group
    cdef int rc = cutter.begin()
    if rc < 0:
        return "unsupported" if rc == -EOPNOTSUPP else "malformed"
    if not cut_fits(&cutter.cut, &cutter.limits, &cutter.space):
        return "too_large"
    groups = []
    while cut_next(&cutter.cut, &cutter.limits, &cutter.space, &group):
        datagrams = [_gather(cutter.space.iov + 2 * i, 2) for i in range(group.segments)]
        groups.append((group.datagram, datagrams))
    return groups


def cut_many(bytes header not None, bytes packet not None, size_t rounds):
    cdef _Cutter cutter = _Cutter(
        header, packet, CUT_MAX_SEGMENTS, CUT_MAX_BYTES, b"", CUT_ARENA_SIZE
    )
    cdef cut_group group
    cdef size_t segments = 0
    with nogil:
        for _ in range(rounds):
            if cutter.begin() == 0:
                while cut_next(&cutter.cut, &cutter.limits, &cutter.space, &group):
                    segments += group.segments
    return segments


cdef void _keep_write(void *context, const fold_write *write) noexcept with gil:
    cdef unsigned i
    cdef iovec one
    originals = []
    for i in range(write.packets):
        one = fold_original(write, i)
        originals.append(_gather(&one, 1))
    (<list>context).append((_gather(write.iov, write.iov_count), originals))


cdef void _count_write(void *context, const fold_write *write) noexcept nogil:
    (<size_t *>context)[0] += 1


@cython.final
cdef class _Folder:
    """Room for the pending flows; some 70 KB, so not on the stack."""
    cdef fold_t *fold

    def __cinit__(self):
        self.fold = <fold_t *>calloc(1, sizeof(fold_t))
        if self.fold == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.fold)


def fold(packets, *, unsigned kinds=FOLD_TCP4 | FOLD_TCP6 | FOLD_UDP4 | FOLD_UDP6,
         unsigned max_segments=64):
    cdef _Folder folder = _Folder()
    cdef bytes packet
    cdef list copies = [_copy(each) for each in packets], writes = []
    fold_init(folder.fold, kinds, max_segments, _keep_write, <void *>writes)
    for packet in copies:
        fold_add(folder.fold, <uint8_t *><char *>packet, len(packet))
    fold_flush(folder.fold)
    return writes, folder.fold.tally


def fold_many(packets, size_t rounds):
    cdef _Folder folder = _Folder()
    cdef bytes packet, joined = b"".join(packets)
    cdef size_t count = len(packets), writes = 0, i
    cdef iovec *each = <iovec *>calloc(count or 1, sizeof(iovec))
    if each == NULL:
        raise MemoryError
    cdef uint8_t *start = <uint8_t *><char *>joined
    for i, packet in enumerate(packets):
        each[i].iov_base, each[i].iov_len = start, len(packet)
        start += len(packet)
    fold_init(folder.fold, FOLD_TCP4 | FOLD_TCP6 | FOLD_UDP4 | FOLD_UDP6, 64, _count_write,
              &writes)
    with nogil:
        for _ in range(rounds):
            for i in range(count):
                fold_add(folder.fold, <uint8_t *>each[i].iov_base, each[i].iov_len)
            fold_flush(folder.fold)
    free(each)
    return writes


# ---- kernel.h

TUNGETFEATURES = <unsigned>c_TUNGETFEATURES
TUNSETOFFLOAD = <unsigned>c_TUNSETOFFLOAD
TUN_F_CSUM = c_TUN_F_CSUM
TUN_F_TSO4 = c_TUN_F_TSO4
TUN_F_TSO6 = c_TUN_F_TSO6
TUN_F_TSO_ECN = c_TUN_F_TSO_ECN
TUN_F_USO4 = c_TUN_F_USO4
TUN_F_USO6 = c_TUN_F_USO6
SO_RCVBUFFORCE = c_SO_RCVBUFFORCE
SO_SNDBUFFORCE = c_SO_SNDBUFFORCE
SOL_UDP = c_SOL_UDP
UDP_SEGMENT = c_UDP_SEGMENT
UDP_GRO = c_UDP_GRO


# ---- pump.h

OUTBOUND = c_WORKER_OUTBOUND
INBOUND = c_WORKER_INBOUND
MORE_OUTBOUND = c_WORKER_MORE_OUTBOUND
MORE_INBOUND = c_WORKER_MORE_INBOUND
BLOCKED = c_WORKER_BLOCKED
RETRY = c_WORKER_RETRY
BATCH_MAX = PUMP_BATCH_MAX


@cython.final
cdef class Pump:
    cdef pump_t pump
    cdef RouteTable routes

    def __cinit__(
        self,
        RouteTable routes not None,
        *,
        uint32_t mtu,
        bytes tun_address not None,
        int icmp_fd=-1,
        uint32_t batch=PUMP_BATCH_MAX,
        uint32_t busy_poll_us=0,
        bint vnet_header=False,
        bint udp_segment=False,
        bint udp_gro=False,
        uint32_t icmp_rate=ICMP_RATE_DEFAULT,
        uint32_t icmp_burst=ICMP_BURST_DEFAULT,
    ):
        if len(tun_address) != 4:
            raise ValueError(f"the TUN's IPv4 address takes 4 bytes, not {len(tun_address)}")
        self.routes = routes
        self.pump.routes = routes.slot
        self.pump.encap = &encap_udp
        self.pump.families = PACKET_IPV4
        self.pump.icmp_fd = icmp_fd
        self.pump.mtu = mtu
        self.pump.batch = batch
        self.pump.busy_poll_us = busy_poll_us
        self.pump.levers = (
            (PUMP_VNET_HEADER if vnet_header else 0)
            | (PUMP_UDP_SEGMENT if udp_segment else 0)
            | (PUMP_UDP_GRO if udp_gro else 0)
        )
        memcpy(self.pump.tun_address, <const uint8_t *>tun_address, 4)
        _check(icmp_limiter_init(&self.pump.icmp_limiter, icmp_rate, icmp_burst))


@cython.final
cdef class Worker:
    cdef worker_t *worker
    cdef Pump pump
    cdef bint busy
    cdef object last

    def __cinit__(self, Pump pump not None, *, unsigned roles, int tun_fd, int udp_fd):
        self.pump = pump
        _check(worker_create(&self.worker, &pump.pump, roles, tun_fd, udp_fd))

    def __dealloc__(self):
        worker_destroy(self.worker)

    cdef worker_t *_take(self) except NULL:
        """One thread at a time, and none after close."""
        if self.worker == NULL:
            raise ValueError("the worker is closed")
        if self.busy:
            raise RuntimeError("the worker is moving packets in another thread")
        self.busy = True
        return self.worker

    def run(self):
        cdef worker_t *worker = self._take()
        cdef int rc
        with nogil:
            rc = worker_run(worker)
        self.busy = False
        _check(rc)

    def step(self, unsigned directions, unsigned batches):
        cdef worker_t *worker = self._take()
        cdef int rc
        with nogil:
            rc = worker_step(worker, directions, batches)
        self.busy = False
        _check(rc)
        return rc

    def stop(self):
        if self.worker != NULL:
            worker_stop(self.worker)

    def close(self):
        if self.worker != NULL:
            self._take()
            with nogil:
                worker_finish(self.worker)
            self.last = self.counts()
            worker_destroy(self.worker)
            self.worker = NULL
            self.busy = False

    def counts(self):
        cdef uint64_t verdicts[64]
        cdef uint64_t tallies[64]
        if self.worker == NULL:
            return self.last
        worker_counts(self.worker, verdicts, tallies)
        return (
            [verdicts[i] for i in range(VERDICT_COUNT)],
            [tallies[i] for i in range(TALLY_COUNT)],
        )
