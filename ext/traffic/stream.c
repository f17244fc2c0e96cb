/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "traffic/samples.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

/* ---- the pattern ---------------------------------------------------------------------------- */

void traffic_fill(struct traffic_pattern *pattern, uint64_t seed)
{
    /* splitmix64: any seed, also 0, gives a good sequence. */
    for (size_t i = 0; i < TRAFFIC_PERIOD; i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15U);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        pattern->bytes[i] = (uint8_t)(z >> 56);
    }
    /* The rest repeats from the start on; it is a byte longer than a period. */
    memcpy(pattern->bytes + TRAFFIC_PERIOD, pattern->bytes, TRAFFIC_PERIOD);
    memcpy(pattern->bytes + 2 * TRAFFIC_PERIOD, pattern->bytes, TRAFFIC_CHUNK - TRAFFIC_PERIOD);
}

/* ---- streams -------------------------------------------------------------------------------- */

/* Have blocking calls come back after a second at most, so that the clock is looked at. */
static int limit_blocking(int fd)
{
    const struct timeval second = {.tv_sec = 1};

    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second)) != 0)
        return -errno;
    return 0;
}

/* An error that only means: look at the clock and try again. */
static bool passing(int error)
{
    return error == EAGAIN || error == EINTR;
}

int traffic_stream_send(int fd, const struct traffic_pattern *pattern, uint64_t bytes,
                        uint64_t nanoseconds, struct traffic_stream *result)
{
    int error = limit_blocking(fd);
    const uint64_t start = traffic_now();
    uint64_t now = start;

    memset(result, 0, sizeof(*result));
    if (error != 0)
        return error;
    while (now - start < nanoseconds && (bytes == 0 || result->bytes < bytes)) {
        size_t length = TRAFFIC_CHUNK;
        ssize_t sent;

        if (bytes != 0 && bytes - result->bytes < length)
            length = bytes - result->bytes;
        sent = send(fd, pattern->bytes + result->bytes % TRAFFIC_PERIOD, length, MSG_NOSIGNAL);
        if (sent < 0 && !passing(errno))
            return -errno;
        if (sent > 0) {
            result->bytes += (uint64_t)sent;
            result->calls++;
        }
        now = traffic_now();
    }
    result->nanoseconds = now - start;
    return shutdown(fd, SHUT_WR) == 0 ? 0 : -errno;
}

/* Offset of the first byte that differs; there is one. */
static size_t first_difference(const uint8_t *left, const uint8_t *right)
{
    size_t i = 0;

    while (left[i] == right[i])
        i++;
    return i;
}

int traffic_stream_receive(int fd, const struct traffic_pattern *pattern, uint64_t nanoseconds,
                           struct traffic_stream *result)
{
    const uint64_t start = traffic_now();
    uint64_t first = 0, last = 0;
    int error = limit_blocking(fd);
    uint8_t *buffer;

    memset(result, 0, sizeof(*result));
    if (error != 0)
        return error;
    buffer = malloc(TRAFFIC_CHUNK);
    if (buffer == NULL)
        return -ENOMEM;
    for (;;) {
        const uint8_t *expected;
        ssize_t got = recv(fd, buffer, TRAFFIC_CHUNK, 0);

        if (got == 0)
            break;
        last = traffic_now();
        if (got < 0 && !passing(errno)) {
            error = -errno;
            break;
        }
        if (last - start > nanoseconds) {
            error = -ETIMEDOUT;
            break;
        }
        if (got < 0)
            continue;
        if (first == 0)
            first = last;
        result->calls++;
        if (pattern != NULL) {
            expected = pattern->bytes + result->bytes % TRAFFIC_PERIOD;
            if (memcmp(buffer, expected, (size_t)got) != 0) {
                result->corrupt = 1 + result->bytes + first_difference(buffer, expected);
                break;
            }
        }
        result->bytes += (uint64_t)got;
    }
    result->nanoseconds = last - first;
    free(buffer);
    return error;
}

enum { LAST_TRIP_SECONDS = 5 }; /* what the last round trip may take beyond the time limit */

/* Move exactly `size` bytes; 0, -errno, or 1 when the stream ended before the first of them. */
static int stream_move(int fd, uint8_t *buffer, size_t size, bool sending, uint64_t deadline)
{
    size_t done = 0;

    while (done < size) {
        ssize_t moved = sending ? send(fd, buffer + done, size - done, MSG_NOSIGNAL)
                                : recv(fd, buffer + done, size - done, 0);

        if (moved > 0)
            done += (size_t)moved;
        else if (moved == 0)
            return done == 0 ? 1 : -EPIPE;
        else if (!passing(errno))
            return -errno;
        else if (traffic_now() > deadline)
            return -ETIMEDOUT;
    }
    return 0;
}

static int no_delay(int fd)
{
    const int one = 1;

    /* Nagle's rule would wait for the other end's acknowledgement. A Unix socket has none. */
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 && errno != EOPNOTSUPP)
        return -errno;
    return limit_blocking(fd);
}

int traffic_stream_ping(int fd, size_t size, uint64_t nanoseconds, struct traffic_trips *result)
{
    const uint64_t start = traffic_now();
    const uint64_t deadline = start + nanoseconds + LAST_TRIP_SECONDS * 1000000000ULL;
    struct traffic_samples samples;
    int error = no_delay(fd);
    uint8_t *buffer;
    uint64_t now;

    memset(result, 0, sizeof(*result));
    if (error != 0)
        return error;
    if (size == 0)
        return -EINVAL;
    error = traffic_samples_open(&samples);
    if (error != 0)
        return error;
    buffer = calloc(1, size);
    if (buffer == NULL) {
        error = -ENOMEM;
        goto cleanup;
    }
    for (now = start; now - start < nanoseconds;) {
        const uint64_t sent_at = now;
        const uint8_t mark = (uint8_t)result->sent;

        buffer[0] = mark;
        buffer[size - 1] = mark;
        result->sent++;
        error = stream_move(fd, buffer, size, true, deadline);
        if (error == 0)
            error = stream_move(fd, buffer, size, false, deadline);
        if (error != 0)
            break;
        now = traffic_now();
        result->answered++;
        if (buffer[0] != mark || buffer[size - 1] != mark)
            result->corrupt++;
        traffic_samples_add(&samples, now - sent_at);
    }
    if (error > 0)
        error = -EPIPE;
    if (shutdown(fd, SHUT_WR) != 0 && error == 0)
        error = -errno;
    result->nanoseconds = traffic_now() - start;
cleanup:
    traffic_samples_close(&samples, result);
    free(buffer);
    return error;
}

int traffic_stream_pong(int fd, size_t size, uint64_t nanoseconds, struct traffic_stream *result)
{
    const uint64_t start = traffic_now();
    int error = no_delay(fd);
    uint8_t *buffer;

    memset(result, 0, sizeof(*result));
    if (error != 0)
        return error;
    if (size == 0)
        return -EINVAL;
    buffer = malloc(size);
    if (buffer == NULL)
        return -ENOMEM;
    while (error == 0) {
        error = stream_move(fd, buffer, size, false, start + nanoseconds);
        if (error == 0)
            error = stream_move(fd, buffer, size, true, start + nanoseconds);
        if (error == 0) {
            result->bytes += size;
            result->calls += 2;
        }
    }
    result->nanoseconds = traffic_now() - start;
    free(buffer);
    return error == 1 ? 0 : error; /* 1: the other end has had enough */
}
