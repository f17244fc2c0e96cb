/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams of traffic.h, there and back. */
#define _GNU_SOURCE
#include "traffic/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE_STEP = 7919 }; /* prime: all sizes come about, neighbours differ */

int traffic_datagram_pong(int fd, uint64_t nanoseconds, struct traffic_datagrams *result)
{
    const uint64_t start = traffic_now();
    struct traffic_slots *slots = traffic_slots_open();
    int error = traffic_limit_blocking(fd, TRAFFIC_SLICE_NS);
    bool ended = false;

    memset(result, 0, sizeof(*result));
    if (slots == NULL)
        return -ENOMEM;
    while (error == 0 && !ended && traffic_now() - start < nanoseconds) {
        int count = traffic_slots_receive(slots, fd);

        if (count < 0)
            error = count;
        for (int i = 0; i < count; i++) {
            struct msghdr *message = &slots->batch[i].msg_hdr;
            struct traffic_header header = {.magic = 0};

            slots->parts[i].iov_len = slots->batch[i].msg_len;
            memcpy(&header, slots->parts[i].iov_base,
                   slots->batch[i].msg_len < sizeof(header) ? 0 : sizeof(header));
            ended |= header.magic == TRAFFIC_MAGIC && header.sequence == TRAFFIC_END;
            if (header.magic != TRAFFIC_MAGIC || header.sequence == TRAFFIC_END)
                continue;
            if (sendmsg(fd, message, MSG_NOSIGNAL) < 0) {
                result->refused++;
                continue;
            }
            result->datagrams++;
            result->bytes += slots->batch[i].msg_len;
        }
    }
    result->nanoseconds = traffic_now() - start;
    traffic_slots_close(slots);
    return error;
}

/* What a ping has on its way: sequence numbers tail … next - 1. */
struct flight {
    uint64_t sent_at[TRAFFIC_WINDOW_MAX];
    bool answered[TRAFFIC_WINDOW_MAX];
    uint64_t tail, next;
};

static int flight_send(int fd, const struct traffic_pattern *pattern, uint32_t run,
                       uint64_t sequence, size_t size)
{
    struct traffic_header header = {TRAFFIC_MAGIC, run, sequence, 0};
    struct iovec parts[2] = {
        {&header, sizeof(header)},
        {(void *)traffic_piece(pattern, sequence), size - sizeof(header)},
    };
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0 && !traffic_refused(errno))
        return -errno;
    return 0;
}

static size_t size_of(uint64_t sequence, size_t least, size_t most)
{
    return least + sequence * SIZE_STEP % (most - least + 1);
}

/* Take one answer off the socket; 0, 1 when there is none, or -errno. */
static int flight_receive(int fd, int flags, const struct traffic_pattern *pattern, uint32_t run,
                          size_t least, size_t most, uint8_t *buffer, struct flight *flight,
                          struct traffic_samples *samples, struct traffic_trips *result)
{
    ssize_t got = recv(fd, buffer, TRAFFIC_SLOT, flags);
    struct traffic_header header;
    size_t slot;

    if (got < 0)
        return traffic_refused(errno) ? 1 : -errno;
    if ((size_t)got < sizeof(header)) {
        result->corrupt++;
        return 0;
    }
    memcpy(&header, buffer, sizeof(header));
    if (header.magic != TRAFFIC_MAGIC || header.run != run || header.sequence >= flight->next) {
        result->corrupt++;
        return 0;
    }
    slot = header.sequence % TRAFFIC_WINDOW_MAX;
    if (header.sequence < flight->tail || flight->answered[slot])
        return 0; /* given up before, or a duplicate */
    flight->answered[slot] = true;
    result->answered++;
    if ((size_t)got != size_of(header.sequence, least, most) ||
        memcmp(buffer + sizeof(header), traffic_piece(pattern, header.sequence),
               (size_t)got - sizeof(header)) != 0)
        result->corrupt++;
    traffic_samples_add(samples, traffic_now() - flight->sent_at[slot]);
    return 0;
}

int traffic_datagram_ping(int fd, const struct traffic_pattern *pattern, uint32_t run, size_t least,
                          size_t most, uint64_t datagrams, unsigned int window, uint64_t patience,
                          uint64_t nanoseconds, struct traffic_trips *result)
{
    const uint64_t start = traffic_now();
    struct traffic_samples samples;
    struct flight *flight;
    uint8_t *buffer;
    int error;

    memset(result, 0, sizeof(*result));
    if (least < sizeof(struct traffic_header) || most < least || most > TRAFFIC_DATAGRAM_MAX ||
        window == 0 || window > TRAFFIC_WINDOW_MAX)
        return -EINVAL;
    error = traffic_samples_open(&samples);
    if (error != 0)
        return error;
    flight = calloc(1, sizeof(*flight));
    buffer = malloc(TRAFFIC_SLOT);
    error =
        flight == NULL || buffer == NULL ? -ENOMEM : traffic_limit_blocking(fd, TRAFFIC_SLICE_NS);
    while (error == 0) {
        const uint64_t now = traffic_now();

        while (flight->tail < flight->next) {
            const size_t slot = flight->tail % TRAFFIC_WINDOW_MAX;

            if (!flight->answered[slot] && now - flight->sent_at[slot] < patience)
                break;
            flight->tail++;
        }
        if (flight->tail == datagrams || now - start > nanoseconds)
            break;
        while (error == 0 && flight->next < datagrams && flight->next - flight->tail < window) {
            const size_t slot = flight->next % TRAFFIC_WINDOW_MAX;

            flight->answered[slot] = false;
            flight->sent_at[slot] = traffic_now();
            error = flight_send(fd, pattern, run, flight->next, size_of(flight->next, least, most));
            flight->next++;
        }
        if (error == 0)
            error =
                flight_receive(fd, 0, pattern, run, least, most, buffer, flight, &samples, result);
        while (error == 0)
            error = flight_receive(fd, MSG_DONTWAIT, pattern, run, least, most, buffer, flight,
                                   &samples, result);
        if (error == 1)
            error = 0;
    }
    if (flight != NULL)
        result->sent = flight->next;
    result->nanoseconds = traffic_now() - start;
    traffic_samples_close(&samples, result);
    if (error == 0)
        traffic_send_end(fd, run);
    free(flight);
    free(buffer);
    return error;
}
