/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/icmp_reply.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "worker/clock.h"
#include "worker/source_check.h"

/* The kernel routes it by its destination: to a local process, a bridge, or back into the tunnel. */
static bool send_raw(int fd, const uint8_t *error, size_t length)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    memcpy(&to.sin_addr, error + IPV4_DESTINATION, sizeof(to.sin_addr));
    return sendto(fd, error, length, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) >= 0;
}

void icmp_reply(struct pump *pump, const struct route_table *table, const struct device *device,
                enum icmp_error error, const uint8_t *bytes, const struct packet *packet)
{
    struct stats *stats = device->stats;
    uint8_t out[ICMP_ERROR_MAX];
    if (!source_answerable(pump, table, bytes, packet)) {
        stats_count(stats, COUNTER_ICMP_UNVERIFIED, 1);
        return;
    }
    size_t length = icmp_error_build(out, error, pump->tun_address, bytes, packet);
    if (length == 0) {
        stats_count(stats, COUNTER_ICMP_SUPPRESSED, 1);
        return;
    }
    if (!icmp_limiter_take(&pump->icmp_limiter, clock_ns())) {
        stats_count(stats, COUNTER_ICMP_LIMITED, 1);
        return;
    }
    if (pump->icmp_fd >= 0 && send_raw(pump->icmp_fd, out, length))
        stats_count(stats, COUNTER_ICMP_SENT, 1);
    else if (device_write(device, out, length) == 0)
        stats_count(stats, COUNTER_ICMP_TO_TUN, 1);
    else
        stats_count(stats, COUNTER_ICMP_FAILED, 1);
}
