/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP echo of traffic.h (RFC 792). */
#define _GNU_SOURCE
#include "traffic/samples.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* RFC 1071, over an even or odd number of bytes. */
static uint16_t internet_checksum(const uint8_t *data, size_t length)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < length; i++)
        sum += i % 2 == 0 ? (uint32_t)data[i] << 8 : data[i];
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

/* Whether `packet` is the reply to `request`, both from the ICMP header on; counts a wrong byte. */
static bool is_reply(const uint8_t *packet, size_t length, const uint8_t *request,
                     size_t request_length, struct traffic_trips *result)
{
    struct icmphdr reply, asked;
    size_t ip_length;

    if (length < sizeof(struct iphdr))
        return false;
    ip_length = (size_t)(packet[0] & 0x0f) * 4;
    if (length < ip_length + sizeof(reply))
        return false;
    memcpy(&reply, packet + ip_length, sizeof(reply));
    memcpy(&asked, request, sizeof(asked));
    if (reply.type != ICMP_ECHOREPLY || reply.un.echo.id != asked.un.echo.id ||
        reply.un.echo.sequence != asked.un.echo.sequence)
        return false;
    if (length - ip_length != request_length ||
        memcmp(packet + ip_length + sizeof(reply), request + sizeof(asked),
               request_length - sizeof(asked)) != 0)
        result->corrupt++;
    return true;
}

/* Wait for the reply until `deadline`; 1 when it came, 0 when not, or -errno. */
static int await_reply(int fd, uint8_t *buffer, size_t capacity, const uint8_t *request,
                       size_t request_length, uint64_t deadline, struct traffic_trips *result)
{
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        const uint64_t now = traffic_now();
        struct timespec left;
        ssize_t got;

        if (now >= deadline)
            return 0;
        left.tv_sec = (time_t)((deadline - now) / 1000000000U);
        left.tv_nsec = (long)((deadline - now) % 1000000000U);
        if (ppoll(&ready, 1, &left, NULL) < 0 && errno != EINTR)
            return -errno;
        got = recv(fd, buffer, capacity, MSG_DONTWAIT);
        /* An ICMP error about our request shows up here; it is a lost request. */
        if (got < 0 && (errno == EAGAIN || errno == EINTR || errno == EHOSTUNREACH ||
                        errno == ENETUNREACH || errno == ECONNREFUSED))
            continue;
        if (got < 0)
            return -errno;
        if (is_reply(buffer, (size_t)got, request, request_length, result))
            return 1;
    }
}

int traffic_icmp_ping(int fd, const struct traffic_pattern *pattern, uint16_t id, size_t size,
                      uint64_t count, uint64_t pause, uint64_t patience,
                      struct traffic_trips *result)
{
    const uint64_t start = traffic_now();
    const size_t length = sizeof(struct icmphdr) + size;
    const size_t capacity = length + 60 + 1; /* the longest IP header; one more shows a longer */
    uint8_t *request = malloc(length), *buffer = malloc(capacity);
    struct traffic_samples samples;
    int error = traffic_samples_open(&samples);

    memset(result, 0, sizeof(*result));
    if (request == NULL || buffer == NULL || size > TRAFFIC_DATAGRAM_MAX)
        error = request == NULL || buffer == NULL ? -ENOMEM : -EINVAL;
    while (error == 0 && result->sent < count) {
        struct icmphdr header = {.type = ICMP_ECHO};
        const uint64_t sent_at = traffic_now();
        uint64_t now;

        header.un.echo.id = htons(id);
        header.un.echo.sequence = htons((uint16_t)result->sent);
        memcpy(request, &header, sizeof(header));
        memcpy(request + sizeof(header), pattern->bytes + result->sent % TRAFFIC_PERIOD, size);
        header.checksum = internet_checksum(request, length);
        memcpy(request, &header, sizeof(header));
        result->sent++;
        if (send(fd, request, length, MSG_NOSIGNAL) < 0 && errno != ENOBUFS &&
            errno != EHOSTUNREACH && errno != ENETUNREACH)
            error = -errno;
        else
            error = await_reply(fd, buffer, capacity, request, length, sent_at + patience, result);
        if (error < 0)
            break;
        now = traffic_now();
        if (error == 1) {
            result->answered++;
            traffic_samples_add(&samples, now - sent_at);
            error = 0;
        }
        if (now - sent_at < pause)
            traffic_sleep(pause - (now - sent_at));
    }
    result->nanoseconds = traffic_now() - start;
    traffic_samples_close(&samples, result);
    free(request);
    free(buffer);
    return error;
}
