/* SPDX-License-Identifier: Apache-2.0
 *
 * outbound: TUN -> UDP. The functions stand in the order in which a packet meets them:
 *
 *     read -> check -> lookup -> TTL -> encapsulate or cut -> outbox (sent at the end of the batch)
 *
 * The check also refuses datagrams of our own: no leases and routes whatever can make a loop.
 *
 * The lookup comes before the TTL test (flannel pkg/backend/udp/proxy_amd64.c, tun_to_udp): a
 * packet nobody can take is answered "net unreachable" whatever its TTL.
 *
 * A super-packet is one packet until it is cut: refused before, it counts as one.
 */
#define _GNU_SOURCE /* EBADFD */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "packet/bytes.h"
#include "packet/transport.h"
#include "worker/worker.h"

/* Reads one packet so that it begins at `packet`, its vnet header, if any, right before it. The
 * packet's length, which is 0 when the read brought no more than a header; -EAGAIN when there is
 * none, another -errno when the device is gone. */
static ssize_t read_packet(struct worker *worker, uint8_t *packet)
{
    ssize_t header = worker->pump->levers & PUMP_VNET_HEADER ? VNET_HEADER_LENGTH : 0;
    for (;;) {
        ssize_t length = read(worker->tun_fd, packet - header, (size_t)header + PUMP_PACKET_MAX);
        worker_tally(worker, TALLY_TUN_READ_CALLS, 1);
        if (length >= 0)
            return length > header ? length - header : 0;
        if (errno == EINTR)
            continue;
        if (device_is_gone(errno))
            return -errno;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            worker_tally(worker, TALLY_TUN_READ_FAILED, 1);
        return -EAGAIN;
    }
}

/* Whatever the offload header says of a packet that needs nothing done. */
static struct vnet read_vnet(const struct worker *worker, const uint8_t *packet)
{
    struct vnet vnet = {0};
    if (worker->pump->levers & PUMP_VNET_HEADER)
        vnet_load(&vnet, packet - VNET_HEADER_LENGTH);
    return vnet;
}

static bool longer_than_peer_takes(const struct pump *pump, const struct nexthop *hop,
                                   uint32_t length)
{
    return length > (hop->mtu ? hop->mtu : pump->mtu) ||
           length + hop->header.length > SEND_BYTES_MAX;
}

/* Puts the header template in front; the packet itself stays where it was read. */
static enum verdict encapsulate(struct worker *worker, const struct nexthop *hop,
                                const struct vnet *vnet, uint8_t *bytes, uint32_t length)
{
    if (longer_than_peer_takes(worker->pump, hop, length))
        return VERDICT_OUTBOUND_TOO_BIG;
    if (vnet_finish_checksum(vnet, bytes, length) < 0)
        return VERDICT_OUTBOUND_BAD_OFFLOAD;
    uint8_t *datagram = bytes - hop->header.length;
    memcpy(datagram, hop->header.bytes, hop->header.length);
    outbox_add(worker, hop, datagram, length + hop->header.length);
    return VERDICT_OUTBOUND_SENT;
}

/* Makes segments of the super-packet at hand until it is used up or the outbox is full. */
static void cut_on(struct worker *worker)
{
    struct outbound *outbound = &worker->outbound;
    struct outbox *outbox = &outbound->outbox;
    const struct nexthop *hop = &outbound->hop;
    const struct cut_limits limits = {
        .segments = SEGMENTS_MAX,
        .bytes = SEND_BYTES_MAX,
        .encap = hop->header.bytes,
        .encap_length = hop->header.length,
    };
    struct cut_group group;

    while (outbound->cutting && outbox_has_room(outbox)) {
        const struct cut_space space = {
            .arena = outbound->headers + outbound->headers_used,
            .arena_size = HEADER_ARENA - outbound->headers_used,
            .iov = outbox->iov + outbox->iovecs,
            .iov_size = OUTBOX_IOVECS - outbox->iovecs,
        };
        if (!cut_fits(&outbound->cut, &limits, &space))
            return;
        if (!cut_next(&outbound->cut, &limits, &space, &group)) {
            outbound->cutting = false;
            return;
        }
        outbound->headers_used += group.segments * space.iov[0].iov_len;
        outbox_add_group(worker, hop, &group);
        outbound->cutting = outbound->cut.next < outbound->cut.segments;
    }
}

static enum verdict cut(struct worker *worker, const struct nexthop *hop, const struct vnet *vnet,
                        uint8_t *bytes, uint32_t length)
{
    struct outbound *outbound = &worker->outbound;

    if (cut_begin(&outbound->cut, vnet, bytes, length) < 0)
        return VERDICT_OUTBOUND_BAD_OFFLOAD;
    if (longer_than_peer_takes(worker->pump, hop, outbound->cut.segment_length))
        return VERDICT_OUTBOUND_TOO_BIG;
    outbound->hop = *hop;
    outbound->cutting = true;
    worker_tally(worker, TALLY_TUN_SUPER_PACKETS, 1);
    cut_on(worker);
    return VERDICT_OUTBOUND_SENT;
}

/* A datagram of our own socket that the host routes back into the tunnel: its peer's address lies
 * in the overlay. Sent on, it would come back in one more header, without end. A later fragment has no
 * port: it makes one more turn and comes back in a header that has one. */
static bool is_own_datagram(const struct worker *worker, const uint8_t *bytes,
                            const struct packet *packet)
{
    const uint8_t *ports = bytes + packet->header_length;

    return packet->version == 4 &&
           memcmp(bytes + IPV4_SOURCE, worker->own.address, sizeof(worker->own.address)) == 0 &&
           packet->protocol == IPPROTO_UDP &&
           (get16(bytes + IPV4_FRAGMENT) & IPV4_FRAGMENT_OFFSET) == 0 &&
           packet->length >= packet->header_length + sizeof(worker->own.port) &&
           memcmp(ports, worker->own.port, sizeof(worker->own.port)) == 0;
}

/* Decides about one packet of `received` bytes; true when it went to the outbox. */
static bool forward(struct worker *worker, uint8_t *bytes, size_t received)
{
    const struct vnet vnet = read_vnet(worker, bytes);
    const struct iovec all = {.iov_base = bytes, .iov_len = received};
    struct packet packet;

    enum packet_check check = packet_check(bytes, received, worker->pump->families, &packet);
    if (check != PACKET_OK) {
        worker_verdict(worker, packet_refusal(DIRECTION_OUTBOUND, check), &all, 1);
        return false;
    }
    if (is_own_datagram(worker, bytes, &packet)) {
        worker_verdict(worker, VERDICT_OUTBOUND_OWN_DATAGRAM, &all, 1);
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
    enum verdict verdict = vnet_is_super(&vnet)
                               ? cut(worker, hop, &vnet, bytes, packet.length)
                               : encapsulate(worker, hop, &vnet, bytes, packet.length);
    if (verdict != VERDICT_OUTBOUND_SENT) {
        worker_verdict(worker, verdict, &all, 1);
        return false;
    }
    return true; /* its verdict comes when it is sent */
}

/* Sends what an earlier batch left, and the next segments of its last packet: BATCH_MORE when all
 * that memory is free again, or is still needed for the segments after these. */
static int go_on(struct worker *worker)
{
    struct outbound *outbound = &worker->outbound;
    int end = outbox_flush(worker);

    outbound->hop.peer = NULL; /* belonged to that batch's table */
    if (end == BATCH_IDLE && outbound->cutting) {
        outbound->headers_used = 0;
        cut_on(worker);
        end = outbox_flush(worker);
    }
    return end == BATCH_IDLE ? BATCH_MORE : end;
}

int outbound_batch(struct worker *worker)
{
    struct outbound *outbound = &worker->outbound;
    struct outbox *outbox = &outbound->outbox;
    int end = BATCH_MORE, gone = 0;
    uint32_t packets = 0;

    /* What could not be sent keeps its memory, so nothing is read before it is gone: the TUN's own
     * queue holds the rest back, and its senders. */
    if (!outbox_empty(outbox) || outbound->cutting)
        return go_on(worker);
    outbound->arena_used = outbound->headers_used = 0;
    for (; packets < worker->pump->batch; packets++) {
        uint8_t *packet = outbound->arena + outbound->arena_used + HEADROOM;
        if (packet + PUMP_PACKET_MAX > outbound->arena + OUTBOUND_ARENA ||
            !outbox_has_room(outbox) || outbound->cutting)
            break;
        ssize_t received = read_packet(worker, packet);
        if (received < 0) {
            gone = received == -EAGAIN ? 0 : (int)received;
            end = BATCH_IDLE;
            break;
        }
        if (forward(worker, packet, (size_t)received))
            outbound->arena_used += (HEADROOM + (size_t)received + 7) & ~(size_t)7;
    }
    if (packets == 0)
        return gone ? gone : end;
    worker->moved = true;
    worker_tally(worker, TALLY_OUTBOUND_BATCHES, 1);
    /* Also when the device is gone: what was read is sent, and what cannot be sent now forgets the
     * table that this batch ends with. */
    int sent = outbox_flush(worker);
    if (gone)
        return gone;
    if (sent != BATCH_IDLE)
        return sent;
    return outbound->cutting ? BATCH_MORE : end;
}

void outbound_abandon(struct worker *worker)
{
    struct outbound *outbound = &worker->outbound;

    outbox_abandon(worker);
    if (!outbound->cutting)
        return;
    outbound->cutting = false;
    for (unsigned i = outbound->cut.next; i < outbound->cut.segments; i++)
        worker_verdict(worker, VERDICT_OUTBOUND_QUEUE_FULL, NULL, 0);
}
