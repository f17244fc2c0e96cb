/* SPDX-License-Identifier: Apache-2.0
 *
 * refuse: hands our ICMP errors to the kernel.
 *
 * Owns: the way they take. Must not know: when one is due (outbound.c, inbound.c), how one looks
 * and what the rate limit is (icmp.h).
 *
 * They leave through a raw socket: an error written to the TUN has the TUN's own address as its
 * source, which Linux drops as a martian (net/ipv4/fib_frontend.c, fib_validate_source) unless
 * accept_local is set on the device. Without a raw socket the TUN is tried all the same.
 */
#define _GNU_SOURCE /* recvmmsg, sendmmsg, EBADFD */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "worker/clock.h"
#include "worker/worker.h"

/* The kernel routes it by its destination: to a local process, a bridge, or back into the tunnel. */
static bool send_raw(int fd, const uint8_t *error, size_t length)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    memcpy(&to.sin_addr, error + IPV4_DESTINATION, sizeof(to.sin_addr));
    return sendto(fd, error, length, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) >= 0;
}

void refuse(struct worker *worker, enum icmp_error error, const uint8_t *bytes,
            const struct packet *packet)
{
    struct pump *pump = worker->pump;
    uint8_t out[ICMP_ERROR_MAX];
    if (!source_answerable(worker, bytes, packet)) {
        worker_count(worker, COUNTER_ICMP_UNVERIFIED, 1);
        return;
    }
    size_t length = icmp_error_build(out, error, pump->tun_address, bytes, packet);
    if (length == 0) {
        worker_count(worker, COUNTER_ICMP_SUPPRESSED, 1);
        return;
    }
    if (!icmp_limiter_take(&pump->icmp_limiter, clock_ns())) {
        worker_count(worker, COUNTER_ICMP_LIMITED, 1);
        return;
    }
    if (pump->icmp_fd >= 0 && send_raw(pump->icmp_fd, out, length))
        worker_count(worker, COUNTER_ICMP_SENT, 1);
    else if (tun_write(worker, out, length) >= 0)
        worker_count(worker, COUNTER_ICMP_TO_TUN, 1);
    else
        worker_count(worker, COUNTER_ICMP_FAILED, 1);
}
