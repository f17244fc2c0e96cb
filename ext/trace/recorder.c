/* SPDX-License-Identifier: Apache-2.0 */
#include "trace/recorder.h"

#include <string.h>

int recorder_init(struct recorder *recorder, size_t passed, size_t dropped)
{
    int rc = trace_ring_init(&recorder->rings[RECORDER_PASSED], passed);
    if (rc < 0)
        return rc;
    rc = trace_ring_init(&recorder->rings[RECORDER_DROPPED], dropped);
    if (rc < 0)
        trace_ring_destroy(&recorder->rings[RECORDER_PASSED]);
    return rc;
}

void recorder_destroy(struct recorder *recorder)
{
    for (int i = 0; i < RECORDER_RINGS; i++)
        trace_ring_destroy(&recorder->rings[i]);
}

void recorder_set_each(struct recorder *recorder, bool each)
{
    atomic_store_explicit(&recorder->each, each, memory_order_relaxed);
}

bool recorder_each(const struct recorder *recorder)
{
    return atomic_load_explicit(&recorder->each, memory_order_relaxed);
}

/* The head of the packet, without what stands in front of it; and its whole length. */
static void copy_packet(struct trace_record *record, const struct iovec *pieces, unsigned count,
                        size_t skip)
{
    size_t length = 0, captured = 0;

    for (unsigned i = 0; i < count; i++) {
        const uint8_t *bytes = pieces[i].iov_base;
        size_t size = pieces[i].iov_len;
        const size_t skipped = skip < size ? skip : size;
        skip -= skipped;
        bytes += skipped;
        size -= skipped;
        length += size;
        size_t part = TRACE_HEAD - captured;
        if (part > size)
            part = size;
        if (part > 0)
            memcpy(record->head + captured, bytes, part);
        captured += part;
    }
    record->length = (uint16_t)(length < UINT16_MAX ? length : UINT16_MAX);
    record->captured = (uint8_t)captured;
}

void recorder_put(struct recorder *recorder, const struct recorder_facts *facts,
                  const struct iovec *pieces, unsigned count)
{
    struct trace_record record = {
        .time_ns = recorder->now_ns,
        .verdict = facts->verdict,
        .point = facts->point,
        .packets = recorder_each(recorder) ? 1 : facts->packets,
    };

    memcpy(record.remote, &facts->remote, sizeof(record.remote));
    copy_packet(&record, pieces, count, facts->header);
    trace_ring_put(&recorder->rings[facts->dropped ? RECORDER_DROPPED : RECORDER_PASSED], &record);
}
