/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/samples.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int traffic_samples_open(struct traffic_samples *samples)
{
    memset(samples, 0, sizeof(*samples));
    samples->values = calloc(TRAFFIC_SAMPLES, sizeof(*samples->values));
    return samples->values == NULL ? -ENOMEM : 0;
}

void traffic_samples_add(struct traffic_samples *samples, uint64_t nanoseconds)
{
    const uint32_t value = nanoseconds > UINT32_MAX ? UINT32_MAX : (uint32_t)nanoseconds;

    /* When there are more than fit, the later ones replace the first: the percentiles are then
	 * those of the last TRAFFIC_SAMPLES round trips. */
    samples->values[samples->count % TRAFFIC_SAMPLES] = value;
    samples->count++;
    samples->sum += nanoseconds;
}

static int ascending(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

    return (a > b) - (a < b);
}

void traffic_samples_close(struct traffic_samples *samples, struct traffic_trips *result)
{
    const size_t kept = samples->count < TRAFFIC_SAMPLES ? (size_t)samples->count : TRAFFIC_SAMPLES;

    if (kept != 0) {
        qsort(samples->values, kept, sizeof(*samples->values), ascending);
        result->p50 = samples->values[(kept - 1) / 2];
        result->p99 = samples->values[(kept - 1) * 99 / 100];
        result->p999 = samples->values[(kept - 1) * 999 / 1000];
        result->minimum = samples->values[0];
        result->maximum = samples->values[kept - 1];
        result->mean = samples->sum / samples->count;
    }
    free(samples->values);
    samples->values = NULL;
}
