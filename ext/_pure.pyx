# SPDX-License-Identifier: Apache-2.0
# cython: auto_pickle=False, autotestdict=False
"""The pure C units one function at a time (documented in udpoverlay/_pure.pyi).

For tests and benches: the daemon does not load it. Thin on purpose: values in, values out.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EOPNOTSUPP
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastpath cimport *


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
    return verdict_facts[refusal].name.decode().lower().removeprefix("outbound_"), 0, 0


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
cdef class _Segmenter:
    """Memory and limits of one segmenting."""
    cdef segment_limits limits
    cdef segment_space space
    cdef segmenter_t segmenter
    cdef vnet header
    cdef bytes encap, packet
    cdef uint8_t *start
    cdef size_t length

    def __cinit__(self, bytes header, bytes packet, unsigned max_segments, size_t max_bytes,
                  bytes encap, size_t headers_size):
        _load_vnet(header, &self.header)
        self.encap, self.packet = encap, packet
        self.start, self.length = <uint8_t *><char *>self.packet, len(packet)
        self.limits.segments, self.limits.bytes = max_segments, max_bytes
        self.limits.encap, self.limits.encap_length = encap, len(encap)
        self.space.headers_size, self.space.iov_size = headers_size, 2 * max_segments
        self.space.headers = <uint8_t *>calloc(headers_size or 1, 1)
        self.space.iov = <iovec *>calloc(self.space.iov_size or 1, sizeof(iovec))
        if self.space.headers == NULL or self.space.iov == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.space.headers)
        free(self.space.iov)

    cdef int begin(self) noexcept nogil:
        return segment_begin(&self.segmenter, &self.header, self.start, self.length)


def segment(bytes header not None, bytes packet not None, *, unsigned max_segments=SEGMENT_MAX_COUNT,
        size_t max_bytes=SEGMENT_MAX_BYTES, bytes encap not None=b"",
        size_t headers_size=SEGMENT_HEADERS_SIZE):
    cdef _Segmenter segmenter = _Segmenter(header, packet, max_segments, max_bytes, encap, headers_size)
    cdef segment_group group
    cdef int rc = segmenter.begin()
    if rc < 0:
        return "unsupported" if rc == -EOPNOTSUPP else "malformed"
    if not segment_fits(&segmenter.segmenter, &segmenter.limits, &segmenter.space):
        return "too_large"
    groups = []
    while segment_next(&segmenter.segmenter, &segmenter.limits, &segmenter.space, &group):
        datagrams = [_gather(segmenter.space.iov + 2 * i, 2) for i in range(group.segments)]
        groups.append((group.datagram, datagrams))
    return groups


def segment_many(bytes header not None, bytes packet not None, size_t rounds):
    cdef _Segmenter segmenter = _Segmenter(
        header, packet, SEGMENT_MAX_COUNT, SEGMENT_MAX_BYTES, b"", SEGMENT_HEADERS_SIZE
    )
    cdef segment_group group
    cdef size_t segments = 0
    with nogil:
        for _ in range(rounds):
            if segmenter.begin() == 0:
                while segment_next(&segmenter.segmenter, &segmenter.limits, &segmenter.space, &group):
                    segments += group.segments
    return segments


cdef void _keep_write(void *context, const coalesce_write *write) noexcept with gil:
    cdef unsigned i
    cdef iovec one
    originals = []
    for i in range(write.packets):
        one = coalesce_original(write, i)
        originals.append(_gather(&one, 1))
    (<list>context).append((_gather(write.iov, write.iov_count), originals))


cdef void _count_write(void *context, const coalesce_write *write) noexcept nogil:
    (<size_t *>context)[0] += 1


@cython.final
cdef class _Coalescer:
    """Room for the pending flows; some 70 KB, so not on the stack."""
    cdef coalescer_t *coalescer

    def __cinit__(self):
        self.coalescer = <coalescer_t *>calloc(1, sizeof(coalescer_t))
        if self.coalescer == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.coalescer)


def coalesce(packets, *, unsigned kinds=COALESCE_TCP4 | COALESCE_TCP6 | COALESCE_UDP4 | COALESCE_UDP6,
         unsigned max_segments=64):
    cdef _Coalescer coalescer = _Coalescer()
    cdef bytes packet
    cdef list copies = [_copy(each) for each in packets], writes = []
    coalesce_init(coalescer.coalescer, kinds, max_segments, _keep_write, <void *>writes)
    for packet in copies:
        coalesce_add(coalescer.coalescer, <uint8_t *><char *>packet, len(packet), 0)
    coalesce_flush(coalescer.coalescer)
    return writes, coalescer.coalescer.counters


def coalesce_many(packets, size_t rounds):
    cdef _Coalescer coalescer = _Coalescer()
    cdef bytes packet, joined = b"".join(packets)
    cdef size_t count = len(packets), writes = 0, i
    cdef iovec *each = <iovec *>calloc(count or 1, sizeof(iovec))
    if each == NULL:
        raise MemoryError
    cdef uint8_t *start = <uint8_t *><char *>joined
    for i, packet in enumerate(packets):
        each[i].iov_base, each[i].iov_len = start, len(packet)
        start += len(packet)
    coalesce_init(coalescer.coalescer, COALESCE_TCP4 | COALESCE_TCP6 | COALESCE_UDP4 | COALESCE_UDP6, 64, _count_write,
              &writes)
    with nogil:
        for _ in range(rounds):
            for i in range(count):
                coalesce_add(coalescer.coalescer, <uint8_t *>each[i].iov_base, each[i].iov_len, 0)
            coalesce_flush(coalescer.coalescer)
    free(each)
    return writes
