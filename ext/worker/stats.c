/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/stats.h"

void stats_read(const struct stats *stats, uint64_t verdicts[static VERDICT_COUNT],
                uint64_t counters[static COUNTER_COUNT])
{
    for (int i = 0; i < COUNTER_COUNT; i++)
        counters[i] = atomic_load_explicit(&stats->counters[i], memory_order_acquire);
    for (int i = 0; i < VERDICT_COUNT; i++)
        verdicts[i] = atomic_load_explicit(&stats->verdicts[i], memory_order_relaxed);
}
