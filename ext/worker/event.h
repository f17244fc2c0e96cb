/* SPDX-License-Identifier: Apache-2.0
 *
 * event: the end of a packet's way through the tunnel.
 *
 * Owns: the one place through which every packet passes exactly once, with its verdict; what others
 * may learn of a packet has its home here. Must not know: who decides, who reads.
 *
 *     host ──► TUN in ──► UDP out ──► underlay          host ◄── TUN out ◄── UDP in ◄── underlay
 */
#ifndef UDPOVERLAY_EVENT_H
#define UDPOVERLAY_EVENT_H

#include <stdint.h>
#include <sys/uio.h>

#include "trace/recorder.h"
#include "trace/usdt.h"
#include "worker/clock.h"
#include "worker/stats.h"

/* How far the packet came. */
enum packet_point { POINT_TUN_IN, POINT_UDP_OUT, POINT_UDP_IN, POINT_TUN_OUT };

struct packet_event {
    enum verdict verdict;
    enum packet_point point;
    uint16_t peer;              /* slot (routes/peer_counts.h); PEER_UNKNOWN */
    uint8_t header;             /* bytes of the first piece in front of the inner packet */
    uint8_t count;              /* of `pieces`; 0 where nothing of the packet is at hand */
    const struct iovec *pieces; /* what is at hand of it; valid during the call */
    uint16_t run;          /* packets sent or written at once, this the first; 0: a later one */
    const uint8_t *remote; /* IPv4 address of a host that is no peer; NULL: not known */
};

/* Hands it to the flight recorder. */
void packet_record(struct stats *stats, const struct packet_event *event);

/* Hands it to those who listen at the probe. */
__attribute__((cold)) void packet_probe(const struct stats *stats,
                                        const struct packet_event *event);

/* Counts, for the tunnel and for the peer; records; and tells who listens. */
static inline void packet_event(struct stats *stats, struct packet_event event)
{
    struct peer_counts *row = &stats->peers[event.peer];

    counter_add(&stats->verdicts[event.verdict], 1);
    counter_add(&row->verdicts[event.verdict], 1);
    if (event.point >= POINT_UDP_IN)
        atomic_store_explicit(&row->heard_ns, stats->now_ns, memory_order_relaxed);
    if (recorder_takes(stats->recorder, event.run))
        packet_record(stats, &event);
    if (usdt_is_on())
        packet_probe(stats, &event);
}

/* A batch has packets: the time, also what they are recorded with. */
static inline uint64_t packet_batch(struct stats *stats)
{
    const uint64_t now = clock_ns();

    if (stats->recorder)
        stats->recorder->now_ns = now;
    return now;
}

/* So many packets of a direction were taken, and each that does not wait has its verdict. */
static inline void packets_taken(struct stats *stats, enum counter taken, uint64_t packets)
{
    _Atomic uint64_t *count = &stats->counters[taken];

    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + packets,
                          memory_order_release);
}

/* Bytes of inner packets that a peer was sent, or that were delivered from it. */
static inline void packet_bytes(struct stats *stats, enum direction direction, uint16_t peer,
                                uint64_t bytes)
{
    const enum counter total =
        direction == DIRECTION_OUTBOUND ? COUNTER_OUTBOUND_BYTES : COUNTER_INBOUND_BYTES;

    stats_count(stats, total, bytes);
    counter_add(&stats->peers[peer].bytes[direction], bytes);
}

#endif
