/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/probes.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- control side ----------------------------------------------------------------------------- */

int probes_init(struct probes *probes, uint32_t rate, uint32_t burst)
{
    memset(probes, 0, sizeof(*probes));
    probes->alarm_fd = -1;
    int error = icmp_limiter_init(&probes->limiter, rate, burst);
    if (error)
        return error;
    probes->alarm_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return probes->alarm_fd < 0 ? -errno : 0;
}

void probes_destroy(struct probes *probes)
{
    if (probes->alarm_fd >= 0)
        close(probes->alarm_fd);
}

void probes_open(struct probes *probes, unsigned at, uint64_t nonce)
{
    atomic_store_explicit(&probes->places[at].awaited, nonce, memory_order_release);
}

bool probes_answer(struct probes *probes, unsigned at, uint64_t nonce, struct address *from)
{
    struct probe_place *place = &probes->places[at];
    uint64_t halves[2];

    if (atomic_load_explicit(&place->answered, memory_order_acquire) != nonce)
        return false;
    for (unsigned i = 0; i < 2; i++)
        halves[i] = atomic_load_explicit(&place->from[i], memory_order_relaxed);
    memcpy(from->bytes, halves, sizeof(halves));
    return true;
}

void probes_close(struct probes *probes, unsigned at)
{
    atomic_store_explicit(&probes->places[at].awaited, 0, memory_order_relaxed);
}

void probes_arm(struct probes *probes)
{
    atomic_store_explicit(&probes->alarm, true, memory_order_release);
}

/* ---- workers ---------------------------------------------------------------------------------- */

bool probes_match(struct probes *probes, uint64_t nonce, const struct address *from)
{
    uint64_t halves[2];

    if (nonce == 0)
        return false;
    memcpy(halves, from->bytes, sizeof(halves));
    for (unsigned at = 0; at < PROBES_MAX; at++) {
        struct probe_place *place = &probes->places[at];
        uint64_t awaited = nonce;
        /* The first answer counts and takes the number away, so no second one overwrites it. */
        if (!atomic_compare_exchange_strong_explicit(&place->awaited, &awaited, 0,
                                                     memory_order_acquire, memory_order_relaxed))
            continue;
        for (unsigned i = 0; i < 2; i++)
            atomic_store_explicit(&place->from[i], halves[i], memory_order_relaxed);
        atomic_store_explicit(&place->answered, nonce, memory_order_release);
        return true;
    }
    return false;
}

void probes_ring(struct probes *probes)
{
    const uint64_t one = 1;

    if (!atomic_load_explicit(&probes->alarm, memory_order_relaxed) ||
        !atomic_exchange_explicit(&probes->alarm, false, memory_order_acq_rel))
        return;
    /* Fails only when the counter is full, and then the reader is awake anyway. */
    ssize_t written = write(probes->alarm_fd, &one, sizeof(one));
    (void)written;
}
