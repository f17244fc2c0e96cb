/* SPDX-License-Identifier: Apache-2.0
 *
 * clock: the monotonic clock in nanoseconds, without a system call where the kernel maps one.
 */
#ifndef UDPOVERLAY_CLOCK_H
#define UDPOVERLAY_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* The same as of the last tick, up to 10 ms ago: a few nanoseconds, for what happens with each batch. */
static inline uint64_t clock_tick_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

#endif
