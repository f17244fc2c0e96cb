/* SPDX-License-Identifier: Apache-2.0
 *
 * stats: what one worker counts.
 *
 * Owns: the verdicts and counters of a worker, and the one place where a packet's verdict is
 * recorded. Must not know: who decides, who reads.
 *
 * Every counter has one writer, the worker, and stands on cache lines that no other worker writes;
 * anyone may read at any time.
 */
#ifndef UDPOVERLAY_STATS_H
#define UDPOVERLAY_STATS_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/uio.h>

#include "verdict.h"

enum { CACHE_LINE = 64 };

struct stats {
    _Alignas(CACHE_LINE) _Atomic uint64_t verdicts[VERDICT_COUNT];
    _Atomic uint64_t counters[COUNTER_COUNT];
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

/* The one place where a packet's verdict is recorded. `packet` has what is at hand of it from the
 * version on, in `pieces` (0 when nothing is). */
static inline void stats_verdict(struct stats *stats, enum verdict verdict,
                                 const struct iovec *packet, unsigned pieces)
{
    (void)packet;
    (void)pieces;
    counter_add(&stats->verdicts[verdict], 1);
}

/* Copies all of them: each is a true value of some recent moment. */
void stats_read(const struct stats *stats, uint64_t verdicts[static VERDICT_COUNT],
                uint64_t counters[static COUNTER_COUNT]);

#endif
