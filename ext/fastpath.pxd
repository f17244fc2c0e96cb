# SPDX-License-Identifier: Apache-2.0
"""Mirror of the C headers in ext/, one block a header, in the order of their layers.

Everything is nogil: no function here knows Python.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "verdict.h" nogil:
    enum direction:
        DIRECTION_OUTBOUND
        DIRECTION_INBOUND
        DIRECTION_NONE

    enum verdict_kind:
        VERDICT_KIND_OK
        VERDICT_KIND_DROP

    ctypedef int verdict "enum verdict"
    int VERDICT_COUNT
    int COUNTER_COUNT

    struct verdict_facts_t "verdict_facts":
        const char *name
        direction direction
        verdict_kind kind
        const char *help

    const verdict_facts_t verdict_facts[]
    const verdict_facts_t counter_facts[]
    const verdict_facts_t histogram_facts[]
    int HISTOGRAM_COUNT


cdef extern from "packet/checksum.h" nogil:
    struct checksum_implementation:
        const char *name
        uint32_t (*add)(uint32_t sum, const void *data, size_t length) noexcept nogil

    const checksum_implementation *c_checksum_implementations "checksum_implementations" ()
    uint32_t checksum_pseudo(
        const uint8_t *addresses, size_t addresses_length, uint8_t protocol, uint32_t length
    )
    uint16_t checksum_finish(uint32_t sum)


cdef extern from "packet/packet.h" nogil:
    unsigned PACKET_IPV4
    unsigned PACKET_IPV6

    enum packet_check_t "packet_check":
        PACKET_OK

    struct packet_t "packet":
        uint32_t length
        uint8_t header_length
        uint8_t version
        uint8_t protocol

    packet_check_t packet_check(
        const uint8_t *bytes, size_t received, unsigned families, packet_t *packet
    )
    verdict packet_refusal(direction direction, packet_check_t check)
    int packet_decrease_ttl(uint8_t *bytes, const packet_t *packet)


cdef extern from "packet/icmp.h" nogil:
    int ICMP_ERROR_MAX
    uint32_t ICMP_RATE_DEFAULT
    uint32_t ICMP_BURST_DEFAULT

    enum icmp_error_t "icmp_error":
        ICMP_ERROR_NET_UNREACHABLE
        ICMP_ERROR_TIME_EXCEEDED

    struct icmp_limiter:
        pass

    size_t icmp_error_build(
        uint8_t *out,
        icmp_error_t error,
        const uint8_t *source,
        const uint8_t *offender,
        const packet_t *packet,
    )
    int icmp_limiter_init(icmp_limiter *limiter, uint32_t rate, uint32_t burst)
    int icmp_limiter_take(icmp_limiter *limiter, uint64_t now_ns)


cdef extern from "packet/address.h" nogil:
    struct address:
        uint8_t bytes[16]

    void address_from_ipv4(address *address, const void *ipv4)


cdef extern from "packet/probe.h" nogil:
    int PROBE_LENGTH

    enum probe_kind:
        PROBE_NONE
        PROBE_REQUEST
        PROBE_REPLY

    void probe_build(
        uint8_t *out, const uint8_t *source, const uint8_t *destination, uint64_t nonce
    )
    probe_kind probe_read(const uint8_t *packet, size_t length, uint64_t *nonce)
    void probe_answer(uint8_t *packet)


cdef extern from "packet/encap.h" nogil:
    struct encap_header:
        uint8_t length
        uint8_t bytes[24]

    struct encap:
        const char *name

    const encap encap_udp


cdef extern from "offload/fallback.h" nogil:
    const char *const fallback_cause_help[]

    struct fallback_state:
        uint64_t retry_at
        uint32_t cause
        uint32_t count


cdef extern from "routes/path.h" nogil:
    struct path_state:
        fallback_state segment
        uint64_t past_until


cdef extern from "routes/peers.h" nogil:
    struct endpoint:
        pass

    int endpoint_set(endpoint *endpoint, const uint8_t *address, size_t length, uint16_t port)
    size_t endpoint_get(const endpoint *endpoint, uint8_t *address, uint16_t *port)

    struct peer_state:
        uint32_t id


cdef extern from "routes/senders.h" nogil:
    struct sender_alias:
        address address
        address of_ "of"


cdef extern from "routes/routes.h" nogil:
    size_t ROUTES_MEMORY_MAX

    struct nexthop:
        endpoint endpoint
        uint32_t mtu
        peer_state *peer

    struct route:
        uint8_t address[16]
        uint8_t version
        uint8_t length
        uint32_t mtu
        endpoint endpoint
        encap_header header

    struct route_table:
        pass

    struct route_reader:
        pass

    struct route_slot:
        pass

    struct route_facts:
        uint64_t generation
        size_t routes
        size_t memory
        size_t retired
        size_t peers

    int route_slot_init(route_slot *slot)
    void route_slot_destroy(route_slot *slot)
    int routes_publish(
        route_slot *slot,
        const route *routes,
        size_t count,
        const sender_alias *aliases,
        size_t alias_count,
    )
    size_t routes_collect(route_slot *slot)
    int routes_find(
        route_slot *slot, unsigned version, const uint8_t *address, nexthop *found
    )
    void routes_facts(route_slot *slot, route_facts *facts)

    struct peer_fallback:
        endpoint endpoint
        path_state path

    struct peer_sum:
        uint64_t verdicts[64]
        uint64_t bytes[2]
        uint64_t heard_ns

    struct peer_traffic:
        endpoint endpoint
        peer_sum sum

    size_t routes_traffic(route_slot *slot, peer_traffic *found, size_t room)
    size_t routes_heard(route_slot *slot, uint64_t since_ns)

    int routes_path_report(
        route_slot *slot, const endpoint *endpoint, uint32_t mtu, uint64_t now
    )
    size_t routes_fallbacks(route_slot *slot, peer_fallback *found, size_t room)
    void route_reader_add(route_slot *slot, route_reader *reader)
    void route_reader_remove(route_reader *reader)
    void route_reader_online(route_reader *reader)
    void route_reader_pass(route_reader *reader)
    void route_reader_offline(route_reader *reader)
    const route_table *routes_current(route_slot *slot)
    const nexthop *routes_lookup(
        const route_table *table, unsigned version, const uint8_t *address
    )


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from "offload/offload.h" nogil:
    int VNET_HEADER_LENGTH
    unsigned SEGMENT_MAX_COUNT
    size_t SEGMENT_MAX_BYTES
    size_t SEGMENT_HEADERS_SIZE
    unsigned COALESCE_TCP4
    unsigned COALESCE_TCP6
    unsigned COALESCE_UDP4
    unsigned COALESCE_UDP6

    struct vnet:
        pass

    void vnet_load(vnet *vnet, const uint8_t *header)
    int vnet_finish_checksum(const vnet *vnet, uint8_t *packet, size_t length)

    struct segmenter_t "segmenter":
        unsigned segments

    struct segment_limits:
        unsigned segments
        size_t bytes
        const uint8_t *encap
        size_t encap_length

    struct segment_space:
        uint8_t *headers
        size_t headers_size
        iovec *iov
        unsigned iov_size

    struct segment_group:
        unsigned segments
        size_t datagram
        size_t last
        size_t bytes

    int segment_begin(segmenter_t *segmenter, const vnet *vnet, uint8_t *packet, size_t length)
    bint segment_fits(const segmenter_t *segmenter, const segment_limits *limits, const segment_space *space)
    bint segment_next(
        segmenter_t *segmenter, const segment_limits *limits, const segment_space *space, segment_group *group
    )

    struct coalesce_write:
        const iovec *iov
        unsigned iov_count
        unsigned packets

    struct coalesce_counters:
        uint64_t supers
        uint64_t coalesced
        uint64_t plain
        uint64_t bad_checksum
        uint64_t evicted

    struct coalescer_t "coalescer":
        coalesce_counters counters

    void coalesce_init(
        coalescer_t *coalescer,
        unsigned kinds,
        unsigned max_segments,
        void (*deliver)(void *context, const coalesce_write *write) noexcept,
        void *context,
    )
    void coalesce_add(coalescer_t *coalescer, uint8_t *packet, size_t length, uint16_t tag)
    void coalesce_flush(coalescer_t *coalescer)
    iovec coalesce_original(const coalesce_write *write, unsigned index)


cdef extern from "worker/kernel.h" nogil:
    int c_TUNGETFEATURES "(int)TUNGETFEATURES"
    int c_TUNSETOFFLOAD "(int)TUNSETOFFLOAD"
    int c_TUN_F_CSUM "TUN_F_CSUM"
    int c_TUN_F_TSO4 "TUN_F_TSO4"
    int c_TUN_F_TSO6 "TUN_F_TSO6"
    int c_TUN_F_TSO_ECN "TUN_F_TSO_ECN"
    int c_TUN_F_USO4 "TUN_F_USO4"
    int c_TUN_F_USO6 "TUN_F_USO6"
    int c_SO_RCVBUFFORCE "SO_RCVBUFFORCE"
    int c_SO_SNDBUFFORCE "SO_SNDBUFFORCE"
    int c_SOL_UDP "SOL_UDP"
    int c_UDP_SEGMENT "UDP_SEGMENT"
    int c_UDP_GRO "UDP_GRO"
    int c_SOL_SOCKET "SOL_SOCKET"
    int c_SO_ATTACH_FILTER "SO_ATTACH_FILTER"
    int setsockopt(int fd, int level, int name, const void *value, unsigned length)


cdef extern from "<linux/filter.h>" nogil:
    struct sock_filter:
        pass

    struct sock_fprog:
        unsigned short len
        sock_filter *filter


cdef extern from "worker/probes.h" nogil:
    unsigned PROBES_MAX
    uint32_t PROBE_RATE_DEFAULT
    uint32_t PROBE_BURST_DEFAULT

    struct probes_t "probes":
        int alarm_fd

    int probes_init(probes_t *probes, uint32_t rate, uint32_t burst)
    void probes_destroy(probes_t *probes)
    void probes_open(probes_t *probes, unsigned at, uint64_t nonce)
    bint probes_answer(probes_t *probes, unsigned at, uint64_t nonce, address *from_)
    void probes_close(probes_t *probes, unsigned at)
    void probes_arm(probes_t *probes)


cdef extern from "worker/refused.h" nogil:
    unsigned REFUSED_MAX

    struct refused:
        address address
        uint8_t inner_source[4]
        uint8_t inner_destination[4]
        uint32_t verdict
        uint64_t datagrams
        uint64_t seen_ns

    struct refused_table:
        pass

    bint refused_read(const refused_table *table, unsigned at, refused *found)


cdef extern from "worker/clock.h" nogil:
    uint64_t clock_ns()


cdef extern from "worker/impair_rule.h" nogil:
    uint32_t IMPAIR_MILLION
    uint32_t IMPAIR_SECONDS_MAX
    uint32_t IMPAIR_DELAY_US_MAX
    uint64_t IMPAIR_RATE_MIN

    struct impair_settings:
        address peer
        uint64_t seed
        uint64_t rate
        uint32_t loss
        uint32_t duplicate
        uint32_t corrupt
        uint32_t reorder
        uint32_t behind_us
        uint32_t delay_us
        uint32_t jitter_us

    struct impair_rule:
        pass

    int impair_rule_set(
        impair_rule *rule, const impair_settings *settings, uint64_t until_ns, uint64_t now_ns
    )
    void impair_rule_end(impair_rule *rule)


cdef extern from "worker/impair.h" nogil:
    unsigned IMPAIR_PLACES

    struct impair_counts_t "impair_counts":
        uint64_t packets
        uint64_t lost
        uint64_t corrupted
        uint64_t duplicated
        uint64_t reordered
        uint64_t overflowed
        uint64_t waiting

    struct impair:
        pass

    bint impair_reclaim(impair *impair, unsigned place)
    impair_counts_t impair_counts(const impair *impair, unsigned place)


cdef extern from "worker/pump.h" nogil:
    unsigned PUMP_VNET_HEADER
    unsigned PUMP_UDP_SEGMENT
    unsigned PUMP_UDP_GRO
    unsigned PUMP_COALESCE_TCP
    unsigned PUMP_COALESCE_UDP
    unsigned PUMP_PATH_REPORTS
    uint32_t PUMP_BATCH_MAX

    ctypedef int source_check_t "enum source_check"
    int SOURCE_CHECK_OFF
    int SOURCE_CHECK_WARN
    int SOURCE_CHECK_ENFORCE
    int OWN_ADDRESSES_MAX

    struct pump_t "pump":
        route_slot *routes
        const encap *encap
        icmp_limiter icmp_limiter
        int icmp_fd
        unsigned offloads
        unsigned families
        uint32_t mtu
        uint32_t batch
        uint32_t busy_poll_us
        uint8_t tun_address[4]
        source_check_t source_check
        uint8_t subnet[4]
        uint8_t subnet_length
        uint8_t own_count
        uint8_t own[4][4]
        probes_t probes
        bint allow_impair
        impair_rule impair[8]


cdef extern from "trace/ring.h" nogil:
    int TRACE_HEAD

    struct trace_record_t "trace_record":
        uint64_t time_ns
        uint8_t remote[4]
        uint16_t length
        uint8_t verdict
        uint8_t point
        uint16_t packets
        uint8_t captured
        uint8_t head[72]

    struct trace_ring:
        pass

    uint64_t trace_ring_written(const trace_ring *ring)
    size_t trace_ring_read(
        const trace_ring *ring, uint64_t *next, trace_record_t *found, size_t room, uint64_t *lost
    )


cdef extern from "trace/recorder.h" nogil:
    int RECORDER_PASSED
    int RECORDER_DROPPED
    int RECORDER_RINGS

    struct recorder_t "recorder":
        trace_ring rings[2]

    int recorder_init(recorder_t *recorder, size_t passed, size_t dropped)
    void recorder_destroy(recorder_t *recorder)
    void recorder_set_each(recorder_t *recorder, bint each)
    bint recorder_each(const recorder_t *recorder)


cdef extern from "process/process.h" nogil:
    struct process_capabilities_t "process_capabilities":
        uint64_t effective
        uint64_t permitted
        uint64_t inheritable

    int process_capabilities_get(process_capabilities_t *out)
    int process_capabilities_set(const process_capabilities_t *wanted)
    int process_bounding_drop(unsigned capability)
    int process_ambient_raise(unsigned capability)
    int process_no_new_privileges()
    int process_filter(const sock_fprog *program)


cdef extern from "worker/device.h" nogil:
    int DEVICE_QUEUES_MAX


cdef extern from "worker/delivery.h" nogil:
    int DELIVERY_TCP4
    int DELIVERY_TCP6
    int DELIVERY_UDP


cdef extern from "worker/histogram.h" nogil:
    int HISTOGRAM_BUCKETS


cdef extern from "worker/worker.h" nogil:
    unsigned c_WORKER_OUTBOUND "WORKER_OUTBOUND"
    unsigned c_WORKER_INBOUND "WORKER_INBOUND"
    int c_WORKER_MORE_OUTBOUND "WORKER_MORE_OUTBOUND"
    int c_WORKER_MORE_INBOUND "WORKER_MORE_INBOUND"
    int c_WORKER_BLOCKED "WORKER_BLOCKED"
    int c_WORKER_RETRY "WORKER_RETRY"

    struct worker_t "worker":
        pass

    int worker_create(
        worker_t **out,
        pump_t *pump,
        unsigned roles,
        const int *tun_fds,
        unsigned tun_count,
        int udp_fd,
    )
    void worker_record(worker_t *worker, recorder_t *recorder)
    void worker_finish(worker_t *worker)
    void worker_destroy(worker_t *worker)
    int worker_run(worker_t *worker)
    int worker_step(worker_t *worker, unsigned directions, unsigned batches)
    void worker_stop(worker_t *worker)
    void worker_coalesces(const worker_t *worker, fallback_state *coalesces)
    void worker_counts(const worker_t *worker, uint64_t *verdicts, uint64_t *counters)
    impair *worker_impair(const worker_t *worker)
    int worker_impair_offer(worker_t *worker, unsigned place)
    const refused_table *worker_refused(const worker_t *worker)

    struct worker_times_t "worker_times":
        uint64_t total
        uint64_t asleep
        uint64_t spinning

    worker_times_t worker_times(const worker_t *worker)
    uint64_t worker_histogram(const worker_t *worker, int which, uint64_t *buckets)
