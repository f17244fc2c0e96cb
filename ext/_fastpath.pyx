# SPDX-License-Identifier: Apache-2.0
# cython: auto_pickle=False, autotestdict=False
"""The compiled data path: checks, checksums, ICMP errors and routes (documented in _fastpath.pyi).

Thin on purpose: values in, values out. Every rule is in the C unit that the call goes to.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EINVAL, ENOMEM
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


def checksum(bytes data not None, str implementation not None=""):
    cdef const uint8_t *start = data
    return _network(checksum_finish(_named(implementation).add(0, start, len(data))))


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
