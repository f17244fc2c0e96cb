/* SPDX-License-Identifier: Apache-2.0
 *
 * What must hold of all segmenting and coalescing, whatever went in; shared by the C test and the
 * fuzzers. A violation ends the test, in a fuzzer the program.
 */
#ifndef UDPOVERLAY_OFFLOAD_CHECK_H
#define UDPOVERLAY_OFFLOAD_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/offload.h"

#ifndef CHECK /* harness.h has another */
#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)
#endif

/* A copy in memory of exactly its size, so that a byte too far is seen. */
static inline uint8_t *exact_copy(const void *data, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);

    CHECK(copy != NULL);
    memcpy(copy, data, length);
    return copy;
}

/* One segment, header and payload together. */
struct datagram {
    size_t length;
    uint8_t bytes[65536 + 64];
};

/*
 * Segments `packet` within `limits` and checks every group; calls `each` for every datagram in order.
 * Returns what segment_begin() returned, or -EMSGSIZE where not one segment fits.
 */
static inline int check_segments(const struct vnet *vnet, const uint8_t *packet, size_t length,
                                 const struct segment_limits *limits, size_t headers_size,
                                 void (*each)(void *context, const struct datagram *datagram),
                                 void *context)
{
    static struct datagram whole;
    uint8_t *exact = exact_copy(packet, length),
            *headers = calloc(1, headers_size ? headers_size : 1);
    struct iovec *iov = calloc(2 * SEGMENT_MAX_COUNT, sizeof(*iov));
    struct segment_space space = {headers, headers_size, iov, 2 * SEGMENT_MAX_COUNT};
    struct segmenter segmenter;
    struct segment_group group;
    size_t payload = 0, segments = 0;
    int rc = segment_begin(&segmenter, vnet, exact, length);

    if (rc == 0 && !segment_fits(&segmenter, limits, &space))
        rc = -1;
    while (rc == 0 && segment_next(&segmenter, limits, &space, &group)) {
        size_t bytes = 0;
        CHECK(group.segments >= 1 && group.segments <= limits->segments);
        for (unsigned i = 0; i < group.segments; i++) {
            struct iovec head = iov[2 * i], body = iov[2 * i + 1];
            size_t size = head.iov_len + body.iov_len;
            CHECK((uint8_t *)head.iov_base >= headers);
            CHECK((uint8_t *)head.iov_base + head.iov_len <= headers + headers_size);
            CHECK((uint8_t *)body.iov_base == exact + segmenter.header_length + payload);
            CHECK(payload + body.iov_len <= segmenter.payload_length);
            CHECK(i + 1 == group.segments ? size == group.last : size == group.datagram);
            CHECK(size <= group.datagram);
            payload += body.iov_len;
            bytes += size;
            whole.length = size - limits->encap_length;
            memcpy(whole.bytes, (uint8_t *)head.iov_base + limits->encap_length,
                   head.iov_len - limits->encap_length);
            memcpy(whole.bytes + segmenter.header_length, body.iov_base, body.iov_len);
            if (each != NULL)
                each(context, &whole);
        }
        CHECK(bytes == group.bytes && bytes <= limits->bytes);
        segments += group.segments;
    }
    if (rc == 0) {
        CHECK(payload == segmenter.payload_length);
        CHECK(segments == segmenter.segments);
    }
    CHECK(memcmp(exact, packet, length) == 0); /* read, never written */
    free(iov);
    free(headers);
    free(exact);
    return rc;
}

static const struct segment_limits no_limits = {.segments = SEGMENT_MAX_COUNT,
                                                .bytes = 65535 + 120};

/* ---- coalesce ------------------------------------------------------------------------------------- */

enum { BATCH_MAX = 256 };

/* The packets of one batch, and which of them were written. */
struct batch {
    unsigned count, written;
    uint8_t *packets[BATCH_MAX];
    uint8_t *before[BATCH_MAX]; /* as they were added */
    size_t lengths[BATCH_MAX];
    unsigned order[BATCH_MAX]; /* indexes as they were written */
    const struct coalesce_write *write;
    unsigned position; /* of the segment that is looked at, within `write` */
};

static inline void batch_put(struct batch *batch, const uint8_t *packet, size_t length)
{
    CHECK(batch->count < BATCH_MAX);
    batch->packets[batch->count] = exact_copy(packet, length);
    batch->before[batch->count] = exact_copy(packet, length);
    batch->lengths[batch->count++] = length;
}

static inline void batch_clear(struct batch *batch)
{
    for (unsigned i = 0; i < batch->count; i++) {
        free(batch->packets[i]);
        free(batch->before[i]);
    }
    memset(batch, 0, sizeof(*batch));
}

static inline void same_as_original(void *context, const struct datagram *datagram)
{
    struct batch *batch = context;
    struct iovec original = coalesce_original(batch->write, batch->position++);

    CHECK(original.iov_len == datagram->length);
    CHECK(memcmp(original.iov_base, datagram->bytes, datagram->length) == 0);
}

/* Every write holds packets of the batch, each once; segmenting a super-packet gives them back. */
static inline void check_write(void *context, const struct coalesce_write *write)
{
    static uint8_t flat[VNET_HEADER_LENGTH + COALESCE_MAX_LENGTH + BATCH_MAX * 64];
    struct batch *batch = context;
    size_t length = 0;

    CHECK(write->iov_count == write->packets + 1);
    for (unsigned i = 0; i < write->iov_count; i++) {
        CHECK(length + write->iov[i].iov_len <= sizeof(flat));
        memcpy(flat + length, write->iov[i].iov_base, write->iov[i].iov_len);
        length += write->iov[i].iov_len;
    }
    CHECK(length == write->length);
    for (unsigned i = 0; i < write->packets; i++) {
        struct iovec original = coalesce_original(write, i);
        unsigned index = 0;
        while (index < batch->count && batch->packets[index] != original.iov_base)
            index++;
        CHECK(index < batch->count && batch->lengths[index] == original.iov_len);
        batch->order[batch->written++] = index;
    }

    struct vnet vnet;
    vnet_load(&vnet, flat);
    if (write->packets == 1) {
        static const uint8_t nothing[VNET_HEADER_LENGTH];
        CHECK(memcmp(flat, nothing, sizeof(nothing)) == 0);
        return;
    }
    CHECK(length <= VNET_HEADER_LENGTH + COALESCE_MAX_LENGTH);
    batch->write = write;
    batch->position = 0;
    CHECK(check_segments(&vnet, flat + VNET_HEADER_LENGTH, length - VNET_HEADER_LENGTH, &no_limits,
                         SEGMENT_HEADERS_SIZE, same_as_original, batch) == 0);
    CHECK(batch->position == write->packets);
}

/* Addresses and, where all have them, ports: the beginning of two packets of one flow is equal. */
static inline int same_flow_bytes(const uint8_t *a, size_t a_length, const uint8_t *b,
                                  size_t b_length)
{
    size_t least = a_length < b_length ? a_length : b_length;

    if (least < 20 || a[0] != b[0])
        return 0;
    if (a[0] == 0x45)
        return a[9] == b[9] && (a[9] == 6 || a[9] == 17) && least >= 24 &&
               !((a[6] | b[6]) & 0x1F) && !(a[7] | b[7]) && memcmp(a + 12, b + 12, 12) == 0;
    return a[0] >> 4 == 6 && least >= 44 && a[6] == b[6] && (a[6] == 6 || a[6] == 17) &&
           memcmp(a + 8, b + 8, 36) == 0;
}

/* Coalesces the batch and checks that each packet was written once, unchanged, in its flow's order. */
static inline void check_coalesce(struct batch *batch, unsigned kinds, unsigned max_segments,
                                  struct coalesce_counters *counter)
{
    static struct coalescer coalescer;

    coalesce_init(&coalescer, kinds, max_segments, check_write, batch);
    for (unsigned i = 0; i < batch->count; i++)
        coalesce_add(&coalescer, batch->packets[i], batch->lengths[i], 0);
    coalesce_flush(&coalescer);
    CHECK(batch->written == batch->count);
    CHECK(coalescer.counters.coalesced + coalescer.counters.plain == batch->count);

    unsigned place[BATCH_MAX], seen = 0;
    for (unsigned i = 0; i < batch->count; i++) {
        place[batch->order[i]] = i;
        for (unsigned j = 0; j < i; j++)
            seen += batch->order[j] == batch->order[i];
    }
    CHECK(seen == 0);
    for (unsigned i = 0; i < batch->count; i++) {
        CHECK(memcmp(batch->packets[i], batch->before[i], batch->lengths[i]) == 0);
        for (unsigned j = i + 1; j < batch->count; j++)
            if (same_flow_bytes(batch->before[i], batch->lengths[i], batch->before[j],
                                batch->lengths[j]))
                CHECK(place[i] < place[j]);
    }
    if (counter != NULL)
        *counter = coalescer.counters;
}

#endif
