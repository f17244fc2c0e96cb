/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/impair_rule.h"

#include <errno.h>

int impair_rule_set(struct impair_rule *rule, const struct impair_settings *settings,
                    uint64_t until_ns, uint64_t now_ns)
{
    const struct impair_settings *to = settings;

    if (to->loss > IMPAIR_MILLION || to->corrupt > IMPAIR_MILLION ||
        to->duplicate > IMPAIR_MILLION || to->reorder > IMPAIR_MILLION)
        return -EINVAL;
    if (to->delay_us > IMPAIR_DELAY_US_MAX || to->behind_us > IMPAIR_DELAY_US_MAX ||
        to->jitter_us > to->delay_us)
        return -EINVAL;
    if (to->rate > 0 && to->rate < IMPAIR_RATE_MIN)
        return -EINVAL;
    if (until_ns <= now_ns || until_ns - now_ns > IMPAIR_SECONDS_MAX * UINT64_C(1000000000))
        return -EINVAL;
    rule->settings = *settings;
    atomic_store_explicit(&rule->packets, 0, memory_order_relaxed);
    atomic_store_explicit(&rule->rate_free_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&rule->until_ns, until_ns, memory_order_release);
    return 0;
}

uint64_t impair_pass_rate(struct impair_rule *rule, uint64_t now_ns, uint32_t bytes)
{
    const uint64_t cost = bytes * UINT64_C(8000000000) / rule->settings.rate;
    uint64_t free = atomic_load_explicit(&rule->rate_free_ns, memory_order_relaxed), begin;

    do {
        begin = free > now_ns ? free : now_ns;
        if (begin - now_ns > IMPAIR_BACKLOG_MS * UINT64_C(1000000))
            return 0;
    } while (!atomic_compare_exchange_weak_explicit(&rule->rate_free_ns, &free, begin + cost,
                                                    memory_order_relaxed, memory_order_relaxed));
    return begin + cost;
}

/* Number `n` of the SplitMix64 sequence that begins with `seed`. */
static uint64_t splitmix(uint64_t seed, uint64_t n)
{
    uint64_t x = seed + (n + 1) * 0x9E3779B97F4A7C15U;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
    return x ^ (x >> 31);
}

uint64_t impair_draw(const struct impair_rule *rule, uint64_t packet, enum impair_draw kind,
                     uint64_t range)
{
    return (splitmix(rule->settings.seed, packet * IMPAIR_DRAWS + kind) >> 32) * range >> 32;
}
