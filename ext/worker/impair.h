/* SPDX-License-Identifier: Apache-2.0
 *
 * impair: makes the way to a peer worse, on purpose, for a limited time.
 *
 * What netem does to an interface, done to what leaves for one peer, where neither netem nor rights
 * on the underlay are at hand. It stands behind all decisions about a packet, before the send:
 *
 *     lookup -> TTL -> impaired? -no--> encapsulate or segment -----------> tx batch
 *                          +-yes-> one packet at a time, copied:
 *                                  lost? corrupted? twice? when? -> queue -> tx batch, when due
 *
 * Inbound is the peer's outbound: impair both ends for both ways.
 *
 * Terminology:
 *
 *     rule    what is to happen to a peer's packets, and until when; shared by all workers
 *     place   where a rule stands; there are IMPAIR_PLACES
 *     lane    a worker's part of a place: its queue and what it counted
 *
 * Without --allow-impair a worker has no `struct impair`. With it, and with no rule, a batch costs
 * one load. Memory comes from control when a rule is set and goes when it is over, by a hand-over:
 *
 *     EMPTY --offer, control--> OFFERED --worker--> TAKEN --over and all sent, worker--> DONE
 *       ^---- control takes back -'                                                       |
 *       ^------------------------------- control frees -----------------------------------'
 *
 * The worker itself ends a rule, by the monotonic clock, also when control hangs. Over, what waits
 * is sent at once.
 *
 * Owns: lanes, their hand-over, the fate of a packet. Must not know: who asked for it, how packets
 * are sent, what chances are made of (impair_rule.h), how a queue is made (impair_queue.h).
 */
#ifndef UDPOVERLAY_IMPAIR_H
#define UDPOVERLAY_IMPAIR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "routes/routes.h"
#include "worker/event.h"
#include "worker/impair_rule.h"

enum {
    IMPAIR_PLACES = 8,
    IMPAIR_LOOK_MS = 100, /* a worker with a rule sleeps no longer: it may be over */
    IMPAIR_SENT_MAX = 64, /* packets of the queues that one batch sends */
};

/* What a lane did; each has one writer, the worker. */
struct impair_counts {
    uint64_t packets, lost, corrupted, duplicated, reordered;
    uint64_t overflowed; /* dropped for a full queue, or a backlog of the limited rate */
    uint64_t waiting;    /* now */
};

struct impair; /* one worker's lanes */

/* Control. For a worker that counts in `stats`; `rules` has IMPAIR_PLACES. NULL: no memory. */
struct impair *impair_create(struct stats *stats, struct impair_rule *rules);

/* Control, when the worker has ended. */
void impair_destroy(struct impair *impair);

/* Control: the worker goes by the rule at `place` from its next batch on; datagrams have
 * `datagram_max` bytes at most. 0, -EBUSY: the lane is not EMPTY; -ENOMEM. */
int impair_offer(struct impair *impair, unsigned place, uint32_t datagram_max);

/* Control: frees the queue at `place` unless the worker still uses it. Whether the lane is EMPTY. */
bool impair_reclaim(struct impair *impair, unsigned place);

/* Any thread: each is a true value of some recent moment; zeros at the next offer. */
struct impair_counts impair_counts(const struct impair *impair, unsigned place);

/* ---- the worker's side ---------------------------------------------------------------------- */

/* A batch begins, with all that was sent before out of the tx batch: takes what was offered, gives
 * back what is over. Whether some rule holds, or some packet waits. */
bool impair_begin(struct impair *impair);

struct impair_lane;

/* The lane of packets to that endpoint; NULL: they are not impaired. */
struct impair_lane *impair_lane(struct impair *impair, const struct endpoint *endpoint);

/* Where the next datagram for that lane is to be written, and the room there in bytes. */
uint8_t *impair_room(struct impair_lane *lane, size_t *room);

/* The datagram of `length` bytes is written, with an IP header of `ip_header` bytes behind the
 * tunnel's; here its fate is decided. */
void impair_add(struct impair *impair, struct impair_lane *lane, const struct nexthop *hop,
                uint32_t length, uint32_t ip_header);

/* How many of the packets added since impair_begin are due already. */
unsigned impair_ready(const struct impair *impair);

/* One datagram that goes out now: it stays where it is until the next impair_begin. */
struct impair_due {
    struct nexthop hop; /* without a peer: that may be gone */
    uint8_t *datagram;
    uint32_t length;
};

/* The next one that is due (all: due or not); false: none is, or IMPAIR_SENT_MAX were taken. */
bool impair_take(struct impair *impair, bool all, struct impair_due *due);

/* How long a worker with nothing else to do may sleep, in milliseconds; -1: for ever. */
int impair_sleep_ms(const struct impair *impair);

#endif
