/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_counts: what is counted of each peer.
 *
 * Owns: slots, the dense numbers by which packets name their peer; a worker's rows of counters, one a
 * slot; their sums. Must not know: who is counted (peers.h), who counts (worker/event.h).
 *
 * A row has one writer, a worker, and any thread may read it at any time. It is never set to zero, so a
 * slot that is used again starts from what its row says then. A slot rests before that: a datagram that
 * waits in a blocked socket keeps its number when its peer is gone.
 *
 * Slot 0 is no peer's: packets whose peer is not known, and those of peers beyond PEER_SLOTS.
 */
#ifndef UDPOVERLAY_PEER_COUNTS_H
#define UDPOVERLAY_PEER_COUNTS_H

#include <stdatomic.h>
#include <stdint.h>

#include "verdict.h"

enum {
    PEER_SLOTS = 16384,
    PEER_UNKNOWN = 0,
    PEER_SLOTS_RESTING = 1024, /* that many others are given up before a slot is used again */
};

/* One worker's row of one slot; zeros to begin with. */
struct peer_counts {
    _Atomic uint64_t verdicts[VERDICT_COUNT];
    _Atomic uint64_t bytes[DIRECTION_COUNT]; /* of inner packets sent, delivered */
    _Atomic uint64_t
        heard_ns; /* when a datagram of its came last, on the monotonic clock; 0: never */
};

/* The same, added up. */
struct peer_sum {
    uint64_t verdicts[VERDICT_COUNT];
    uint64_t bytes[DIRECTION_COUNT];
    uint64_t heard_ns;
};

/* Adds a row; of two times the later one. */
void peer_sum_add(struct peer_sum *sum, const struct peer_counts *row);

/* Takes `before` off again; a time that is not later than `before`'s is none. */
void peer_sum_subtract(struct peer_sum *sum, const struct peer_sum *before);

/* Which slots are free. Starts as zeros. */
struct peer_slots {
    uint16_t used; /* 1 ... used have been handed out at some time */
    uint16_t oldest, waiting;
    uint16_t freed[PEER_SLOTS]; /* a ring: freed[oldest] is given up for the longest time */
};

/* A free slot, PEER_UNKNOWN when there is none. `*again`: it had another owner before. */
uint16_t peer_slots_take(struct peer_slots *slots, int *again);

/* Gives it up; PEER_UNKNOWN is ignored. */
void peer_slots_free(struct peer_slots *slots, uint16_t slot);

#endif
