/* SPDX-License-Identifier: Apache-2.0
 *
 * impair_queue: datagrams that are held back, by when they are due.
 *
 * Owns: their memory, one mapping that is made as a whole, and their order: the earliest, and of
 * equal ones the first that came, leaves first. Must not know: why they wait.
 */
#ifndef UDPOVERLAY_IMPAIR_QUEUE_H
#define UDPOVERLAY_IMPAIR_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "routes/peers.h"

enum {
    IMPAIR_PACKETS = 4096, /* that wait in one queue, and no more bytes than */
    IMPAIR_MEMORY = 16 << 20,
    IMPAIR_ALIGNMENT = 64,
};

/* What stands in front of a datagram's bytes. */
struct impair_slot {
    struct endpoint endpoint;
    uint32_t length;
    uint16_t peer;  /* slot that it counts under */
    uint8_t header; /* bytes in front of the packet */
    _Alignas(8) uint8_t bytes[];
};

struct impair_waiting {
    uint64_t due_ns;
    uint64_t order;
    uint32_t slot;
};

/* The last slot that is free is written to next. There is always one: also with a full queue a
 * datagram has to be written somewhere before its fate is known. */
struct impair_queue {
    size_t mapped, slot_bytes;
    uint32_t count, free_count;
    uint64_t order;
    struct impair_waiting heap[IMPAIR_PACKETS];
    uint32_t free[IMPAIR_PACKETS + 1];
    _Alignas(IMPAIR_ALIGNMENT) uint8_t slots[];
};

/* Room for datagrams of so many bytes; NULL: no memory. */
struct impair_queue *impair_queue_create(uint32_t datagram_max);

void impair_queue_destroy(struct impair_queue *queue);

static inline struct impair_slot *impair_queue_slot(struct impair_queue *queue, uint32_t slot)
{
    return (struct impair_slot *)(queue->slots + slot * queue->slot_bytes);
}

/* Where the next datagram is written. */
static inline struct impair_slot *impair_queue_next(struct impair_queue *queue)
{
    return impair_queue_slot(queue, queue->free[queue->free_count - 1]);
}

static inline bool impair_queue_full(const struct impair_queue *queue)
{
    return queue->free_count == 1;
}

/* The datagram at impair_queue_next waits until then. Precondition: not full. */
void impair_queue_push(struct impair_queue *queue, uint64_t due_ns);

/* The slot of the first one: its memory stays as it is until impair_queue_free. Precondition: one
 * waits. */
uint32_t impair_queue_pop(struct impair_queue *queue);

static inline void impair_queue_free(struct impair_queue *queue, uint32_t slot)
{
    queue->free[queue->free_count++] = slot;
}

/* Whether `one` leaves before `other`. */
static inline bool impair_before(const struct impair_waiting *one,
                                 const struct impair_waiting *other)
{
    return one->due_ns != other->due_ns ? one->due_ns < other->due_ns : one->order < other->order;
}

#endif
