/* SPDX-License-Identifier: Apache-2.0
 *
 * Segmenting and coalescing from within C: what Python cannot see. Memory that is touched, pointers that are
 * handed out, every alignment, the encapsulation's callback.
 */
#include "harness.h"
#include "offload_check.h"
#include "packets.h"

enum { KINDS = 4, PAYLOAD = 60000, GSO_SIZE = 1400 };

static struct flow flow_of_kind(unsigned kind)
{
    return (struct flow){kind & 1, kind & 2, 4000, 0xFFFE, 0xFFFFFF00};
}

static void put_datagram(void *context, const struct datagram *datagram)
{
    batch_put(context, datagram->bytes, datagram->length);
}

TEST(folding_what_was_cut_gives_the_super_packet_back)
{
    static uint8_t made[VNET_HEADER_LENGTH + 65536];
    static struct batch batch;

    for (unsigned kind = 0; kind < KINDS; kind++) {
        struct flow flow = flow_of_kind(kind);
        struct coalesce_counters counters;
        struct vnet vnet;
        size_t length = packet_super(&flow, made, PAYLOAD, GSO_SIZE);
        vnet_load(&vnet, made);
        CHECK(check_segments(&vnet, made + VNET_HEADER_LENGTH, length, &no_limits,
                             SEGMENT_HEADERS_SIZE, put_datagram, &batch) == 0);
        check_coalesce(&batch, 15, COALESCE_MAX_SEGMENTS, &counters);
        CHECK(counters.supers == 1 && counters.plain == 0);
        batch_clear(&batch);
    }
}

/* As tests/support/twin/offload.py has them: on a machine of either byte order. */
TEST(segments_are_these_very_bytes)
{
    static const uint8_t super[45] =
        "\x45\x00\x00\x2d\xff\xff\x40\x00\x3f\x06\x26\xc7\x0a\x01\x00\x01\x0a\x01\x01\x02"
        "\x9c\x40\x14\x51\xff\xff\xff\xff\x00\x00\x03\x09\x50\x99\x02\x00\x15\x24\x00\x00"
        "\x11\x22\x33\x44\x55";
    static const uint8_t segments[3][43] = {
        "\x45\x00\x00\x2a\xff\xff\x40\x00\x3f\x06\x26\xca\x0a\x01\x00\x01\x0a\x01\x01\x02"
        "\x9c\x40\x14\x51\xff\xff\xff\xff\x00\x00\x03\x09\x50\x90\x02\x00\xd3\x91\x00\x00"
        "\x11\x22",
        "\x45\x00\x00\x2a\x00\x00\x40\x00\x3f\x06\x26\xca\x0a\x01\x00\x01\x0a\x01\x01\x02"
        "\x9c\x40\x14\x51\x00\x00\x00\x01\x00\x00\x03\x09\x50\x10\x02\x00\xb1\xee\x00\x00"
        "\x33\x44",
        "\x45\x00\x00\x29\x00\x01\x40\x00\x3f\x06\x26\xca\x0a\x01\x00\x01\x0a\x01\x01\x02"
        "\x9c\x40\x14\x51\x00\x00\x00\x03\x00\x00\x03\x09\x50\x19\x02\x00\x90\x28\x00\x00"
        "\x55",
    };
    static struct batch batch;
    const struct vnet vnet = {VNET_F_NEEDS_CSUM, VNET_GSO_TCPV4 | VNET_GSO_ECN, 40, 2, 20, 16};

    CHECK(check_segments(&vnet, super, sizeof(super), &no_limits, SEGMENT_HEADERS_SIZE,
                         put_datagram, &batch) == 0);
    CHECK(batch.count == 3);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(batch.lengths[i] == (i < 2 ? 42 : 41));
        CHECK(memcmp(batch.packets[i], segments[i], batch.lengths[i]) == 0);
    }
    batch_clear(&batch);
}

TEST(packet_and_headers_may_stand_at_any_address_and_no_payload_is_copied)
{
    static uint8_t made[VNET_HEADER_LENGTH + 8192];
    uint8_t expected[96];

    for (unsigned kind = 0; kind < KINDS; kind++)
        for (size_t shift = 0; shift < 16; shift++) {
            struct flow flow = flow_of_kind(kind);
            size_t length = packet_super(&flow, made, 5000, 1000);
            uint8_t *room = malloc(shift + length), headers[SEGMENT_HEADERS_SIZE + 16];
            struct iovec iov[2 * SEGMENT_MAX_COUNT];
            const struct segment_space space = {headers + shift, SEGMENT_HEADERS_SIZE, iov,
                                                2 * SEGMENT_MAX_COUNT};
            struct segment_group group;
            struct vnet vnet;
            struct segmenter segmenter;
            CHECK(room != NULL);
            memcpy(room + shift, made + VNET_HEADER_LENGTH, length);
            vnet_load(&vnet, made);
            CHECK(segment_begin(&segmenter, &vnet, room + shift, length) == 0);
            CHECK(segment_next(&segmenter, &no_limits, &space, &group) && group.segments == 5);
            CHECK(iov[8].iov_base == headers + shift + 4 * iov[0].iov_len);
            CHECK(iov[9].iov_base == room + shift + length - 1000); /* not copied */
            if (shift == 0)
                memcpy(expected, iov[8].iov_base, iov[8].iov_len);
            CHECK(memcmp(iov[8].iov_base, expected, iov[8].iov_len) == 0);
            CHECK(!segment_next(&segmenter, &no_limits, &space, &group));
            free(room);
        }
}

TEST(encapsulation_stands_in_front_of_each_segment)
{
    static uint8_t made[VNET_HEADER_LENGTH + 8192];
    static const uint8_t template[7] = "encap";
    uint8_t headers[SEGMENT_HEADERS_SIZE];
    struct iovec iov[2 * SEGMENT_MAX_COUNT];
    const size_t lengths[] = {140, 140, 90};
    unsigned seen = 0;
    const struct segment_limits limits = {
        .segments = 2,
        .bytes = SEGMENT_MAX_BYTES,
        .encap = template,
        .encap_length = sizeof(template),
    };
    const struct segment_space space = {headers, sizeof(headers), iov, 2 * SEGMENT_MAX_COUNT};
    struct flow flow = flow_of_kind(2);
    size_t length = packet_super(&flow, made, 250, 100);
    struct segment_group group;
    struct vnet vnet;
    struct segmenter segmenter;

    vnet_load(&vnet, made);
    CHECK(segment_begin(&segmenter, &vnet, made + VNET_HEADER_LENGTH, length) == 0);
    CHECK(segment_fits(&segmenter, &limits, &space));
    while (segment_next(&segmenter, &limits, &space, &group))
        for (unsigned i = 0; i < group.segments; i++) {
            const uint8_t *prefix = iov[2 * i].iov_base;
            size_t size = iov[2 * i].iov_len + iov[2 * i + 1].iov_len;
            CHECK(seen < 3 && size == sizeof(template) + lengths[seen]);
            CHECK(memcmp(prefix, template, sizeof(template)) == 0);
            CHECK(prefix[sizeof(template)] == 0x45);
            seen++;
        }
    CHECK(seen == 3);
}

TEST(limits_that_no_segment_fits_give_no_group)
{
    static uint8_t made[VNET_HEADER_LENGTH + 8192];
    uint8_t headers[64];
    struct iovec iov[2];
    const struct segment_limits limits = {.segments = 1, .bytes = 139};
    const struct segment_space space = {headers, sizeof(headers), iov, 2};
    struct flow flow = flow_of_kind(2);
    size_t length = packet_super(&flow, made, 250, 100);
    struct segment_group group;
    struct vnet vnet;
    struct segmenter segmenter;

    vnet_load(&vnet, made);
    CHECK(segment_begin(&segmenter, &vnet, made + VNET_HEADER_LENGTH, length) == 0);
    CHECK(!segment_fits(&segmenter, &limits, &space));
    CHECK(!segment_next(&segmenter, &limits, &space, &group));
}

TEST(a_table_used_for_many_batches_stays_right)
{
    static struct batch batch;
    static uint8_t packet[2048];
    struct flow flows[60];
    unsigned state = 1;

    for (unsigned i = 0; i < 60; i++)
        flows[i] = (struct flow){i & 1, i & 2, (uint16_t)i, 0, 0};
    for (unsigned round = 0; round < 200; round++) {
        unsigned count = 1 + (state >> 8) % 200;
        for (unsigned i = 0; i < count; i++) {
            state = state * 1103515245U + 12345U;
            size_t payload = (state >> 20) % 8 == 0 ? (state >> 16) % 1200 : 1000;
            size_t length =
                packet_next(&flows[(state >> 12) % 60], packet, payload, (uint8_t)state);
            if ((state >> 24) % 32 == 0)
                packet[(state >> 9) % length] ^= 0x40;
            batch_put(&batch, packet, length);
        }
        check_coalesce(&batch, 15, 1 + (state >> 10) % 64, NULL);
        batch_clear(&batch);
    }
}

static void count_packets(void *context, const struct coalesce_write *write)
{
    *(unsigned *)context += write->packets;
}

TEST(neither_cut_nor_coalesce_allocates)
{
    static uint8_t made[VNET_HEADER_LENGTH + 65536], headers[SEGMENT_HEADERS_SIZE];
    static uint8_t packets[64][1500];
    static struct coalescer coalescer;
    struct iovec iov[2 * SEGMENT_MAX_COUNT];
    const struct segment_space space = {headers, sizeof(headers), iov, 2 * SEGMENT_MAX_COUNT};
    struct flow flow = flow_of_kind(2);
    size_t length = packet_super(&flow, made, PAYLOAD, GSO_SIZE), lengths[64];
    unsigned written = 0, segments = 0;
    struct segment_group group;
    struct vnet vnet;
    struct segmenter segmenter;

    for (unsigned i = 0; i < 64; i++) {
        flow.port = (uint16_t)(i % 40); /* more flows than the table holds */
        lengths[i] = packet_next(&flow, packets[i], 1000, 0);
    }
    fail_allocation(1);
    vnet_load(&vnet, made);
    CHECK(segment_begin(&segmenter, &vnet, made + VNET_HEADER_LENGTH, length) == 0);
    while (segment_next(&segmenter, &no_limits, &space, &group))
        segments += group.segments;
    coalesce_init(&coalescer, 15, COALESCE_MAX_SEGMENTS, count_packets, &written);
    for (unsigned i = 0; i < 64; i++)
        coalesce_add(&coalescer, packets[i], lengths[i], 0);
    coalesce_flush(&coalescer);
    CHECK(!allocation_failed());
    fail_allocation(-1);
    CHECK(segments == (PAYLOAD + GSO_SIZE - 1) / GSO_SIZE);
    CHECK(written == 64);
}
