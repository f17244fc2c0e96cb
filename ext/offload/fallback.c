/* SPDX-License-Identifier: Apache-2.0 */
#include "offload/fallback.h"

#define SECOND 1000000000ULL

const char *const fallback_cause_help[FALLBACK_CAUSE_COUNT] = {
#define X(name, help) help,
    FALLBACK_CAUSE_LIST(X)
#undef X
};

#define LOAD(field)         atomic_load_explicit(&fallback->field, memory_order_relaxed)
#define STORE(field, value) atomic_store_explicit(&fallback->field, value, memory_order_relaxed)

bool fallback_tries(const struct fallback *fallback, uint32_t size, uint64_t now)
{
    uint64_t retry_at = LOAD(retry_at);
    return retry_at == 0 || now >= retry_at || size < LOAD(size);
}

void fallback_refused(struct fallback *fallback, enum fallback_cause cause, uint32_t size,
                      uint64_t now)
{
    const uint64_t retry_at = LOAD(retry_at);
    uint32_t pause = LOAD(pause_s);

    if (retry_at != 0 && now < retry_at) {
        /* One more of the same batch, another worker's, or a smaller size. */
        if (size < LOAD(size))
            STORE(size, size);
        return;
    }
    if (pause == 0 || (retry_at == 0 && now - LOAD(worked_at) >= pause * SECOND))
        pause = FALLBACK_FIRST_S;
    else if (pause < FALLBACK_LONGEST_S)
        pause *= 2;
    STORE(pause_s, pause);
    STORE(size, size);
    STORE(cause, cause);
    STORE(count, LOAD(count) + 1);
    STORE(retry_at, now + pause * SECOND);
}

void fallback_worked(struct fallback *fallback, uint32_t size, uint64_t now)
{
    uint64_t retry_at = LOAD(retry_at);

    if (retry_at == 0 || now < retry_at || size < LOAD(size))
        return;
    STORE(worked_at, now);
    STORE(retry_at, 0);
}

struct fallback_state fallback_look(const struct fallback *fallback)
{
    return (struct fallback_state){
        .retry_at = LOAD(retry_at),
        .pause_s = LOAD(pause_s),
        .size = LOAD(size),
        .cause = LOAD(cause),
        .count = LOAD(count),
    };
}
