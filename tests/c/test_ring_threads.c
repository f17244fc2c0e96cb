/* SPDX-License-Identifier: Apache-2.0
 *
 * Readers copy records out while the writer goes over a small ring as fast as it can: no record may
 * be torn, and each is either read or counted as lost. Run under ThreadSanitizer and AddressSanitizer.
 */
#include <pthread.h>
#include <string.h>

#include "harness.h"
#include "trace/ring.h"

enum { READERS = 3, PLACES = 64, RECORDS = 200000 };

static struct trace_ring ring;
static atomic_int writing;

static void *writer(void *argument)
{
    (void)argument;
    for (uint64_t i = 0; i < RECORDS; i++) {
        struct trace_record record = {.time_ns = i, .length = (uint16_t)i};
        memset(record.head, (int)(i & 0xFF), sizeof(record.head));
        trace_ring_put(&ring, &record);
    }
    atomic_store(&writing, 0);
    return NULL;
}

static void *reader(void *argument)
{
    unsigned long *seen = argument;
    struct trace_record found[16];
    uint64_t next = 0, lost = 0;
    bool last = false;

    for (;;) {
        size_t count = trace_ring_read(&ring, &next, found, 16, &lost);
        for (size_t i = 0; i < count; i++) {
            const struct trace_record *record = &found[i];
            CHECK(record->length == (uint16_t)record->time_ns);
            for (int at = 0; at < TRACE_HEAD; at++)
                CHECK(record->head[at] == (record->time_ns & 0xFF));
            CHECK(i == 0 || record->time_ns > found[i - 1].time_ns);
        }
        *seen += count;
        if (count == 0 && last)
            break;
        last = atomic_load(&writing) == 0;
    }
    CHECK(*seen + lost == RECORDS && next == RECORDS);
    return NULL;
}

TEST(readers_never_see_a_torn_record)
{
    pthread_t threads[READERS + 1];
    unsigned long seen[READERS] = {0};

    CHECK(trace_ring_init(&ring, PLACES) == 0);
    atomic_store(&writing, 1);
    for (int i = 0; i < READERS; i++)
        CHECK(pthread_create(&threads[i], NULL, reader, &seen[i]) == 0);
    CHECK(pthread_create(&threads[READERS], NULL, writer, NULL) == 0);
    for (int i = 0; i <= READERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < READERS; i++)
        CHECK(seen[i] >= PLACES - 1);
    trace_ring_destroy(&ring);
}
