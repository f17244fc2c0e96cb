/* SPDX-License-Identifier: Apache-2.0 */
/* Clock and samples of round trips; for the files of this folder alone. */
#ifndef UDPOVERLAY_TRAFFIC_SAMPLES_H
#define UDPOVERLAY_TRAFFIC_SAMPLES_H

#include "traffic/traffic.h"

#include <time.h>

static inline uint64_t traffic_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static inline void traffic_sleep(uint64_t nanoseconds)
{
    const struct timespec time = {
        .tv_sec = (time_t)(nanoseconds / 1000000000U),
        .tv_nsec = (long)(nanoseconds % 1000000000U),
    };

    nanosleep(&time, NULL);
}

struct traffic_samples {
    uint32_t *values; /* TRAFFIC_SAMPLES of them, nanoseconds */
    uint64_t count;
    uint64_t sum;
};

int traffic_samples_open(struct traffic_samples *samples);
void traffic_samples_add(struct traffic_samples *samples, uint64_t nanoseconds);
/* Fill in the percentiles and free the samples. */
void traffic_samples_close(struct traffic_samples *samples, struct traffic_trips *result);

#endif
