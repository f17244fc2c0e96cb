/* SPDX-License-Identifier: Apache-2.0
 *
 * verdict: every verdict and every counter, each in one list.
 *
 * Owns: their names, directions, kinds and help texts; the enums, the name tables and what Python
 * sees are all made from the two lists below. Must not know: who counts, or where.
 *
 * A packet ends in exactly one verdict, so the verdicts of a direction add up to the packets of
 * that direction. Counters count everything else: system calls, batches, which path was taken, ICMP.
 * The names that people see are the enumerators in lower case.
 */
#ifndef UDPOVERLAY_VERDICT_H
#define UDPOVERLAY_VERDICT_H

/* outbound is always TUN -> UDP, inbound always UDP -> TUN. */
enum direction {
    DIRECTION_OUTBOUND,
    DIRECTION_INBOUND,
    DIRECTION_COUNT,
    DIRECTION_NONE = DIRECTION_COUNT
};

enum verdict_kind { VERDICT_KIND_OK, VERDICT_KIND_DROP };

/* X(name, direction, kind, help), in the order in which a packet can meet them. */
#define VERDICT_LIST(X)                                                                            \
    X(OUTBOUND_SENT, OUTBOUND, OK, "handed to the kernel for a peer")                              \
    X(OUTBOUND_TOO_SHORT, OUTBOUND, DROP, "shorter than an IP header")                             \
    X(OUTBOUND_WRONG_VERSION, OUTBOUND, DROP, "not an IP version that this tunnel carries")        \
    X(OUTBOUND_BAD_HEADER, OUTBOUND, DROP, "header length under 20 bytes or beyond the packet")    \
    X(OUTBOUND_BAD_LENGTH, OUTBOUND, DROP, "total length under the header or beyond the packet")   \
    X(OUTBOUND_BAD_OFFLOAD, OUTBOUND, DROP, "the kernel's offload header does not fit the packet") \
    X(OUTBOUND_OWN_DATAGRAM, OUTBOUND, DROP, "our own datagram, routed into the tunnel again")     \
    X(OUTBOUND_NO_ROUTE, OUTBOUND, DROP, "no peer has a subnet with the destination")              \
    X(OUTBOUND_TTL_EXPIRED, OUTBOUND, DROP, "TTL would become zero")                               \
    X(OUTBOUND_TOO_BIG, OUTBOUND, DROP, "longer than the peer's MTU; the peer would cut it")       \
    X(OUTBOUND_IMPAIRED, OUTBOUND, DROP, "lost on purpose: `udpoverlay impair`")                   \
    X(OUTBOUND_IMPAIR_FULL, OUTBOUND, DROP, "no room where `udpoverlay impair` holds it back")     \
    X(OUTBOUND_QUEUE_FULL, OUTBOUND, DROP, "no room to send it, in the end")                       \
    X(OUTBOUND_UNREACHABLE, OUTBOUND, DROP, "the underlay has no way to the peer")                 \
    X(OUTBOUND_FORBIDDEN, OUTBOUND, DROP, "a firewall rule of this host forbids the datagram")     \
    X(OUTBOUND_UNDERLAY_TOO_BIG, OUTBOUND, DROP, "the underlay refuses a datagram so long")        \
    X(OUTBOUND_SEND_FAILED, OUTBOUND, DROP, "the kernel refused to send it for another reason")    \
    X(INBOUND_DELIVERED, INBOUND, OK, "written to the TUN device")                                 \
    X(INBOUND_OVERSIZE, INBOUND, DROP, "longer than the tunnel's MTU; dropped, not cut")           \
    X(INBOUND_UNKNOWN_SENDER, INBOUND, DROP, "the sender's address is no peer's")                  \
    X(INBOUND_TOO_SHORT, INBOUND, DROP, "shorter than an IP header")                               \
    X(INBOUND_NOT_IP, INBOUND, DROP, "neither IPv4 nor IPv6: flannel's kernel refuses these too")  \
    X(INBOUND_WRONG_VERSION, INBOUND, DROP, "not an IP version that this tunnel carries")          \
    X(INBOUND_BAD_HEADER, INBOUND, DROP, "header length under 20 bytes or beyond the packet")      \
    X(INBOUND_BAD_LENGTH, INBOUND, DROP, "total length under the header or beyond the packet")     \
    X(INBOUND_PROBE, INBOUND, OK, "proves a peer's address: for the daemon, not for the host")     \
    X(INBOUND_MARTIAN_DESTINATION, INBOUND, DROP,                                                  \
      "to a loopback, link-local, multicast, broadcast or zero address")                           \
    X(INBOUND_FOREIGN_DESTINATION, INBOUND, DROP, "to an address outside this host's subnet")      \
    X(INBOUND_MARTIAN_SOURCE, INBOUND, DROP,                                                       \
      "from a loopback, link-local, multicast, broadcast or zero address, or one of our own")      \
    X(INBOUND_FOREIGN_SOURCE, INBOUND, DROP, "from an address outside the sender's subnet")        \
    X(INBOUND_TTL_EXPIRED, INBOUND, DROP, "TTL would become zero")                                 \
    X(INBOUND_QUEUE_FULL, INBOUND, DROP, "the TUN device's queue was full")                        \
    X(INBOUND_DEVICE_DOWN, INBOUND, DROP, "the TUN device is down")                                \
    X(INBOUND_WRITE_FAILED, INBOUND, DROP, "the kernel refused the packet on the TUN device")

/* X(name, direction, help): how often a value was up to a bound, by powers of two; a name that ends in
 * NS has nanoseconds. */
#define HISTOGRAM_LIST(X)                                                                      \
    X(OUTBOUND_BATCH_PACKETS, OUTBOUND, "packets and super-packets read from the TUN at once") \
    X(INBOUND_BATCH_PACKETS, INBOUND, "messages received from the UDP socket at once")         \
    X(OUTBOUND_SUPER_PACKETS, OUTBOUND, "segments of a super-packet read from the TUN")        \
    X(INBOUND_SUPER_PACKETS, INBOUND, "packets of a super-packet written to the TUN")          \
    X(OUTBOUND_BATCH_NS, OUTBOUND, "from the first packet of a batch read until all are sent") \
    X(INBOUND_BATCH_NS, INBOUND, "from the first message of a batch received until all are written")

/* X(name, direction, help); NONE: belongs to no direction. */
#define COUNTER_LIST(X)                                                                            \
    X(TUN_READ_CALLS, OUTBOUND, "read system calls on the TUN device")                             \
    X(TUN_WRITE_CALLS, INBOUND, "write system calls on the TUN device")                            \
    X(UDP_SEND_CALLS, OUTBOUND, "send system calls on the UDP socket")                             \
    X(UDP_RECEIVE_CALLS, INBOUND, "receive system calls on the UDP socket")                        \
    X(TUN_READ_FAILED, OUTBOUND, "reads on the TUN device that the kernel refused")                \
    X(TUN_SUPER_PACKETS, OUTBOUND, "super-packets read from the TUN device and segmented")         \
    X(UDP_SEND_BLOCKED, OUTBOUND, "sends that had to wait for room in the kernel")                 \
    X(UDP_SEGMENT_REFUSED, OUTBOUND, "segmented sends refused, sent one datagram each instead")    \
    X(UDP_RECEIVE_FAILED, INBOUND, "receives that reported an error of the network")               \
    X(UDP_GRO_RECEIVES, INBOUND, "messages in which the kernel had merged several datagrams")      \
    X(COALESCED_SUPER_PACKETS, INBOUND, "super-packets written to the TUN device")                 \
    X(COALESCE_BAD_CHECKSUMS, INBOUND, "packets delivered as they came for their wrong checksum")  \
    X(COALESCED_REFUSED, INBOUND,                                                                  \
      "super-packets refused by the TUN device, written packet by packet")                         \
    X(SLEEPS, NONE, "times a worker slept until there was something to do")                        \
    X(SPINS, NONE, "times a worker looked on for a while instead of sleeping")                     \
    X(SPIN_HITS, NONE, "of these, those in which something came")                                  \
    X(OUTBOUND_TAKEN, OUTBOUND,                                                                    \
      "packets read from the TUN device, those of super-packets counted")                          \
    X(INBOUND_TAKEN, INBOUND, "datagrams received from the UDP socket, merged ones counted")       \
    X(OUTBOUND_BATCHES, OUTBOUND, "batches of packets read from the TUN device")                   \
    X(INBOUND_BATCHES, INBOUND, "batches of datagrams received")                                   \
    X(OUTBOUND_BYTES, OUTBOUND, "inner bytes sent")                                                \
    X(INBOUND_BYTES, INBOUND, "inner bytes delivered")                                             \
    X(OUTBOUND_DUPLICATES, OUTBOUND, "copies of packets made on purpose: `udpoverlay impair`")     \
    X(OUTBOUND_FAST_PACKETS, OUTBOUND, "packets sent by the fast path (segmented sends)")          \
    X(OUTBOUND_PLAIN_PACKETS, OUTBOUND, "packets sent one datagram each")                          \
    X(INBOUND_FAST_PACKETS, INBOUND, "packets delivered by the fast path (coalesced writes)")      \
    X(INBOUND_PLAIN_PACKETS, INBOUND, "packets delivered one write each")                          \
    X(INBOUND_PAUSES, INBOUND, "turns given to the readers of UDP packets between two writes")     \
    X(WARNED_UNKNOWN_SENDER, INBOUND, "accepted with source-check warn: unknown sender")           \
    X(WARNED_FOREIGN_DESTINATION, INBOUND, "accepted with source-check warn: foreign destination") \
    X(WARNED_FOREIGN_SOURCE, INBOUND, "accepted with source-check warn: foreign source")           \
    X(PROBES_ANSWERED, NONE, "probes of a peer that were answered")                                \
    X(PROBES_LIMITED, NONE, "probes of a peer kept back by the rate limit")                        \
    X(ICMP_SENT, NONE, "ICMP errors that we originated, through the raw socket")                   \
    X(ICMP_LIMITED, NONE, "ICMP errors kept back by the rate limit")                               \
    X(ICMP_SUPPRESSED, NONE, "ICMP errors not due: the offender must not be answered")             \
    X(ICMP_UNVERIFIED, NONE, "ICMP errors not sent: the offender's address is not verified")       \
    X(ICMP_TO_TUN, NONE, "ICMP errors written to the TUN device without a raw socket")             \
    X(ICMP_FAILED, NONE, "ICMP errors that the kernel refused")

enum verdict {
#define X(name, direction, kind, help) VERDICT_##name,
    VERDICT_LIST(X)
#undef X
        VERDICT_COUNT
};

enum counter {
#define X(name, direction, help) COUNTER_##name,
    COUNTER_LIST(X)
#undef X
        COUNTER_COUNT
};

enum histogram_kind {
#define X(name, direction, help) HISTOGRAM_##name,
    HISTOGRAM_LIST(X)
#undef X
        HISTOGRAM_COUNT
};

struct verdict_facts {
    const char *name; /* the enumerator without VERDICT_ or COUNTER_ */
    enum direction direction;
    enum verdict_kind kind; /* OK for a counter and a histogram */
    const char *help;
};

extern const struct verdict_facts verdict_facts[VERDICT_COUNT];
extern const struct verdict_facts counter_facts[COUNTER_COUNT];
extern const struct verdict_facts histogram_facts[HISTOGRAM_COUNT];

#endif
