/* SPDX-License-Identifier: Apache-2.0
 *
 * outbound: TUN -> UDP, one batch at a time; outbound.c reads in the order in which a packet meets it.
 *
 * Owns: the packets that a worker read from the device until they are sent, and the decision about
 * each. Must not know: how datagrams are sent (tx_batch.h), who sleeps when.
 */
#ifndef UDPOVERLAY_OUTBOUND_H
#define UDPOVERLAY_OUTBOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "offload/offload.h"
#include "worker/device.h"
#include "worker/impair.h"
#include "worker/pump.h"
#include "worker/tx_batch.h"

enum {
    /* Room in front of each packet read from the TUN: the vnet header when it arrives, then the
     * encapsulation header in its place. A multiple of 8 keeps the IP header aligned. */
    HEADROOM = 32,
    /* Packets of one outbound batch stand here one after the other; a read needs room for the
     * longest, and the batch ends when less is left: after two super-packets, as more make the
     * receiver's host wait longer and the caches colder. */
    OUTBOUND_PACKETS = 2 * (DEVICE_PACKET_MAX + 1 + HEADROOM) + 4096,
    /* Headers of the segments that super-packets were segmented into. */
    OUTBOUND_HEADERS = 4 * SEGMENT_HEADERS_SIZE,
};

struct outbound {
    struct pump *pump;
    struct stats *stats;
    const struct device *device;
    const struct route_table *table; /* valid within a batch */
    struct {
        uint8_t address[4], port[2];
    } own; /* what the UDP socket sends from, in network order; zeros when it is no IPv4 socket */
    bool moved;            /* a batch had something; cleared by the caller */
    uint64_t began_ns;     /* the batch at hand, or that waits; 0: none */
    uint64_t taken;        /* packets in it, those of super-packets counted */
    struct impair *impair; /* NULL: not allowed */
    bool impaired;         /* within a batch: some peer is */
    uint8_t *packets;
    size_t packets_used;
    uint8_t *headers;
    size_t headers_used;
    /* A super-packet of which segments are still to be made, when one batch has no room for all. */
    bool segmenting;
    struct segmenter segmenter;
    struct nexthop hop; /* where it goes: a copy, as the table may be replaced meanwhile */
    struct tx_batch batch;
};

/* Of zeros; `packets` has room for OUTBOUND_PACKETS bytes, `headers` for OUTBOUND_HEADERS. */
void outbound_init(struct outbound *outbound, struct pump *pump, const struct device *device,
                   int udp_fd, uint8_t *packets, uint8_t *headers);

/* One batch with the routes of `table`: enum batch_end, or -errno that ends the worker. */
int outbound_batch(struct outbound *outbound, const struct route_table *table);

/* How long the worker may sleep at most for what waits here, in milliseconds; -1: for ever. */
static inline int outbound_sleep_ms(const struct outbound *outbound)
{
    return outbound->impair ? impair_sleep_ms(outbound->impair) : -1;
}

/* A last try for what waits, then it counts as dropped: packets, and segments not made yet. */
void outbound_finish(struct outbound *outbound);

#endif
