/* SPDX-License-Identifier: Apache-2.0
 *
 * histogram: how often a value was how large, in powers of two.
 *
 * Owns: the bounds. Must not know: what is measured. One writer, any readers, as with counters.
 */
#ifndef UDPOVERLAY_HISTOGRAM_H
#define UDPOVERLAY_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    HISTOGRAM_BUCKETS = 16, /* up to 1, 2, 4, ... 16384 units, and more */
    HISTOGRAM_UNIT_NS = 1000,
};

struct histogram {
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS]; /* [i]: up to 2^i units, more than 2^(i-1) */
    _Atomic uint64_t sum;                        /* of all values */
};

/* The bucket of `units`. */
static inline unsigned histogram_bucket(uint64_t units)
{
    if (units <= 1)
        return 0;
    const unsigned bits = 64U - (unsigned)__builtin_clzll(units - 1);
    return bits < HISTOGRAM_BUCKETS - 1 ? bits : HISTOGRAM_BUCKETS - 1;
}

static inline void histogram_add_to(_Atomic uint64_t *count, uint64_t amount)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

static inline void histogram_count(struct histogram *histogram, uint64_t value)
{
    histogram_add_to(&histogram->buckets[histogram_bucket(value)], 1);
    histogram_add_to(&histogram->sum, value);
}

/* The same for nanoseconds: a unit is a microsecond, begun ones count whole. */
static inline void histogram_time(struct histogram *histogram, uint64_t ns)
{
    histogram_add_to(
        &histogram->buckets[histogram_bucket((ns + HISTOGRAM_UNIT_NS - 1) / HISTOGRAM_UNIT_NS)], 1);
    histogram_add_to(&histogram->sum, ns);
}

#endif
