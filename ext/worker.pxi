# SPDX-License-Identifier: Apache-2.0
# Part of _fastpath.pyx: what moves packets (ext/worker/).


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
    cdef object last, last_histograms, last_times

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
            self.last_histograms = self.histograms()
            self.last_times = self.times()
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

    def histograms(self):
        cdef uint64_t buckets[16]
        cdef uint64_t total
        if self.worker == NULL:
            return self.last_histograms
        found = []
        for which in range(HISTOGRAM_COUNT):
            total = worker_histogram(self.worker, which, buckets)
            found.append(([buckets[i] for i in range(HISTOGRAM_BUCKETS)], total))
        return found

    def times(self):
        cdef worker_times_t times
        if self.worker == NULL:
            return self.last_times
        times = worker_times(self.worker)
        return times.total, times.asleep, times.spinning

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
