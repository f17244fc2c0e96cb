/* SPDX-License-Identifier: Apache-2.0
 *
 * recorder: the flight recorder of one worker.
 *
 * Owns: what is recorded of a packet, and of which. Must not know: how records are kept (ring.h), who
 * reads them, what a verdict means.
 *
 * Of packets that the kernel took or gave at once, as one super-packet or one segmented send, the first is
 * recorded, with their number: they differ by little, and 45 records for 64 KB would cost as much as
 * the rest of the work. Who wants to see each of them says so.
 *
 * Packets that went their way and packets that were dropped have a ring each: at full speed the first
 * holds some milliseconds, and the second still what went wrong a minute ago.
 */
#ifndef UDPOVERLAY_RECORDER_H
#define UDPOVERLAY_RECORDER_H

#include <stdbool.h>
#include <sys/uio.h>

#include "trace/ring.h"

enum { RECORDER_PASSED, RECORDER_DROPPED, RECORDER_RINGS };

struct recorder {
    _Atomic uint32_t each; /* not 0: also each packet of a run, not its first alone */
    uint64_t now_ns;       /* of the batch at hand; the worker's own */
    struct trace_ring rings[RECORDER_RINGS];
};

/* What is recorded beside the packet itself. */
struct recorder_facts {
    uint8_t verdict, point;
    bool dropped;
    uint8_t header;   /* bytes in front of the inner packet */
    uint16_t packets; /* 1; of a run, all for its first and 0 for the others */
    uint32_t remote;  /* IPv4 address of the other host, network order; 0: not known */
};

/* Of zeros; places of each ring, powers of two. 0 or -ENOMEM, -EINVAL. */
int recorder_init(struct recorder *recorder, size_t passed, size_t dropped);

void recorder_destroy(struct recorder *recorder);

/* The packet of `count` pieces has come to its end. */
void recorder_put(struct recorder *recorder, const struct recorder_facts *facts,
                  const struct iovec *pieces, unsigned count);

/* From any thread: whether each packet of a run is recorded, too. */
void recorder_set_each(struct recorder *recorder, bool each);
bool recorder_each(const struct recorder *recorder);

/* Whether an event of so many packets (recorder_facts) is recorded; `recorder` NULL: none is. */
static inline bool recorder_takes(const struct recorder *recorder, uint16_t packets)
{
    return recorder && (packets || atomic_load_explicit(&recorder->each, memory_order_relaxed));
}

#endif
