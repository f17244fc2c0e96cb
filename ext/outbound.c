/* SPDX-License-Identifier: Apache-2.0
 *
 * outbound: TUN -> UDP. The functions stand in the order in which a packet meets them:
 *
 *     read -> check -> lookup -> TTL -> encapsulate -> outbox (sent at the end of the batch)
 *
 * The lookup comes before the TTL test (flannel pkg/backend/udp/proxy_amd64.c, tun_to_udp): a
 * packet nobody can take is answered "net unreachable" whatever its TTL.
 */
#define _GNU_SOURCE /* recvmmsg, sendmmsg, EBADFD */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "worker.h"

/* Reads one packet to where it will be sent from. Its length, 0 when there is none, or -errno. */
static ssize_t read_packet(struct worker *worker, uint8_t *packet)
{
    for (;;) {
        ssize_t length = read(worker->tun_fd, packet, PUMP_PACKET_MAX);
        worker_tally(worker, TALLY_TUN_READ_CALLS, 1);
        if (length > 0)
            return length;
        if (length == 0) /* a stream's end: no TUN device does that */
            return -EBADFD;
        if (errno == EINTR)
            continue;
        if (device_is_gone(errno))
            return -errno;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            worker_tally(worker, TALLY_TUN_READ_FAILED, 1);
        return 0;
    }
}

/* Puts the header template in front; the packet itself stays where it was read. */
static void encapsulate(struct outbox *outbox, const struct nexthop *hop, uint8_t *bytes,
                        uint32_t length, bool runs)
{
    uint8_t *datagram = bytes - hop->header.length;
    memcpy(datagram, hop->header.bytes, hop->header.length);
    outbox_add(outbox, hop, datagram, length + hop->header.length, runs);
}

/* Decides about one packet of `received` bytes; true when it went to the outbox. */
static bool forward(struct worker *worker, uint8_t *bytes, size_t received)
{
    const struct pump *pump = worker->pump;
    const struct iovec all = {.iov_base = bytes, .iov_len = received};
    struct packet packet;

    enum packet_check check = packet_check(bytes, received, pump->families, &packet);
    if (check != PACKET_OK) {
        worker_verdict(worker, packet_refusal(DIRECTION_OUTBOUND, check), &all, 1);
        return false;
    }
    const struct nexthop *hop =
        routes_lookup(worker->table, packet.version, packet_destination(bytes, &packet));
    if (hop == NULL) {
        worker_verdict(worker, VERDICT_OUTBOUND_NO_ROUTE, &all, 1);
        refuse(worker, ICMP_ERROR_NET_UNREACHABLE, bytes, &packet);
        return false;
    }
    if (!packet_decrease_ttl(bytes, &packet)) {
        worker_verdict(worker, VERDICT_OUTBOUND_TTL_EXPIRED, &all, 1);
        refuse(worker, ICMP_ERROR_TIME_EXCEEDED, bytes, &packet);
        return false;
    }
    if (packet.length > (hop->mtu ? hop->mtu : pump->mtu)) {
        worker_verdict(worker, VERDICT_OUTBOUND_TOO_BIG, &all, 1);
        return false;
    }
    encapsulate(&worker->outbound.outbox, hop, bytes, packet.length,
                pump->levers & PUMP_UDP_SEGMENT);
    return true;
}

int outbound_batch(struct worker *worker)
{
    struct outbound *outbound = &worker->outbound;
    struct outbox *outbox = &outbound->outbox;
    int end = BATCH_MORE;
    uint32_t packets = 0;

    /* What could not be sent keeps its memory, so nothing is read before it is gone: the TUN's own
     * queue holds the rest back, and its senders. */
    if (!outbox_empty(outbox)) {
        end = outbox_flush(worker);
        return end == BATCH_IDLE ? BATCH_MORE : end;
    }
    outbound->arena_used = 0;
    for (; packets < worker->pump->batch; packets++) {
        uint8_t *packet = outbound->arena + outbound->arena_used + HEADROOM;
        if (packet + PUMP_PACKET_MAX > outbound->arena + OUTBOUND_ARENA ||
            !outbox_has_room(outbox))
            break;
        ssize_t received = read_packet(worker, packet);
        if (received < 0)
            return (int)received;
        if (received == 0) {
            end = BATCH_IDLE;
            break;
        }
        if (forward(worker, packet, (size_t)received))
            outbound->arena_used += (HEADROOM + (size_t)received + 7) & ~(size_t)7;
    }
    if (packets == 0)
        return end;
    worker_tally(worker, TALLY_OUTBOUND_BATCHES, 1);
    int sent = outbox_flush(worker);
    return sent == BATCH_IDLE ? end : sent;
}
