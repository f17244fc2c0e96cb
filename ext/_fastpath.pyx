# SPDX-License-Identifier: Apache-2.0
# cython: auto_pickle=False, autotestdict=False
"""The compiled data path: verdicts, routes, the pump (documented in udpoverlay/_fastpath.pyi).

Thin on purpose: values in, values out. Every rule is in the C unit that the call goes to.
"""

cimport cython
from libc.errno cimport E2BIG, EINVAL, ENOMEM, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
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
COUNTERS = tuple([_facts(&counter_facts[i]) for i in range(COUNTER_COUNT)])


# ---- fallback.h


cdef tuple _fallback(str name, const fallback_state *state):
    return (
        name,
        fallback_cause_help[state.cause].decode(),
        state.count,
        state.retry_at,
    )


# ---- routes.h


cdef int _read_route(object item, route *to) except -1:
    cdef bytes address, endpoint_address, header = b""
    cdef unsigned length, mtu
    cdef uint16_t port
    if len(item) == 6:
        address, length, endpoint_address, port, mtu, header = item
    else:
        address, length, endpoint_address, port, mtu = item
    if len(address) not in (4, 16) or length > 8 * <unsigned>len(address):
        raise ValueError(f"route {item!r}: not an IPv4 or IPv6 prefix")
    memcpy(to.address, <const uint8_t *>address, len(address))
    to.version = 4 if len(address) == 4 else 6
    to.length = length
    to.mtu = mtu
    if endpoint_set(&to.endpoint, endpoint_address, len(endpoint_address), port) < 0:
        raise ValueError(f"route {item!r}: the peer's address takes 4 or 16 bytes")
    if len(header) > <Py_ssize_t>sizeof(to.header.bytes):
        raise ValueError(f"route {item!r}: a header takes {sizeof(to.header.bytes)} bytes at most")
    to.header.length = len(header)
    memcpy(to.header.bytes, <const uint8_t *>header, len(header))
    return 0


cdef int _read_address(bytes text, address *to) except -1:
    if len(text) == 4:
        address_from_ipv4(to, <const uint8_t *>text)
    elif len(text) == 16:
        memcpy(to.bytes, <const uint8_t *>text, 16)
    else:
        raise ValueError(f"an address takes 4 or 16 bytes, not {len(text)}")
    return 0


cdef bytes _address(const address *of_):
    """IPv4 in 4 bytes, where it is that."""
    cdef bytes whole = of_.bytes[:16]
    return whole[12:] if whole.startswith(b"\0" * 10 + b"\xff\xff") else whole


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

    def publish(self, routes, aliases=()):
        cdef size_t count = len(routes), i = 0, alias_count = len(aliases), j = 0
        cdef int rc
        cdef route *flat = <route *>calloc(count or 1, sizeof(route))
        cdef sender_alias *flat_aliases = <sender_alias *>calloc(
            alias_count or 1, sizeof(sender_alias)
        )
        try:
            if flat == NULL or flat_aliases == NULL:
                raise MemoryError
            for alias, of in aliases:
                if j == alias_count:
                    raise ValueError("aliases changed while they were published")
                _read_address(alias, &flat_aliases[j].address)
                _read_address(of, &flat_aliases[j].of_)
                j += 1
            for item in routes:
                if i == count:
                    raise ValueError("routes changed while they were published")
                _read_route(item, &flat[i])
                i += 1
            with nogil:
                rc = routes_publish(self.slot, flat, i, flat_aliases, j)
        finally:
            free(flat)
            free(flat_aliases)
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

    def fallbacks(self):
        cdef size_t room = 0, count, length
        cdef peer_fallback *found = NULL
        cdef uint8_t address[16]
        cdef uint16_t port
        cdef list peers = []
        with nogil:
            count = routes_fallbacks(self.slot, NULL, 0)
        try:
            room = count
            found = <peer_fallback *>calloc(room or 1, sizeof(peer_fallback))
            if found == NULL:
                raise MemoryError
            with nogil:
                count = routes_fallbacks(self.slot, found, room)
            for i in range(min(count, room)):
                length = endpoint_get(&found[i].endpoint, address, &port)
                peers.append(
                    (
                        address[:length],
                        port,
                        _fallback("udp-segment", &found[i].path.segment),
                        found[i].path.past_until,
                    )
                )
        finally:
            free(found)
        return peers

    def traffic(self):
        cdef size_t room, count, length
        cdef peer_traffic *found = NULL
        cdef uint8_t address[16]
        cdef uint16_t port
        cdef list peers = []
        with nogil:
            count = routes_traffic(self.slot, NULL, 0)
        try:
            room = count
            found = <peer_traffic *>calloc(room or 1, sizeof(peer_traffic))
            if found == NULL:
                raise MemoryError
            with nogil:
                count = routes_traffic(self.slot, found, room)
            for i in range(min(count, room)):
                length = endpoint_get(&found[i].endpoint, address, &port)
                peers.append(
                    (
                        address[:length],
                        port,
                        {
                            verdict: found[i].sum.verdicts[verdict]
                            for verdict in range(VERDICT_COUNT)
                            if found[i].sum.verdicts[verdict]
                        },
                        found[i].sum.bytes[<int>DIRECTION_OUTBOUND],
                        found[i].sum.bytes[<int>DIRECTION_INBOUND],
                        found[i].sum.heard_ns,
                    )
                )
        finally:
            free(found)
        return peers

    def heard(self, uint64_t since_ns):
        cdef size_t count
        with nogil:
            count = routes_heard(self.slot, since_ns)
        return count

    def path_report(self, bytes address not None, uint16_t port, uint32_t mtu=0):
        cdef endpoint of_
        cdef bint known
        if endpoint_set(&of_, address, len(address), port) < 0:
            raise ValueError(f"an address takes 4 or 16 bytes, not {len(address)}")
        with nogil:
            known = routes_path_report(self.slot, &of_, mtu, clock_ns())
        return known

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


def attach_filter(int fd, bytes instructions not None):
    cdef sock_fprog program
    if len(instructions) % sizeof(sock_filter) != 0:
        raise ValueError(f"an instruction takes {sizeof(sock_filter)} bytes")
    program.len = len(instructions) // sizeof(sock_filter)
    program.filter = <sock_filter *><const uint8_t *>instructions
    if setsockopt(fd, c_SOL_SOCKET, c_SO_ATTACH_FILTER, &program, sizeof(program)) != 0:
        _check(-errno)


# ---- trace/

include "recorder.pxi"


# ---- pump.h, worker.h

OUTBOUND = c_WORKER_OUTBOUND
INBOUND = c_WORKER_INBOUND
MORE_OUTBOUND = c_WORKER_MORE_OUTBOUND
MORE_INBOUND = c_WORKER_MORE_INBOUND
BLOCKED = c_WORKER_BLOCKED
RETRY = c_WORKER_RETRY
BATCH_MAX = PUMP_BATCH_MAX
SOURCE_CHECKS = {
    "off": SOURCE_CHECK_OFF, "warn": SOURCE_CHECK_WARN, "enforce": SOURCE_CHECK_ENFORCE
}
PROBE_PLACES = PROBES_MAX
IMPAIR_PLACES_MAX = IMPAIR_PLACES
IMPAIR_MILLIONTHS = IMPAIR_MILLION
IMPAIR_SECONDS = IMPAIR_SECONDS_MAX
IMPAIR_DELAY_US = IMPAIR_DELAY_US_MAX
IMPAIR_RATE = IMPAIR_RATE_MIN


def build_probe(bytes source not None, bytes destination not None, uint64_t nonce):
    cdef uint8_t packet[64]
    if len(source) != 4 or len(destination) != 4:
        raise ValueError("the addresses of a probe take 4 bytes each")
    probe_build(packet, source, destination, nonce)
    return packet[:PROBE_LENGTH]


cdef dict _COALESCES = {
    DELIVERY_TCP4: "coalesce-tcp",
    DELIVERY_TCP6: "coalesce-tcp",
    DELIVERY_UDP: "coalesce-udp",
}


# no_gc: a collector that clears their attributes first would free what the C side still uses. No
# cycle can lead through them: they refer to nothing that refers to other objects.
@cython.final
@cython.no_gc
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
        bint coalesce_tcp=False,
        bint coalesce_udp=False,
        bint path_reports=False,
        uint32_t icmp_rate=ICMP_RATE_DEFAULT,
        uint32_t icmp_burst=ICMP_BURST_DEFAULT,
        str source_check not None="off",
        tuple subnet=None,
        own_addresses=(),
        uint32_t probe_rate=PROBE_RATE_DEFAULT,
        uint32_t probe_burst=PROBE_BURST_DEFAULT,
        bint allow_impair=False,
    ):
        self.pump.probes.alarm_fd = -1
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
        self.pump.offloads = (
            (PUMP_VNET_HEADER if vnet_header else 0)
            | (PUMP_UDP_SEGMENT if udp_segment else 0)
            | (PUMP_UDP_GRO if udp_gro else 0)
            | (PUMP_COALESCE_TCP if coalesce_tcp else 0)
            | (PUMP_COALESCE_UDP if coalesce_udp else 0)
            | (PUMP_PATH_REPORTS if path_reports else 0)
        )
        self.pump.allow_impair = allow_impair
        memcpy(self.pump.tun_address, <const uint8_t *>tun_address, 4)
        _check(icmp_limiter_init(&self.pump.icmp_limiter, icmp_rate, icmp_burst))
        self._set_sources(source_check, subnet, tuple(own_addresses))
        _check(probes_init(&self.pump.probes, probe_rate, probe_burst))

    def __dealloc__(self):
        probes_destroy(&self.pump.probes)

    cdef int _set_sources(self, str source_check, tuple subnet, tuple own) except -1:
        cdef bytes address
        if source_check not in SOURCE_CHECKS:
            raise ValueError(f"source_check {source_check!r} is none of {tuple(SOURCE_CHECKS)}")
        if source_check != "off" and subnet is None:
            raise ValueError(f"source_check {source_check!r} needs the subnet")
        self.pump.source_check = SOURCE_CHECKS[source_check]
        if subnet is not None:
            address, self.pump.subnet_length = subnet
            if len(address) != 4 or not 0 < self.pump.subnet_length <= 32:
                raise ValueError(f"subnet {subnet!r}: not an IPv4 prefix")
            memcpy(self.pump.subnet, <const uint8_t *>address, 4)
        if len(own) > OWN_ADDRESSES_MAX:
            raise ValueError(f"at most {OWN_ADDRESSES_MAX} own addresses, not {len(own)}")
        for address in own:
            if len(address) != 4:
                raise ValueError(f"an own address takes 4 bytes, not {len(address)}")
            memcpy(self.pump.own[self.pump.own_count], <const uint8_t *>address, 4)
            self.pump.own_count += 1
        return 0

    def open_probe(self, unsigned place, uint64_t nonce):
        if place >= PROBES_MAX or nonce == 0:
            raise ValueError(f"place {place}, nonce {nonce}: out of range")
        probes_open(&self.pump.probes, place, nonce)

    def probe_answer(self, unsigned place, uint64_t nonce):
        cdef address found
        if place >= PROBES_MAX:
            raise ValueError(f"place {place}: out of range")
        if not probes_answer(&self.pump.probes, place, nonce, &found):
            return None
        return _address(&found)

    def close_probe(self, unsigned place):
        if place >= PROBES_MAX:
            raise ValueError(f"place {place}: out of range")
        probes_close(&self.pump.probes, place)

    def set_impairment(
        self,
        unsigned place,
        bytes peer not None,
        uint64_t until_ns,
        *,
        uint64_t seed=0,
        uint32_t loss=0,
        uint32_t duplicate=0,
        uint32_t corrupt=0,
        uint32_t reorder=0,
        uint32_t behind_us=0,
        uint32_t delay_us=0,
        uint32_t jitter_us=0,
        uint64_t rate=0,
    ):
        cdef impair_settings settings
        if place >= IMPAIR_PLACES:
            raise ValueError(f"place {place}: out of range")
        _read_address(peer, &settings.peer)
        settings.seed = seed
        settings.loss = loss
        settings.duplicate = duplicate
        settings.corrupt = corrupt
        settings.reorder = reorder
        settings.behind_us = behind_us
        settings.delay_us = delay_us
        settings.jitter_us = jitter_us
        settings.rate = rate
        _check(impair_rule_set(&self.pump.impair[place], &settings, until_ns, clock_ns()))

    def end_impairment(self, unsigned place):
        if place >= IMPAIR_PLACES:
            raise ValueError(f"place {place}: out of range")
        impair_rule_end(&self.pump.impair[place])

    def arm(self):
        probes_arm(&self.pump.probes)

    @property
    def alarm_fd(self):
        return self.pump.probes.alarm_fd


@cython.final
@cython.no_gc
cdef class Worker:
    cdef worker_t *worker
    cdef Pump pump
    cdef Recorder recorder
    cdef bint busy
    cdef object last

    def __cinit__(
        self,
        Pump pump not None,
        *,
        unsigned roles,
        tun_fds,
        int udp_fd,
        Recorder recorder=None,
        unsigned number=0,
    ):
        cdef int queues[64]
        cdef unsigned count = len(tun_fds)
        if count > DEVICE_QUEUES_MAX:
            raise ValueError(f"a TUN device has at most {DEVICE_QUEUES_MAX} queues, not {count}")
        for i in range(count):
            queues[i] = tun_fds[i]
        self.pump = pump
        _check(worker_create(&self.worker, &pump.pump, roles, queues, count, udp_fd))
        if recorder is not None:
            self.recorder = recorder
            worker_record(self.worker, recorder.of(number))

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

    cdef impair *_lanes(self, unsigned place) except? NULL:
        if place >= IMPAIR_PLACES:
            raise ValueError(f"place {place}: out of range")
        return worker_impair(self.worker) if self.worker != NULL else NULL

    def offer_impairment(self, unsigned place):
        cdef int rc
        if self._lanes(place) == NULL:
            return False
        with nogil:
            rc = worker_impair_offer(self.worker, place)
        _check(rc)
        return True

    def reclaim_impairment(self, unsigned place):
        cdef impair *lanes = self._lanes(place)
        return lanes == NULL or bool(impair_reclaim(lanes, place))

    def impairment_counts(self, unsigned place):
        cdef impair *lanes = self._lanes(place)
        if lanes == NULL:
            return (0,) * 7
        cdef impair_counts_t counts = impair_counts(lanes, place)
        return (
            counts.packets,
            counts.lost,
            counts.corrupted,
            counts.duplicated,
            counts.reordered,
            counts.overflowed,
            counts.waiting,
        )

    def fallbacks(self):
        cdef fallback_state coalesces[8]
        if self.worker == NULL:
            return []
        worker_coalesces(self.worker, coalesces)
        return [_fallback(name, &coalesces[i]) for i, name in _COALESCES.items() if coalesces[i].count]

    def counts(self):
        cdef uint64_t verdicts[64]
        cdef uint64_t counters[64]
        if self.worker == NULL:
            return self.last
        worker_counts(self.worker, verdicts, counters)
        return (
            [verdicts[i] for i in range(VERDICT_COUNT)],
            [counters[i] for i in range(COUNTER_COUNT)],
        )

    def refused(self):
        cdef refused one
        cdef list found = []
        if self.worker == NULL:
            return found
        for at in range(REFUSED_MAX):
            if refused_read(worker_refused(self.worker), at, &one):
                found.append(
                    (
                        _address(&one.address),
                        one.verdict,
                        one.datagrams,
                        <bytes>one.inner_source[:4],
                        <bytes>one.inner_destination[:4],
                        one.seen_ns,
                    )
                )
        return found
