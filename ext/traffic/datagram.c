/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams of traffic.h, one way. */
#define _GNU_SOURCE
#include "traffic/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SEEN_WINDOW = 1 << 16 }; /* sequence numbers back in which a duplicate is recognised */

/* How many datagrams a sender of `rate` may send now; waits when there is none. */
static unsigned int allowance(uint64_t rate, uint64_t sent, uint64_t elapsed)
{
    uint64_t due;

    if (rate == 0)
        return TRAFFIC_BATCH;
    due = elapsed * rate / 1000000000U + 1;
    if (due > sent)
        return due - sent < TRAFFIC_BATCH ? (unsigned int)(due - sent) : TRAFFIC_BATCH;
    traffic_sleep(1000000000U / rate);
    return 0;
}

int traffic_datagram_send(int fd, const struct traffic_pattern *pattern, uint32_t run, size_t size,
                          uint64_t rate, uint64_t datagrams, uint64_t nanoseconds,
                          struct traffic_datagrams *result)
{
    struct traffic_header headers[TRAFFIC_BATCH];
    struct iovec parts[TRAFFIC_BATCH][2];
    struct mmsghdr batch[TRAFFIC_BATCH];
    const uint64_t start = traffic_now();
    uint64_t sequence = 0, now = start;

    memset(result, 0, sizeof(*result));
    if (size < sizeof(struct traffic_header) || size > TRAFFIC_DATAGRAM_MAX)
        return -EINVAL;
    if (traffic_limit_blocking(fd, TRAFFIC_SLICE_NS) != 0)
        return -errno;
    memset(batch, 0, sizeof(batch));
    while (now - start < nanoseconds && (datagrams == 0 || sequence < datagrams)) {
        unsigned int count = allowance(rate, sequence, now - start);
        int sent;

        if (datagrams != 0 && datagrams - sequence < count)
            count = (unsigned int)(datagrams - sequence);
        for (unsigned int i = 0; i < count; i++) {
            headers[i] = (struct traffic_header){TRAFFIC_MAGIC, run, sequence + i, now};
            parts[i][0] = (struct iovec){&headers[i], sizeof(headers[i])};
            parts[i][1] = (struct iovec){(void *)traffic_piece(pattern, sequence + i),
                                         size - sizeof(headers[i])};
            batch[i].msg_hdr.msg_iov = parts[i];
            batch[i].msg_hdr.msg_iovlen = 2;
        }
        sent = count == 0 ? 0 : sendmmsg(fd, batch, count, MSG_NOSIGNAL);
        now = traffic_now();
        if (sent < 0) {
            if (!traffic_refused(errno))
                return -errno;
            result->refused++;
            sequence++;
            continue;
        }
        sequence += (uint64_t)sent;
        result->datagrams += (uint64_t)sent;
        result->calls += count != 0;
    }
    result->bytes = result->datagrams * size;
    result->nanoseconds = now - start;
    traffic_send_end(fd, run);
    return 0;
}

struct receiver {
    const struct traffic_pattern *pattern;
    uint32_t run;
    uint64_t expected; /* highest sequence number so far, plus one */
    uint64_t seen[SEEN_WINDOW / 64];
    struct traffic_datagrams *result;
};

/* Whether this sequence number was marked before; marks it. */
static bool seen_before(struct receiver *receiver, uint64_t sequence)
{
    const uint64_t bit = sequence % SEEN_WINDOW;
    const uint64_t mask = (uint64_t)1 << bit % 64;
    bool before;

    if (sequence >= receiver->expected) {
        /* What the window slides over is forgotten. */
        const uint64_t jump = sequence - receiver->expected;

        if (jump >= SEEN_WINDOW)
            memset(receiver->seen, 0, sizeof(receiver->seen));
        for (uint64_t i = 0; i <= jump && i < SEEN_WINDOW; i++) {
            const uint64_t old = (sequence - i) % SEEN_WINDOW;

            receiver->seen[old / 64] &= ~((uint64_t)1 << old % 64);
        }
    } else if (receiver->expected - sequence > SEEN_WINDOW) {
        return false;
    }
    before = (receiver->seen[bit / 64] & mask) != 0;
    receiver->seen[bit / 64] |= mask;
    return before;
}

/* Count one datagram; true when it is the end of the run. */
static bool account(struct receiver *receiver, const uint8_t *data, size_t length)
{
    struct traffic_datagrams *result = receiver->result;
    struct traffic_header header;

    if (length < sizeof(header)) {
        result->corrupt++;
        return false;
    }
    memcpy(&header, data, sizeof(header));
    if (header.magic != TRAFFIC_MAGIC) {
        result->corrupt++;
        return false;
    }
    if (header.run != receiver->run)
        return false; /* a late one of an earlier run */
    if (header.sequence == TRAFFIC_END)
        return true;
    if (receiver->pattern != NULL &&
        memcmp(data + sizeof(header), traffic_piece(receiver->pattern, header.sequence),
               length - sizeof(header)) != 0)
        result->corrupt++;
    if (seen_before(receiver, header.sequence)) {
        result->duplicates++;
        return false;
    }
    if (header.sequence >= receiver->expected)
        receiver->expected = header.sequence + 1;
    else
        result->reordered++;
    result->datagrams++;
    result->bytes += length;
    return false;
}

int traffic_datagram_receive(int fd, const struct traffic_pattern *pattern, uint32_t run,
                             uint64_t idle, uint64_t nanoseconds, struct traffic_datagrams *result)
{
    const uint64_t start = traffic_now();
    struct receiver *receiver = calloc(1, sizeof(*receiver));
    struct traffic_slots *slots = traffic_slots_open();
    uint64_t first = 0, last = 0, now = start;
    int error = traffic_limit_blocking(fd, TRAFFIC_SLICE_NS);
    bool ended = false;

    memset(result, 0, sizeof(*result));
    if (receiver == NULL || slots == NULL)
        error = -ENOMEM;
    if (error != 0)
        goto cleanup;
    receiver->pattern = pattern;
    receiver->run = run;
    receiver->result = result;
    while (!ended && now - start < nanoseconds && (first == 0 || now - last < idle)) {
        const uint64_t before = result->datagrams;
        int count = traffic_slots_receive(slots, fd);

        now = traffic_now();
        if (count < 0) {
            error = count;
            break;
        }
        for (int i = 0; i < count; i++)
            ended |= account(receiver, slots->memory + (size_t)i * TRAFFIC_SLOT,
                             slots->batch[i].msg_len);
        if (result->datagrams != before) {
            last = now;
            if (first == 0)
                first = now;
        }
        result->calls += count > 0;
    }
    result->nanoseconds = last - first;
cleanup:
    if (slots != NULL)
        traffic_slots_close(slots);
    free(receiver);
    return error;
}
