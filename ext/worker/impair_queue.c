/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* MAP_ANONYMOUS, MAP_POPULATE */
#include "worker/impair_queue.h"

#include <sys/mman.h>

struct impair_queue *impair_queue_create(uint32_t datagram_max)
{
    const size_t slot_bytes = (sizeof(struct impair_slot) + datagram_max + IMPAIR_ALIGNMENT - 1) /
                              IMPAIR_ALIGNMENT * IMPAIR_ALIGNMENT;
    const size_t fit = IMPAIR_MEMORY / slot_bytes;
    const uint32_t packets = fit < IMPAIR_PACKETS ? (uint32_t)fit : IMPAIR_PACKETS;
    const size_t mapped = sizeof(struct impair_queue) + (packets + 1) * slot_bytes;
    struct impair_queue *queue = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (queue == MAP_FAILED)
        return NULL;
    queue->mapped = mapped;
    queue->slot_bytes = slot_bytes;
    for (uint32_t i = 0; i <= packets; i++)
        queue->free[i] = packets - i; /* the first slots come first, and stay in the cache */
    queue->free_count = packets + 1;
    return queue;
}

void impair_queue_destroy(struct impair_queue *queue)
{
    munmap(queue, queue->mapped);
}

/* ---- a binary heap -------------------------------------------------------------------------- */

void impair_queue_push(struct impair_queue *queue, uint64_t due_ns)
{
    const struct impair_waiting packet = {due_ns, queue->order++, queue->free[--queue->free_count]};
    uint32_t at = queue->count++;

    while (at > 0 && impair_before(&packet, &queue->heap[(at - 1) / 2])) {
        queue->heap[at] = queue->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->heap[at] = packet;
}

uint32_t impair_queue_pop(struct impair_queue *queue)
{
    const uint32_t slot = queue->heap[0].slot;
    const struct impair_waiting last = queue->heap[--queue->count];
    uint32_t at = 0, child;

    while ((child = 2 * at + 1) < queue->count) {
        if (child + 1 < queue->count && impair_before(&queue->heap[child + 1], &queue->heap[child]))
            child++;
        if (!impair_before(&queue->heap[child], &last))
            break;
        queue->heap[at] = queue->heap[child];
        at = child;
    }
    queue->heap[at] = last;
    return slot;
}
