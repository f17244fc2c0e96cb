/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/refused.h"

#include <string.h>

enum { WORDS = sizeof(struct refused) / 8, CREDIT_MAX = 1000 };

_Static_assert(sizeof(struct refused) % 8 == 0, "copied by words");

static unsigned set_of(const struct address *address)
{
    uint64_t halves[2];
    memcpy(halves, address->bytes, sizeof(halves));
    uint64_t mixed = halves[0] ^ halves[1];
    mixed = (mixed ^ mixed >> 32) * 0x9E3779B97F4A7C15U;
    return (unsigned)(mixed >> 58);
}

static void load(const struct refused_place *place, struct refused *found)
{
    uint64_t words[WORDS];
    for (unsigned i = 0; i < WORDS; i++)
        words[i] = atomic_load_explicit(&place->words[i], memory_order_relaxed);
    memcpy(found, words, sizeof(words));
}

static void store(struct refused_place *place, const struct refused *value)
{
    uint64_t words[WORDS];
    const uint32_t sequence = atomic_load_explicit(&place->sequence, memory_order_relaxed);

    memcpy(words, value, sizeof(words));
    atomic_store_explicit(&place->sequence, sequence + 1, memory_order_relaxed);
    for (unsigned i = 0; i < WORDS; i++)
        atomic_store_explicit(&place->words[i], words[i], memory_order_release);
    atomic_store_explicit(&place->sequence, sequence + 2, memory_order_release);
}

/* A free place goes before one without credit. */
static uint32_t worth(const struct refused *at)
{
    return at->datagrams ? at->credit + 1 : 0;
}

void refused_add(struct refused_table *table, const struct refused *latest, uint32_t datagrams)
{
    struct refused_place *set = &table->places[(size_t)set_of(&latest->address) * REFUSED_WAYS];
    struct refused_place *weakest = &set[0];
    struct refused at, poorest;

    for (unsigned i = 0; i < REFUSED_WAYS; i++) {
        load(&set[i], &at);
        if (at.datagrams && memcmp(&at.address, &latest->address, sizeof(at.address)) == 0) {
            const uint32_t credit = at.credit + datagrams;
            const uint64_t before = at.datagrams;
            at = *latest;
            at.datagrams = before + datagrams;
            at.credit = credit < CREDIT_MAX ? credit : CREDIT_MAX;
            store(&set[i], &at);
            return;
        }
        if (i == 0 || worth(&at) < worth(&poorest)) {
            weakest = &set[i];
            poorest = at;
        }
    }
    if (poorest.credit > 0) {
        poorest.credit--;
        store(weakest, &poorest);
        return;
    }
    at = *latest;
    at.datagrams = datagrams;
    at.credit = datagrams < CREDIT_MAX ? datagrams : CREDIT_MAX;
    store(weakest, &at);
}

bool refused_read(const struct refused_table *table, unsigned at, struct refused *found)
{
    const struct refused_place *place = &table->places[at];
    const uint32_t before = atomic_load_explicit(&place->sequence, memory_order_acquire);

    load(place, found);
    atomic_thread_fence(memory_order_acquire);
    return (before & 1) == 0 && found->datagrams > 0 &&
           atomic_load_explicit(&place->sequence, memory_order_relaxed) == before;
}
