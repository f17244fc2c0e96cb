/* SPDX-License-Identifier: Apache-2.0 */
#include "routes/path.h"

#define SECOND              1000000000ULL
#define LOAD(field)         atomic_load_explicit(&path->field, memory_order_relaxed)
#define STORE(field, value) atomic_store_explicit(&path->field, value, memory_order_relaxed)

/* Whether the kernel's view of the MTU is what was in the way. */
static bool mtu_is_the_cause(const struct path *path)
{
    return LOAD(segment.cause) == FALLBACK_MTU;
}

struct path_mode path_mode(struct path *path, uint32_t size, bool run, bool watched,
                           uint64_t (*clock)(void))
{
    if (path_is_plain(path))
        return (struct path_mode){.segmented = run};

    const uint64_t now = clock();
    struct path_mode mode = {0};
    if (fallback_in_use(&path->segment)) {
        mode.segmented = run;
        mode.past_mtu = now < LOAD(past_until);
        if (!mode.past_mtu)
            STORE(past_until, 0);
    } else if (run && fallback_tries(&path->segment, size, now)) {
        mode.segmented = true;
        mode.past_mtu = watched && mtu_is_the_cause(path) && size >= LOAD(segment.size);
    }
    return mode;
}

void path_worked(struct path *path, uint32_t size, bool watched, uint64_t now)
{
    const uint64_t retry_at = LOAD(segment.retry_at);

    if (retry_at == 0 || now < retry_at || size < LOAD(segment.size))
        return;
    if (watched && mtu_is_the_cause(path)) {
        if (!LOAD(proving)) {
            STORE(proving, 1);
            STORE(segment.retry_at, now + PATH_SETTLE_S * SECOND);
            return;
        }
        STORE(proving, 0);
        STORE(past_until, now + PATH_IGNORE_S * SECOND);
    }
    fallback_worked(&path->segment, size, now);
}

void path_refused(struct path *path, enum fallback_cause cause, uint32_t size, uint64_t now)
{
    path_too_narrow(path);
    fallback_refused(&path->segment, cause, size, now);
}

void path_too_narrow(struct path *path)
{
    STORE(proving, 0);
    STORE(past_until, 0);
}

void path_reported(struct path *path, uint32_t mtu, uint64_t now)
{
    const uint32_t size = LOAD(segment.size);

    if (mtu >= size + PATH_OVERHEAD || (!LOAD(proving) && LOAD(past_until) <= now))
        return;
    path_too_narrow(path);
    /* The try, or what followed it, has failed: not one more refusal within a pause. */
    if (!fallback_in_use(&path->segment))
        STORE(segment.retry_at, now);
    fallback_refused(&path->segment, FALLBACK_MTU, size, now);
}

struct path_state path_look(const struct path *path)
{
    return (struct path_state){fallback_look(&path->segment), LOAD(past_until)};
}
