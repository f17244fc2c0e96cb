/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "traffic/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/time.h>

enum {
    END_REPEATS = 5,
    END_PAUSE_NS = 10 * 1000 * 1000,
    PATTERN_STEP = 7919,
};

const uint8_t *traffic_piece(const struct traffic_pattern *pattern, uint64_t sequence)
{
    return pattern->bytes + sequence * PATTERN_STEP % TRAFFIC_PERIOD;
}

int traffic_limit_blocking(int fd, uint64_t nanoseconds)
{
    const struct timeval limit = {
        .tv_sec = (time_t)(nanoseconds / 1000000000U),
        .tv_usec = (suseconds_t)(nanoseconds % 1000000000U / 1000U),
    };

    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0)
        return -errno;
    return 0;
}

bool traffic_refused(int error)
{
    return error == ENOBUFS || error == EAGAIN || error == EINTR || error == ECONNREFUSED ||
           error == EHOSTUNREACH || error == ENETUNREACH || error == EMSGSIZE;
}

void traffic_send_end(int fd, uint32_t run)
{
    const struct traffic_header end = {.magic = TRAFFIC_MAGIC, .run = run, .sequence = TRAFFIC_END};

    for (int i = 0; i < END_REPEATS; i++) {
        send(fd, &end, sizeof(end), MSG_NOSIGNAL);
        traffic_sleep(END_PAUSE_NS);
    }
}

struct traffic_slots *traffic_slots_open(void)
{
    struct traffic_slots *slots = calloc(1, sizeof(*slots));

    if (slots == NULL)
        return NULL;
    slots->memory = malloc((size_t)TRAFFIC_SLOT * TRAFFIC_BATCH);
    if (slots->memory == NULL) {
        free(slots);
        return NULL;
    }
    return slots;
}

void traffic_slots_close(struct traffic_slots *slots)
{
    free(slots->memory);
    free(slots);
}

int traffic_slots_receive(struct traffic_slots *slots, int fd)
{
    int count;

    for (size_t i = 0; i < TRAFFIC_BATCH; i++) {
        slots->parts[i] = (struct iovec){slots->memory + i * TRAFFIC_SLOT, TRAFFIC_SLOT};
        slots->batch[i].msg_hdr = (struct msghdr){
            .msg_name = &slots->names[i],
            .msg_namelen = sizeof(slots->names[i]),
            .msg_iov = &slots->parts[i],
            .msg_iovlen = 1,
        };
    }
    count = recvmmsg(fd, slots->batch, TRAFFIC_BATCH, MSG_WAITFORONE, NULL);
    if (count < 0)
        return traffic_refused(errno) ? 0 : -errno;
    return count;
}
