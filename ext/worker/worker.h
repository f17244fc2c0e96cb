/* SPDX-License-Identifier: Apache-2.0
 *
 * worker: moves packets between a TUN device and a UDP socket; the only system calls per packet.
 *
 * Owns: a worker's memory, its turns, its sleep and its stop; the order of the steps that a packet
 * goes through stands in outbound.c and inbound.c, each to be read from top to bottom.
 *
 *     outbound   TUN read -> check -> lookup -> TTL -> encapsulate or segment -> UDP send
 *     inbound    UDP receive -> sender -> check -> source check -> TTL -> coalesce -> TUN write
 *
 * A worker does one or both directions, in one thread at a time: `worker_run` moves packets and
 * sleeps in poll until `worker_stop`. For tests and benches `worker_step` moves what is there, up to
 * a budget, and returns.
 *
 * A bad packet is a counter. What is returned as an error ends the worker: the device is gone, a
 * descriptor is not what it should be.
 */
#ifndef UDPOVERLAY_WORKER_H
#define UDPOVERLAY_WORKER_H

#include <stdint.h>

#include "offload/fallback.h"
#include "worker/delivery.h"
#include "worker/impair.h"
#include "worker/pump.h"
#include "worker/refused.h"
#include "verdict.h"

enum worker_role { WORKER_OUTBOUND = 1U << 0, WORKER_INBOUND = 1U << 1 };

/* What worker_step found; or-ed. */
enum worker_state {
    WORKER_MORE_OUTBOUND = 1U << 0, /* the budget ended, the TUN may have more */
    WORKER_MORE_INBOUND = 1U << 1,  /* the same for the UDP socket */
    WORKER_BLOCKED = 1U
        << 2,               /* packets wait for room in the UDP socket: step again when writable */
    WORKER_RETRY = 1U << 3, /* packets wait for kernel memory: step again in a millisecond */
};

struct worker;

/* Makes a worker for `roles`. An outbound worker reads the first of the `tun_count` queues of the
 * TUN; an inbound one writes to all, a flow always to the same: the kernel hands the answers of a
 * flow to the queue that its packets were written to (drivers/net/tun.c, tun_flow_update).
 * 0 or -errno (-EINVAL: a value out of range); `*worker` is set on 0 alone. */
int worker_create(struct worker **worker, struct pump *pump, unsigned roles, const int *tun_fds,
                  unsigned tun_count, int udp_fd);

/* Records packets in `recorder`, which no other worker uses and which outlives this one. Before the first
 * packet. */
void worker_record(struct worker *worker, struct recorder *recorder);

/* Packets that still wait to be sent get a last try, then count as dropped. */
void worker_finish(struct worker *worker);

/* Finishes and frees. NULL is fine. */
void worker_destroy(struct worker *worker);

/* Moves packets until worker_stop. 0, or -errno of what ended it. */
int worker_run(struct worker *worker);

/* Moves up to `batches` batches for each of `directions`. enum worker_state or -errno. */
int worker_step(struct worker *worker, unsigned directions, unsigned batches);

/* Makes worker_run return soon, now or when it is called next. From any thread or a signal. */
void worker_stop(struct worker *worker);

/* Reads the counters while the worker runs: each is a true value of some recent moment. */
void worker_counts(const struct worker *worker, uint64_t verdicts[static VERDICT_COUNT],
                   uint64_t counters[static COUNTER_COUNT]);

/* What it spent its time on since worker_run began, in nanoseconds; zeros before. From any thread. */
struct worker_times {
    uint64_t total;
    uint64_t asleep;   /* in poll */
    uint64_t spinning; /* looking on without finding anything */
};

struct worker_times worker_times(const struct worker *worker);

/* The counts of one histogram (histogram.h), and the sum of its values. From any thread. */
uint64_t worker_histogram(const struct worker *worker, enum histogram_kind which,
                          uint64_t buckets[static HISTOGRAM_BUCKETS]);

/* What the TUN refused to take from this worker, by enum delivery_kind. From any thread. */
void worker_coalesces(const struct worker *worker,
                      struct fallback_state coalesces[static DELIVERY_KINDS]);

/* Control: where the worker's lanes are offered and reclaimed; NULL: it sends nothing, or the pump
 * does not allow impairments. */
struct impair *worker_impair(const struct worker *worker);

/* Control: impair_offer with room for this pump's datagrams; worker_impair is not NULL. */
int worker_impair_offer(struct worker *worker, unsigned place);

/* Who sent what the source check refused; for refused_read, while the worker runs. */
const struct refused_table *worker_refused(const struct worker *worker);

#endif
