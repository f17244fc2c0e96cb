/* SPDX-License-Identifier: Apache-2.0 */
#include "routes/peer_counts.h"

static uint64_t value(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void peer_sum_add(struct peer_sum *sum, const struct peer_counts *row)
{
    const uint64_t heard = value(&row->heard_ns);

    for (int i = 0; i < VERDICT_COUNT; i++)
        sum->verdicts[i] += value(&row->verdicts[i]);
    for (int i = 0; i < DIRECTION_COUNT; i++)
        sum->bytes[i] += value(&row->bytes[i]);
    if (heard > sum->heard_ns)
        sum->heard_ns = heard;
}

void peer_sum_subtract(struct peer_sum *sum, const struct peer_sum *before)
{
    for (int i = 0; i < VERDICT_COUNT; i++)
        sum->verdicts[i] -= before->verdicts[i];
    for (int i = 0; i < DIRECTION_COUNT; i++)
        sum->bytes[i] -= before->bytes[i];
    if (sum->heard_ns <= before->heard_ns)
        sum->heard_ns = 0;
}

uint16_t peer_slots_take(struct peer_slots *slots, int *again)
{
    *again = 0;
    if (slots->waiting <= PEER_SLOTS_RESTING && slots->used < PEER_SLOTS - 1)
        return ++slots->used;
    if (slots->waiting == 0)
        return PEER_UNKNOWN;
    const uint16_t slot = slots->freed[slots->oldest];
    slots->oldest = (uint16_t)((slots->oldest + 1) % PEER_SLOTS);
    slots->waiting--;
    *again = 1;
    return slot;
}

void peer_slots_free(struct peer_slots *slots, uint16_t slot)
{
    if (slot != PEER_UNKNOWN)
        slots->freed[(slots->oldest + slots->waiting++) % PEER_SLOTS] = slot;
}
