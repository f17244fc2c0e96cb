/* SPDX-License-Identifier: Apache-2.0
 *
 * refused: who sent datagrams that the source check refused.
 *
 * Owns: a table of fixed size that one worker writes and anyone reads, and which senders stay in it
 * when more come than it holds. Must not know: why something was refused.
 *
 * Sets of four places, found by a hash of the address. A newcomer to a full set takes one credit
 * from the place that has the fewest, and its place when none is left (Misra and Gries 1982): who
 * sends steadily stays, whatever number of addresses a flood makes up.
 */
#ifndef UDPOVERLAY_REFUSED_H
#define UDPOVERLAY_REFUSED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "packet/address.h"

enum { REFUSED_SETS = 64, REFUSED_WAYS = 4, REFUSED_MAX = REFUSED_SETS * REFUSED_WAYS };

/* What is known of one sender. */
struct refused {
    struct address address;  /* outer source */
    uint8_t inner_source[4]; /* of the latest; zeros when it had none */
    uint8_t inner_destination[4];
    uint32_t verdict; /* enum verdict of the latest */
    uint32_t credit;
    uint64_t datagrams; /* since it has its place */
    uint64_t seen_ns;   /* the latest, on the monotonic clock */
};

/* A place as it lies in memory: its words are written between two odd-even steps of `sequence`, so
 * a reader that sees the same even number before and after has a whole copy. */
struct refused_place {
    _Atomic uint32_t sequence;
    _Atomic uint64_t words[sizeof(struct refused) / 8];
};

/* Starts as zeros: empty. */
struct refused_table {
    struct refused_place places[REFUSED_MAX];
};

/* Adds `datagrams` of a sender; `latest` has its address, inner addresses, verdict and time.
 * Writer only. */
void refused_add(struct refused_table *table, const struct refused *latest, uint32_t datagrams);

/* Copies place `at` (0..REFUSED_MAX - 1). False: free, or written just now. */
bool refused_read(const struct refused_table *table, unsigned at, struct refused *found);

#endif
