/* SPDX-License-Identifier: Apache-2.0
 *
 * stats: what one worker counts.
 *
 * Owns: the verdicts and counters of a worker, in all and by peer. Must not know: what a packet is
 * (event.h), who reads.
 *
 * Every counter has one writer, the worker, and stands on cache lines that no other worker writes;
 * anyone may read at any time.
 */
#ifndef UDPOVERLAY_STATS_H
#define UDPOVERLAY_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "routes/peer_counts.h"
#include "verdict.h"
#include "worker/histogram.h"

enum { CACHE_LINE = 64 };

struct recorder;

struct stats {
    _Alignas(CACHE_LINE) _Atomic uint64_t verdicts[VERDICT_COUNT];
    _Atomic uint64_t counters[COUNTER_COUNT];
    struct histogram histograms[HISTOGRAM_COUNT];
    struct peer_counts *peers;       /* PEER_SLOTS rows */
    uint64_t now_ns;                 /* of this inbound batch, to the tick; the worker's own */
    struct recorder *recorder;       /* NULL: none */
    const _Atomic uint32_t *remotes; /* IPv4 address of each peer slot, network order */
};

/* One writer: a plain addition, made readable for others. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

static inline void stats_count(struct stats *stats, enum counter counter, uint64_t amount)
{
    counter_add(&stats->counters[counter], amount);
}

/* Copies all of them: each is a true value of some recent moment, and no verdict is older than the
 * counts of packets taken, so that these are never ahead. */
void stats_read(const struct stats *stats, uint64_t verdicts[static VERDICT_COUNT],
                uint64_t counters[static COUNTER_COUNT]);

#endif
