/* SPDX-License-Identifier: Apache-2.0 */
#include "trace/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int trace_ring_init(struct trace_ring *ring, size_t places)
{
    if (places < 2 || (places & (places - 1)))
        return -EINVAL;
    ring->places = calloc(places, sizeof(*ring->places));
    if (!ring->places)
        return -ENOMEM;
    ring->mask = places - 1;
    return 0;
}

void trace_ring_destroy(struct trace_ring *ring)
{
    free((void *)ring->places);
    ring->places = NULL;
}

/* Each word is stored with release: a reader that sees one of them also sees that `written` has come as far
 * as this place, so that a reader never takes the new record for the old one. */
void trace_ring_put(struct trace_ring *ring, const struct trace_record *record)
{
    const uint64_t number = atomic_load_explicit(&ring->written, memory_order_relaxed);
    _Atomic uint64_t *place = ring->places[number & ring->mask];
    uint64_t words[TRACE_WORDS];

    memcpy(words, record, sizeof(words));
    for (int i = 0; i < TRACE_WORDS; i++)
        atomic_store_explicit(&place[i], words[i], memory_order_release);
    atomic_store_explicit(&ring->written, number + 1, memory_order_release);
}

size_t trace_ring_read(const struct trace_ring *ring, uint64_t *next, struct trace_record *found,
                       size_t room, uint64_t *lost)
{
    const uint64_t written = atomic_load_explicit(&ring->written, memory_order_acquire);
    size_t count = 0;

    if (*next > written)
        *next = written;
    /* The oldest place is the next to be written over, maybe now. */
    if (written - *next > ring->mask) {
        *lost += written - ring->mask - *next;
        *next = written - ring->mask;
    }
    for (; *next < written && count < room; ++*next) {
        const _Atomic uint64_t *place = ring->places[*next & ring->mask];
        uint64_t words[TRACE_WORDS];

        for (int i = 0; i < TRACE_WORDS; i++)
            words[i] = atomic_load_explicit(&place[i], memory_order_acquire);
        if (atomic_load_explicit(&ring->written, memory_order_acquire) - *next > ring->mask) {
            ++*lost;
            continue;
        }
        memcpy(&found[count++], words, sizeof(words));
    }
    return count;
}
