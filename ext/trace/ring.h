/* SPDX-License-Identifier: Apache-2.0
 *
 * ring: the last packets that one worker was done with.
 *
 * Owns: the record of a packet, how one writer and any number of readers share a bounded memory
 * without a lock. Must not know: which packets are recorded (recorder.h), what is made of them.
 *
 * The writer never waits and never looks at readers: it writes over the oldest record. A reader copies
 * records out and then looks how far the writer is; what may have been written over in the meantime
 * it counts as lost.
 */
#ifndef UDPOVERLAY_RING_H
#define UDPOVERLAY_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TRACE_HEAD = 72, /* bytes kept: IPv6 and TCP with its usual options */
    TRACE_WORDS = 12,
};

/* One packet's end. */
struct trace_record {
    uint64_t time_ns;  /* of its batch, on the monotonic clock */
    uint8_t remote[4]; /* IPv4 address of the other host; zeros: not known */
    uint16_t length;   /* bytes of the inner packet */
    uint8_t verdict;   /* enum verdict */
    uint8_t point;     /* enum packet_point: how far it came */
    uint16_t packets;  /* sent or written at once with it, itself included; those have no record */
    uint8_t captured;  /* bytes of `head`; 0: nothing of the packet was at hand any more */
    uint8_t reserved[5];
    uint8_t head[TRACE_HEAD]; /* the inner packet from its first byte, as it was at `point` */
};

_Static_assert(sizeof(struct trace_record) == TRACE_WORDS * sizeof(uint64_t), "whole words");

typedef _Atomic uint64_t trace_words[TRACE_WORDS];

struct trace_ring {
    _Alignas(64) _Atomic uint64_t written; /* records, ever */
    size_t mask;                           /* places less one, a power of two less one */
    trace_words *places;
};

/* Of zeros; `places` is a power of two from 2 on. 0 or -ENOMEM, -EINVAL. */
int trace_ring_init(struct trace_ring *ring, size_t places);

void trace_ring_destroy(struct trace_ring *ring);

/* By the one writer. */
void trace_ring_put(struct trace_ring *ring, const struct trace_record *record);

/* How many records were put in, ever: the number of the next. From any thread, as is the next. */
static inline uint64_t trace_ring_written(const struct trace_ring *ring)
{
    return atomic_load_explicit(&ring->written, memory_order_acquire);
}

/*
 * Copies up to `room` records from number `*next` on, the oldest first. `*next` is
 * then the number to go on with. `*lost` grows by the records in between that are gone. A `*next` beyond
 * the newest is taken back to it.
 */
size_t trace_ring_read(const struct trace_ring *ring, uint64_t *next, struct trace_record *found,
                       size_t room, uint64_t *lost);

#endif
