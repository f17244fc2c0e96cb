/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "harness.h"
#include "trace/recorder.h"

enum { PLACES = 8 };

static void put(struct trace_ring *ring, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        trace_ring_put(ring, &(struct trace_record){.time_ns = i});
}

TEST(records_come_out_once_and_in_their_order)
{
    struct trace_ring ring = {0};
    struct trace_record found[PLACES];
    uint64_t next = 0, lost = 0;

    CHECK(trace_ring_init(&ring, PLACES) == 0);
    CHECK(trace_ring_read(&ring, &next, found, PLACES, &lost) == 0);
    put(&ring, 0, 5);
    CHECK(trace_ring_read(&ring, &next, found, 3, &lost) == 3);
    CHECK(found[0].time_ns == 0 && found[2].time_ns == 2);
    CHECK(trace_ring_read(&ring, &next, found, PLACES, &lost) == 2);
    CHECK(found[0].time_ns == 3 && found[1].time_ns == 4);
    CHECK(trace_ring_read(&ring, &next, found, PLACES, &lost) == 0);
    CHECK(next == 5 && lost == 0);
    trace_ring_destroy(&ring);
}

/* The oldest place may be the one that is being written. */
TEST(records_written_over_are_counted_as_lost)
{
    struct trace_ring ring = {0};
    struct trace_record found[PLACES];
    uint64_t next = 0, lost = 0;

    CHECK(trace_ring_init(&ring, PLACES) == 0);
    put(&ring, 0, 3 * PLACES);
    CHECK(trace_ring_read(&ring, &next, found, PLACES, &lost) == PLACES - 1);
    CHECK(found[0].time_ns == 2 * PLACES + 1);
    CHECK(lost == 2 * PLACES + 1 && next == 3 * PLACES);
    next = UINT64_MAX; /* of another ring */
    CHECK(trace_ring_read(&ring, &next, found, PLACES, &lost) == 0);
    CHECK(next == 3 * PLACES);
    trace_ring_destroy(&ring);
}

TEST(places_are_a_power_of_two)
{
    struct trace_ring ring = {0};

    CHECK(trace_ring_init(&ring, 0) == -EINVAL);
    CHECK(trace_ring_init(&ring, 1) == -EINVAL);
    CHECK(trace_ring_init(&ring, 12) == -EINVAL);
    CHECK(ring.places == NULL);
}

TEST(packet_in_pieces_is_recorded_from_its_first_byte)
{
    struct recorder recorder = {0};
    uint8_t first[30], second[1400];
    const struct iovec pieces[2] = {{first, sizeof(first)}, {second, sizeof(second)}};
    const struct recorder_facts facts = {.verdict = 3, .point = 1, .header = 22};
    struct trace_record found;
    uint64_t next = 0, lost = 0;

    memset(first, 'h', 22);
    memset(first + 22, 'i', sizeof(first) - 22);
    memset(second, 's', sizeof(second));
    CHECK(recorder_init(&recorder, PLACES, PLACES) == 0);
    recorder_put(&recorder, &facts, pieces, 2);
    CHECK(trace_ring_read(&recorder.rings[RECORDER_PASSED], &next, &found, 1, &lost) == 1);
    CHECK(found.length == 1408 && found.captured == TRACE_HEAD);
    CHECK(found.verdict == 3 && found.point == 1);
    CHECK(found.head[0] == 'i' && found.head[7] == 'i' && found.head[8] == 's');
    CHECK(found.head[TRACE_HEAD - 1] == 's');
    recorder_destroy(&recorder);
}

TEST(packet_that_is_gone_or_all_header_has_no_bytes)
{
    struct recorder recorder = {0};
    uint8_t bytes[4] = {0};
    const struct iovec piece = {bytes, sizeof(bytes)};
    const struct recorder_facts facts = {.dropped = true, .header = 8, .remote = htonl(0x09080706)};
    struct trace_record found[2];
    uint64_t next = 0, lost = 0;

    CHECK(recorder_init(&recorder, PLACES, PLACES) == 0);
    recorder_put(&recorder, &facts, &piece, 1);
    recorder_put(&recorder, &facts, NULL, 0);
    CHECK(trace_ring_read(&recorder.rings[RECORDER_DROPPED], &next, found, 2, &lost) == 2);
    for (int i = 0; i < 2; i++)
        CHECK(found[i].length == 0 && found[i].captured == 0);
    CHECK(memcmp(found[0].remote, "\x09\x08\x07\x06", 4) == 0);
    recorder_destroy(&recorder);
}

TEST(later_packets_of_a_run_are_recorded_only_when_each_is_asked_for)
{
    struct recorder recorder = {0};

    CHECK(!recorder_takes(NULL, 1));
    CHECK(recorder_takes(&recorder, 1) && recorder_takes(&recorder, 44));
    CHECK(!recorder_takes(&recorder, 0));
    recorder_set_each(&recorder, true);
    CHECK(recorder_takes(&recorder, 0));
    recorder_set_each(&recorder, false);
    CHECK(!recorder_takes(&recorder, 0));
}
