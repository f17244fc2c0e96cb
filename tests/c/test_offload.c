/* SPDX-License-Identifier: Apache-2.0
 *
 * cut and fold from within C: what Python cannot see. Memory that is touched, pointers that are
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
        struct fold_tally tally;
        struct vnet vnet;
        size_t length = packet_super(&flow, made, PAYLOAD, GSO_SIZE);
        vnet_load(&vnet, made);
        CHECK(check_cut(&vnet, made + VNET_HEADER_LENGTH, length, &no_limits, CUT_ARENA_SIZE,
                        put_datagram, &batch) == 0);
        check_fold(&batch, 15, FOLD_MAX_SEGMENTS, &tally);
        CHECK(tally.supers == 1 && tally.plain == 0);
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

    CHECK(check_cut(&vnet, super, sizeof(super), &no_limits, CUT_ARENA_SIZE, put_datagram,
                    &batch) == 0);
    CHECK(batch.count == 3);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(batch.lengths[i] == (i < 2 ? 42 : 41));
        CHECK(memcmp(batch.packets[i], segments[i], batch.lengths[i]) == 0);
    }
    batch_clear(&batch);
}

TEST(packet_and_arena_may_stand_at_any_address_and_no_payload_is_copied)
{
    static uint8_t made[VNET_HEADER_LENGTH + 8192];
    uint8_t expected[96];

    for (unsigned kind = 0; kind < KINDS; kind++)
        for (size_t shift = 0; shift < 16; shift++) {
            struct flow flow = flow_of_kind(kind);
            size_t length = packet_super(&flow, made, 5000, 1000);
            uint8_t *room = malloc(shift + length), arena[CUT_ARENA_SIZE + 16];
            struct iovec iov[2 * CUT_MAX_SEGMENTS];
            const struct cut_space space = {arena + shift, CUT_ARENA_SIZE, iov,
                                            2 * CUT_MAX_SEGMENTS};
            struct cut_group group;
            struct vnet vnet;
            struct cut cut;
            CHECK(room != NULL);
            memcpy(room + shift, made + VNET_HEADER_LENGTH, length);
            vnet_load(&vnet, made);
            CHECK(cut_begin(&cut, &vnet, room + shift, length) == 0);
            CHECK(cut_next(&cut, &no_limits, &space, &group) && group.segments == 5);
            CHECK(iov[8].iov_base == arena + shift + 4 * iov[0].iov_len);
            CHECK(iov[9].iov_base == room + shift + length - 1000); /* not copied */
            if (shift == 0)
                memcpy(expected, iov[8].iov_base, iov[8].iov_len);
            CHECK(memcmp(iov[8].iov_base, expected, iov[8].iov_len) == 0);
            CHECK(!cut_next(&cut, &no_limits, &space, &group));
            free(room);
        }
}

struct seen {
    unsigned calls;
    size_t lengths[16];
};

static void write_length(void *context, uint8_t *prefix, size_t length)
{
    struct seen *seen = context;

    CHECK(memcmp(prefix, "encap", 5) == 0);
    put16(prefix + 5, (uint16_t)length);
    seen->lengths[seen->calls++] = length;
}

/* The callback sees each segment's prefix once and may write to it. */
TEST(the_encapsulation_is_patched_once_for_each_segment)
{
    static uint8_t made[VNET_HEADER_LENGTH + 8192];
    static const uint8_t template[7] = "encap";
    uint8_t arena[CUT_ARENA_SIZE];
    struct iovec iov[2 * CUT_MAX_SEGMENTS];
    struct seen seen = {0};
    const struct cut_limits limits = {
        .segments = 2,
        .bytes = CUT_MAX_BYTES,
        .encap = template,
        .encap_length = sizeof(template),
        .patch = write_length,
        .context = &seen,
    };
    const struct cut_space space = {arena, sizeof(arena), iov, 2 * CUT_MAX_SEGMENTS};
    struct flow flow = flow_of_kind(2);
    size_t length = packet_super(&flow, made, 250, 100);
    struct cut_group group;
    struct vnet vnet;
    struct cut cut;

    vnet_load(&vnet, made);
    CHECK(cut_begin(&cut, &vnet, made + VNET_HEADER_LENGTH, length) == 0);
    CHECK(cut_fits(&cut, &limits, &space));
    while (cut_next(&cut, &limits, &space, &group))
        for (unsigned i = 0; i < group.segments; i++) {
            const uint8_t *prefix = iov[2 * i].iov_base;
            size_t size = iov[2 * i].iov_len + iov[2 * i + 1].iov_len;
            CHECK(get16(prefix + 5) + sizeof(template) == size);
            CHECK(prefix[sizeof(template)] == 0x45);
        }
    CHECK(seen.calls == 3);
    CHECK(seen.lengths[0] == 140 && seen.lengths[1] == 140 && seen.lengths[2] == 90);
}

TEST(limits_that_no_segment_fits_give_no_group)
{
    static uint8_t made[VNET_HEADER_LENGTH + 8192];
    uint8_t arena[64];
    struct iovec iov[2];
    const struct cut_limits limits = {.segments = 1, .bytes = 139};
    const struct cut_space space = {arena, sizeof(arena), iov, 2};
    struct flow flow = flow_of_kind(2);
    size_t length = packet_super(&flow, made, 250, 100);
    struct cut_group group;
    struct vnet vnet;
    struct cut cut;

    vnet_load(&vnet, made);
    CHECK(cut_begin(&cut, &vnet, made + VNET_HEADER_LENGTH, length) == 0);
    CHECK(!cut_fits(&cut, &limits, &space));
    CHECK(!cut_next(&cut, &limits, &space, &group));
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
        check_fold(&batch, 15, 1 + (state >> 10) % 64, NULL);
        batch_clear(&batch);
    }
}

static void count_packets(void *context, const struct fold_write *write)
{
    *(unsigned *)context += write->packets;
}

TEST(neither_cut_nor_fold_allocates)
{
    static uint8_t made[VNET_HEADER_LENGTH + 65536], arena[CUT_ARENA_SIZE];
    static uint8_t packets[64][1500];
    static struct fold fold;
    struct iovec iov[2 * CUT_MAX_SEGMENTS];
    const struct cut_space space = {arena, sizeof(arena), iov, 2 * CUT_MAX_SEGMENTS};
    struct flow flow = flow_of_kind(2);
    size_t length = packet_super(&flow, made, PAYLOAD, GSO_SIZE), lengths[64];
    unsigned written = 0, segments = 0;
    struct cut_group group;
    struct vnet vnet;
    struct cut cut;

    for (unsigned i = 0; i < 64; i++) {
        flow.port = (uint16_t)(i % 40); /* more flows than the table holds */
        lengths[i] = packet_next(&flow, packets[i], 1000, 0);
    }
    fail_allocation(1);
    vnet_load(&vnet, made);
    CHECK(cut_begin(&cut, &vnet, made + VNET_HEADER_LENGTH, length) == 0);
    while (cut_next(&cut, &no_limits, &space, &group))
        segments += group.segments;
    fold_init(&fold, 15, FOLD_MAX_SEGMENTS, count_packets, &written);
    for (unsigned i = 0; i < 64; i++)
        fold_add(&fold, packets[i], lengths[i]);
    fold_flush(&fold);
    CHECK(!allocation_failed());
    fail_allocation(-1);
    CHECK(segments == (PAYLOAD + GSO_SIZE - 1) / GSO_SIZE);
    CHECK(written == 64);
}
