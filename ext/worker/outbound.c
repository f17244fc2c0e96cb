/* SPDX-License-Identifier: Apache-2.0
 *
 * outbound: TUN -> UDP. The functions stand in the order in which a packet meets them:
 *
 *     read -> check -> lookup -> TTL -> encapsulate or segment -> tx batch (sent at the end of the batch)
 *                                  `--> impaired (impair.h) ------'
 *
 * The check also refuses datagrams of our own: no leases and routes whatever can make a loop.
 *
 * The lookup comes before the TTL test (flannel pkg/backend/udp/proxy_amd64.c, tun_to_udp): a
 * packet without a route is answered "net unreachable" whatever its TTL.
 *
 * A super-packet is one packet until it is segmented: refused before, it counts as one.
 */
#define _GNU_SOURCE /* struct mmsghdr */
#include "worker/outbound.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "packet/bytes.h"
#include "packet/transport.h"
#include "worker/event.h"
#include "worker/icmp_reply.h"

_Static_assert((int)TX_BATCH_ENTRIES >= (int)PUMP_BATCH_MAX, "one sendmmsg takes a whole batch");

void outbound_init(struct outbound *outbound, struct pump *pump, const struct device *device,
                   int udp_fd, uint8_t *packets, uint8_t *headers)
{
    struct sockaddr_in own = {0};

    outbound->pump = pump;
    outbound->stats = device->stats;
    outbound->device = device;
    outbound->packets = packets;
    outbound->headers = headers;
    tx_batch_init(&outbound->batch, device->stats, udp_fd, pump->batch,
                  pump->offloads & PUMP_UDP_SEGMENT, pump->offloads & PUMP_PATH_REPORTS);
    if (getsockname(udp_fd, (struct sockaddr *)&own, &(socklen_t){sizeof(own)}) == 0 &&
        own.sin_family == AF_INET) {
        memcpy(outbound->own.address, &own.sin_addr, sizeof(outbound->own.address));
        memcpy(outbound->own.port, &own.sin_port, sizeof(outbound->own.port));
    }
}

/* Whatever the offload header says of a packet that needs nothing done. */
static struct vnet read_vnet(const struct outbound *outbound, const uint8_t *packet)
{
    struct vnet vnet = {0};
    if (outbound->device->vnet_header)
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
static enum verdict encapsulate(struct outbound *outbound, const struct nexthop *hop,
                                const struct vnet *vnet, uint8_t *bytes, uint32_t length)
{
    if (longer_than_peer_takes(outbound->pump, hop, length))
        return VERDICT_OUTBOUND_TOO_BIG;
    if (vnet_finish_checksum(vnet, bytes, length) < 0)
        return VERDICT_OUTBOUND_BAD_OFFLOAD;
    uint8_t *datagram = bytes - hop->header.length;
    memcpy(datagram, hop->header.bytes, hop->header.length);
    tx_batch_add(&outbound->batch, hop, datagram, length + hop->header.length);
    return VERDICT_OUTBOUND_SENT;
}

/* Makes segments of the super-packet at hand until it is used up or the tx batch is full. */
static void continue_segmenting(struct outbound *outbound)
{
    struct tx_batch *batch = &outbound->batch;
    const struct nexthop *hop = &outbound->hop;
    const struct segment_limits limits = {
        .segments = TX_BATCH_SEGMENTS,
        .bytes = SEND_BYTES_MAX,
        .encap = hop->header.bytes,
        .encap_length = hop->header.length,
    };
    struct segment_group group;

    while (outbound->segmenting && tx_batch_has_room(batch)) {
        const struct segment_space space = {
            .headers = outbound->headers + outbound->headers_used,
            .headers_size = OUTBOUND_HEADERS - outbound->headers_used,
            .iov = batch->iov + batch->iovecs,
            .iov_size = TX_BATCH_IOVECS - batch->iovecs,
        };
        if (!segment_fits(&outbound->segmenter, &limits, &space))
            return;
        if (!segment_next(&outbound->segmenter, &limits, &space, &group)) {
            outbound->segmenting = false;
            return;
        }
        outbound->headers_used += group.segments * space.iov[0].iov_len;
        tx_batch_add_group(batch, hop, &group);
        outbound->segmenting = outbound->segmenter.next < outbound->segmenter.segments;
    }
}

/* It was taken as one packet, and is several. */
static void count_super_packet(struct outbound *outbound, const struct segmenter *segmenter)
{
    outbound->taken += segmenter->segments - 1;
    stats_count(outbound->stats, COUNTER_TUN_SUPER_PACKETS, 1);
    histogram_count(&outbound->stats->histograms[HISTOGRAM_OUTBOUND_SUPER_PACKETS],
                    segmenter->segments);
}

static enum verdict segment(struct outbound *outbound, const struct nexthop *hop,
                            const struct vnet *vnet, uint8_t *bytes, uint32_t length)
{
    if (segment_begin(&outbound->segmenter, vnet, bytes, length) < 0)
        return VERDICT_OUTBOUND_BAD_OFFLOAD;
    if (longer_than_peer_takes(outbound->pump, hop, outbound->segmenter.segment_length))
        return VERDICT_OUTBOUND_TOO_BIG;
    outbound->hop = *hop;
    outbound->segmenting = true;
    count_super_packet(outbound, &outbound->segmenter);
    continue_segmenting(outbound);
    return VERDICT_OUTBOUND_SENT;
}

/* A packet for a peer whose way is impaired: alone, whatever it was part of, and as a copy, so that it
 * can wait. */
static enum verdict impair(struct outbound *outbound, struct impair_lane *lane,
                           const struct nexthop *hop, const struct vnet *vnet, uint8_t *bytes,
                           const struct packet *packet)
{
    struct segmenter segmenter;
    const bool super = vnet_is_super(vnet);
    size_t size;
    uint8_t *room = impair_room(lane, &size);

    if (super && segment_begin(&segmenter, vnet, bytes, packet->length) < 0)
        return VERDICT_OUTBOUND_BAD_OFFLOAD;
    const uint32_t length = super ? segmenter.segment_length : packet->length;
    if (longer_than_peer_takes(outbound->pump, hop, length) || length + hop->header.length > size)
        return VERDICT_OUTBOUND_TOO_BIG;
    if (!super) {
        if (vnet_finish_checksum(vnet, bytes, length) < 0)
            return VERDICT_OUTBOUND_BAD_OFFLOAD;
        memcpy(room, hop->header.bytes, hop->header.length);
        memcpy(room + hop->header.length, bytes, length);
        impair_add(outbound->impair, lane, hop, length + hop->header.length, packet->header_length);
        return VERDICT_OUTBOUND_SENT;
    }
    count_super_packet(outbound, &segmenter);
    for (;;) {
        const struct segment_limits limits = {
            .segments = 1,
            .bytes = SEND_BYTES_MAX,
            .encap = hop->header.bytes,
            .encap_length = hop->header.length,
        };
        struct iovec pieces[2];
        const struct segment_space space = {
            .headers = room, .headers_size = size, .iov = pieces, .iov_size = 2};
        struct segment_group group;
        if (!segment_fits(&segmenter, &limits, &space) ||
            !segment_next(&segmenter, &limits, &space, &group))
            return VERDICT_OUTBOUND_SENT;
        memcpy(room + pieces[0].iov_len, pieces[1].iov_base, pieces[1].iov_len);
        impair_add(outbound->impair, lane, hop, (uint32_t)group.bytes, packet->header_length);
        room = impair_room(lane, &size);
    }
}

/* What is held back and due goes to the tx batch, as far as there is room. */
static void add_due(struct outbound *outbound, bool all)
{
    struct impair_due due;

    while (tx_batch_has_room(&outbound->batch) && impair_take(outbound->impair, all, &due)) {
        tx_batch_add_alone(&outbound->batch, &due.hop, due.datagram, due.length);
        outbound->moved = true;
    }
}

/* A datagram of our own socket that the host routes back into the tunnel: its peer's address lies
 * in the overlay. Sent on, it would come back in one more header, without end. A later fragment has no
 * port: it makes one more turn and comes back in a header that has one. */
static bool is_own_datagram(const struct outbound *outbound, const uint8_t *bytes,
                            const struct packet *packet)
{
    const uint8_t *ports = bytes + packet->header_length;

    return packet->version == 4 &&
           memcmp(bytes + IPV4_SOURCE, outbound->own.address, sizeof(outbound->own.address)) == 0 &&
           packet->protocol == IPPROTO_UDP &&
           (get16(bytes + IPV4_FRAGMENT) & IPV4_FRAGMENT_OFFSET) == 0 &&
           packet->length >= packet->header_length + sizeof(outbound->own.port) &&
           memcmp(ports, outbound->own.port, sizeof(outbound->own.port)) == 0;
}

/* A packet goes no further. `peer`: the slot of the one that it was for. */
static void refuse(const struct outbound *outbound, enum verdict verdict, uint16_t peer,
                   const struct iovec *packet)
{
    packet_event(outbound->stats, (struct packet_event){.verdict = verdict,
                                                        .point = POINT_TUN_IN,
                                                        .peer = peer,
                                                        .count = packet ? 1 : 0,
                                                        .pieces = packet,
                                                        .run = 1});
}

/* Decides about one packet of `received` bytes; true when it went to the batch. */
static bool forward(struct outbound *outbound, uint8_t *bytes, size_t received)
{
    const struct vnet vnet = read_vnet(outbound, bytes);
    const struct iovec all = {.iov_base = bytes, .iov_len = received};
    struct packet packet;

    enum packet_check check = packet_check(bytes, received, outbound->pump->families, &packet);
    if (check != PACKET_OK) {
        refuse(outbound, packet_refusal(DIRECTION_OUTBOUND, check), PEER_UNKNOWN, &all);
        return false;
    }
    if (is_own_datagram(outbound, bytes, &packet)) {
        refuse(outbound, VERDICT_OUTBOUND_OWN_DATAGRAM, PEER_UNKNOWN, &all);
        return false;
    }
    const struct nexthop *hop =
        routes_lookup(outbound->table, packet.version, packet_destination(bytes, &packet));
    if (hop == NULL) {
        refuse(outbound, VERDICT_OUTBOUND_NO_ROUTE, PEER_UNKNOWN, &all);
        icmp_reply(outbound->pump, outbound->table, outbound->device, ICMP_ERROR_NET_UNREACHABLE,
                   bytes, &packet);
        return false;
    }
    if (!encap_pass(outbound->pump->encap, bytes, &packet)) {
        refuse(outbound, VERDICT_OUTBOUND_TTL_EXPIRED, hop->slot, &all);
        icmp_reply(outbound->pump, outbound->table, outbound->device, ICMP_ERROR_TIME_EXCEEDED,
                   bytes, &packet);
        return false;
    }
    struct impair_lane *lane =
        outbound->impaired ? impair_lane(outbound->impair, &hop->endpoint) : NULL;
    if (lane) {
        enum verdict refusal = impair(outbound, lane, hop, &vnet, bytes, &packet);
        if (refusal != VERDICT_OUTBOUND_SENT)
            refuse(outbound, refusal, hop->slot, &all);
        return false; /* its memory is free again */
    }
    enum verdict verdict = vnet_is_super(&vnet)
                               ? segment(outbound, hop, &vnet, bytes, packet.length)
                               : encapsulate(outbound, hop, &vnet, bytes, packet.length);
    if (verdict != VERDICT_OUTBOUND_SENT) {
        refuse(outbound, verdict, hop->slot, &all);
        return false;
    }
    return true; /* its verdict comes when it is sent */
}

static int flush(struct outbound *outbound)
{
    switch (tx_batch_flush(&outbound->batch)) {
    case TX_BATCH_BLOCKED:
        return BATCH_BLOCKED;
    case TX_BATCH_RETRY:
        return BATCH_RETRY;
    default:
        return BATCH_IDLE;
    }
}

/* The batch is over when nothing of it waits to be sent. */
static void conclude(struct outbound *outbound)
{
    struct stats *stats = outbound->stats;

    if (!tx_batch_empty(&outbound->batch) || outbound->segmenting)
        return;
    packets_taken(stats, COUNTER_OUTBOUND_TAKEN, outbound->taken);
    outbound->taken = 0;
    if (outbound->began_ns)
        histogram_time(&stats->histograms[HISTOGRAM_OUTBOUND_BATCH_NS],
                       clock_ns() - outbound->began_ns);
    outbound->began_ns = 0;
}

/* Sends what an earlier batch left, and the next segments of its last packet: BATCH_MORE when all
 * that memory is free again, or is still needed for the segments after these. */
static int go_on(struct outbound *outbound)
{
    packet_batch(outbound->stats);
    int end = flush(outbound);

    outbound->hop.peer = NULL; /* belonged to that batch's table */
    if (end == BATCH_IDLE && outbound->segmenting) {
        outbound->headers_used = 0;
        continue_segmenting(outbound);
        end = flush(outbound);
    }
    conclude(outbound);
    return end == BATCH_IDLE ? BATCH_MORE : end;
}

int outbound_batch(struct outbound *outbound, const struct route_table *table)
{
    struct tx_batch *batch = &outbound->batch;
    int end = BATCH_MORE, gone = 0;
    uint32_t packets = 0;

    outbound->table = table;
    /* What could not be sent keeps its memory, so nothing is read before it is gone: the TUN's own
     * queue holds the rest back, and its senders. */
    if (!tx_batch_empty(batch) || outbound->segmenting)
        return go_on(outbound);
    outbound->packets_used = outbound->headers_used = 0;
    outbound->impaired = outbound->impair && impair_begin(outbound->impair);
    if (outbound->impaired) {
        packet_batch(outbound->stats);
        add_due(outbound, false);
    }
    for (; packets < outbound->pump->batch; packets++) {
        uint8_t *packet = outbound->packets + outbound->packets_used + HEADROOM;
        if (packet + DEVICE_PACKET_MAX > outbound->packets + OUTBOUND_PACKETS ||
            !tx_batch_has_room(batch) || outbound->segmenting)
            break;
        /* A queue is for what has to wait: what need not waits in the TUN's, as ever. */
        if (outbound->impaired && batch->count + impair_ready(outbound->impair) >= TX_BATCH_ENTRIES)
            break;
        ssize_t received = device_read(outbound->device, packet);
        if (received < 0) {
            gone = received == -EAGAIN ? 0 : (int)received;
            end = BATCH_IDLE;
            break;
        }
        if (packets == 0)
            outbound->began_ns = packet_batch(outbound->stats);
        outbound->taken++;
        if (forward(outbound, packet, (size_t)received))
            outbound->packets_used += (HEADROOM + (size_t)received + 7) & ~(size_t)7;
    }
    if (outbound->impaired) {
        add_due(outbound, false);
        if (!tx_batch_has_room(batch))
            end = BATCH_MORE;
    }
    if (packets == 0 && tx_batch_empty(batch))
        return gone ? gone : end;
    if (packets > 0) {
        outbound->moved = true;
        stats_count(outbound->stats, COUNTER_OUTBOUND_BATCHES, 1);
        histogram_count(&outbound->stats->histograms[HISTOGRAM_OUTBOUND_BATCH_PACKETS], packets);
    }
    /* Also when the device is gone: what was read is sent, and what cannot be sent now forgets the
     * table that this batch ends with. */
    int sent = flush(outbound);
    conclude(outbound);
    if (gone)
        return gone;
    if (sent != BATCH_IDLE)
        return sent;
    return outbound->segmenting ? BATCH_MORE : end;
}

void outbound_finish(struct outbound *outbound)
{
    do { /* also what is held back */
        tx_batch_flush(&outbound->batch);
        tx_batch_abandon(&outbound->batch);
        if (outbound->impair && impair_begin(outbound->impair))
            add_due(outbound, true);
    } while (!tx_batch_empty(&outbound->batch));
    if (outbound->segmenting)
        for (unsigned i = outbound->segmenter.next; i < outbound->segmenter.segments; i++)
            refuse(outbound, VERDICT_OUTBOUND_QUEUE_FULL, outbound->hop.slot, NULL);
    outbound->segmenting = false;
    conclude(outbound);
}
