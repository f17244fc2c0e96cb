/* SPDX-License-Identifier: Apache-2.0
 *
 * inbound: UDP -> TUN. The functions stand in the order in which a packet meets them:
 *
 *     receive -> sender -> whole? -> encapsulation check -> check -> probe? -> source check -> TTL
 *             -> coalesce -> write
 *
 * flannel looks at no address: any host may send (pkg/backend/udp/proxy_amd64.c, udp_to_tun).
 */
#define _GNU_SOURCE /* recvmmsg */
#include "worker/inbound.h"

#include <errno.h>
#include <string.h>

#include "worker/clock.h"
#include "worker/event.h"
#include "worker/icmp_reply.h"
#include "worker/kernel.h"
#include "worker/probe_reply.h"

void inbound_init(struct inbound *inbound, struct pump *pump, const struct device *device,
                  int udp_fd, uint8_t *slots)
{
    const unsigned offloads = pump->offloads;
    unsigned kinds = 0;

    inbound->pump = pump;
    inbound->stats = device->stats;
    inbound->device = device;
    inbound->udp_fd = udp_fd;
    inbound->slots = slots;
    inbound->slot_bytes = offloads & PUMP_UDP_GRO
                              ? INBOUND_MESSAGE_MAX
                              : pump->encap->header_length + (size_t)pump->mtu + 1;
    inbound->wanted = pump->batch;
    if (offloads & PUMP_VNET_HEADER && offloads & PUMP_COALESCE_TCP)
        kinds |= COALESCE_TCP4 | COALESCE_TCP6;
    if (offloads & PUMP_VNET_HEADER && offloads & PUMP_COALESCE_UDP)
        kinds |= COALESCE_UDP4 | COALESCE_UDP6;
    delivery_init(&inbound->delivery, device, kinds);
    source_init(&inbound->source, pump, device->stats);
}

/* Receives what there is, up to a batch with the `first` messages that are in it already. How many,
 * 0 when there is none, or -errno. */
static int receive(struct inbound *inbound, uint32_t first)
{
    /* The kernel takes 80 ns to tell a sender's address: it is asked only where that matters. */
    const socklen_t name_length =
        inbound->pump->source_check == SOURCE_CHECK_OFF ? 0 : sizeof(inbound->names[0]);

    for (uint32_t i = first; i < inbound->wanted; i++) {
        inbound->iov[i] = (struct iovec){.iov_base = inbound->slots + (size_t)i * INBOUND_SLOT,
                                         .iov_len = inbound->slot_bytes};
        inbound->headers[i].msg_hdr = (struct msghdr){
            .msg_name = name_length ? &inbound->names[i] : NULL,
            .msg_namelen = name_length,
            .msg_iov = &inbound->iov[i],
            .msg_iovlen = 1,
            .msg_control = inbound->controls[i],
            .msg_controllen = INBOUND_CONTROL,
        };
    }
    for (;;) {
        int count = recvmmsg(inbound->udp_fd, inbound->headers + first, inbound->wanted - first,
                             MSG_DONTWAIT, NULL);
        stats_count(inbound->stats, COUNTER_UDP_RECEIVE_CALLS, 1);
        if (count >= 0)
            return count;
        if (errno == EINTR)
            continue;
        if (errno == EBADF || errno == ENOTSOCK)
            return -errno;
        /* The rest are errors of earlier sends that the kernel reports here, once each. */
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            stats_count(inbound->stats, COUNTER_UDP_RECEIVE_FAILED, 1);
        return 0;
    }
}

/* The size of the equal datagrams that the kernel merged into this message; 0: it is one. */
static size_t merged_size(struct msghdr *header)
{
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
        if (cmsg->cmsg_level == SOL_UDP && cmsg->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(cmsg), sizeof(size));
            return size > 0 ? (size_t)size : 0;
        }
    }
    return 0;
}

/* The address of a host that is no peer; NULL: it was not asked for, or is none of IPv4. */
static const uint8_t *sender_of(const struct source *source)
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};

    if (!source->known || source->peer != PEER_UNKNOWN ||
        memcmp(source->address.bytes, mapped, sizeof(mapped)) != 0)
        return NULL;
    return source->address.bytes + sizeof(mapped);
}

/* A datagram goes no further than here, what is in it included. */
static void end(const struct inbound *inbound, enum verdict verdict, uint8_t *datagram,
                size_t length)
{
    const size_t header = inbound->pump->encap->header_length;
    const struct iovec all = {.iov_base = datagram, .iov_len = length};

    packet_event(inbound->stats,
                 (struct packet_event){.verdict = verdict,
                                       .point = POINT_UDP_IN,
                                       .peer = inbound->source.peer,
                                       .header = (uint8_t)(header < length ? header : length),
                                       .count = 1,
                                       .pieces = &all,
                                       .run = 1,
                                       .remote = sender_of(&inbound->source)});
}

/* Decides about one datagram. */
static void forward(struct inbound *inbound, uint8_t *datagram, size_t length)
{
    const struct pump *pump = inbound->pump;
    const struct iovec all = encap_inner(pump->encap, datagram, length);
    uint8_t *bytes = all.iov_base;
    struct packet packet;

    if (all.iov_len > pump->mtu) {
        end(inbound, VERDICT_INBOUND_OVERSIZE, datagram, length);
        return;
    }
    enum verdict verdict = encap_open(pump->encap, &pump->encap_own, datagram, length);
    if (verdict != VERDICT_INBOUND_DELIVERED) {
        end(inbound, verdict, datagram, length);
        return;
    }
    enum packet_check check = packet_check(bytes, all.iov_len, pump->families, &packet);
    if (check != PACKET_OK) {
        enum verdict refusal = packet_refusal(DIRECTION_INBOUND, check);
        if (check == PACKET_WRONG_VERSION && bytes[0] >> 4 != 4 && bytes[0] >> 4 != 6)
            refusal = VERDICT_INBOUND_NOT_IP;
        end(inbound, refusal, datagram, length);
        return;
    }
    if (packet.protocol == IPPROTO_ICMP &&
        probe_take(&inbound->source, inbound->udp_fd, bytes, packet.length)) {
        end(inbound, VERDICT_INBOUND_PROBE, datagram, length);
        return;
    }
    verdict = source_check(&inbound->source, bytes, &packet);
    if (verdict != VERDICT_INBOUND_DELIVERED) {
        end(inbound, verdict, datagram, length);
        return;
    }
    if (!encap_pass(pump->encap, bytes, &packet)) {
        end(inbound, VERDICT_INBOUND_TTL_EXPIRED, datagram, length);
        if (source_verified(&inbound->source, bytes, &packet))
            icmp_reply(inbound->pump, inbound->source.table, inbound->device,
                       ICMP_ERROR_TIME_EXCEEDED, bytes, &packet);
        else
            stats_count(inbound->stats, COUNTER_ICMP_UNVERIFIED, 1);
        return;
    }
    delivery_add(&inbound->delivery, bytes, packet.length, inbound->source.peer);
}

/* Long messages: few at a time, so that they are still in the cache when they are written. */
static void want(struct inbound *inbound, size_t bytes, uint32_t count)
{
    size_t wanted = INBOUND_BATCH_BYTES / (bytes / count + 1) + 1;
    inbound->wanted = wanted < inbound->pump->batch ? (uint32_t)wanted : inbound->pump->batch;
}

/* A message of an unknown sender: refused, but for probes and answers to ours. */
static void refuse_message(struct inbound *inbound, uint8_t *bytes, size_t length, size_t size)
{
    const struct encap *encap = inbound->pump->encap;
    struct iovec first = {.iov_base = NULL};
    uint32_t count = 0;

    do {
        const size_t one = size < length ? size : length;
        inbound->taken++;
        const struct iovec all = encap_inner(encap, bytes, one);
        const bool ours =
            encap_open(encap, &inbound->pump->encap_own, bytes, one) == VERDICT_INBOUND_DELIVERED;
        if (ours && probe_take(&inbound->source, inbound->udp_fd, all.iov_base, all.iov_len)) {
            end(inbound, VERDICT_INBOUND_PROBE, bytes, one);
        } else {
            end(inbound, VERDICT_INBOUND_UNKNOWN_SENDER, bytes, one);
            if (count++ == 0)
                first = all;
        }
        bytes += one;
        length -= one;
    } while (length > 0);
    if (count > 0)
        source_refuse(&inbound->source, VERDICT_INBOUND_UNKNOWN_SENDER, first.iov_base,
                      first.iov_len, count);
}

/* What one message holds: a datagram, or equal ones that the kernel merged. */
static void take_apart(struct inbound *inbound, const struct mmsghdr *message)
{
    struct msghdr header = message->msg_hdr;
    uint8_t *bytes = header.msg_iov->iov_base;
    size_t length = message->msg_len;

    size_t size = merged_size(&header);
    if (size == 0)
        size = length;
    else
        stats_count(inbound->stats, COUNTER_UDP_GRO_RECEIVES, 1);
    if (!source_message(&inbound->source, &message->msg_hdr)) {
        refuse_message(inbound, bytes, length, size);
        return;
    }
    if (header.msg_flags & MSG_TRUNC) {
        inbound->taken++;
        end(inbound, VERDICT_INBOUND_OVERSIZE, bytes, length);
        return;
    }
    do { /* an empty datagram is one, too */
        size_t one = size < length ? size : length;
        inbound->taken++;
        forward(inbound, bytes, one);
        bytes += one;
        length -= one;
    } while (length > 0);
}

int inbound_batch(struct inbound *inbound, const struct route_table *table)
{
    size_t bytes = 0;
    uint32_t count = 0;
    uint64_t began = 0;

    source_begin(&inbound->source, table);
    /* While these are looked at the rest of a burst arrives: it joins the batch, so that what was
     * one super-packet at the sender is one again. */
    while (count < inbound->wanted) {
        int received = receive(inbound, count);
        if (received < 0 && count == 0)
            return received;
        if (received <= 0) /* an error comes again, when these are delivered */
            break;
        inbound->stats->now_ns = clock_tick_ns();
        const uint64_t now = packet_batch(inbound->stats);
        if (count == 0)
            began = now;
        for (uint32_t i = count; i < count + (uint32_t)received; i++) {
            bytes += inbound->headers[i].msg_len;
            take_apart(inbound, &inbound->headers[i]);
        }
        count += (uint32_t)received;
    }
    if (count == 0)
        return BATCH_IDLE;
    inbound->moved = true;
    stats_count(inbound->stats, COUNTER_INBOUND_BATCHES, 1);
    histogram_count(&inbound->stats->histograms[HISTOGRAM_INBOUND_BATCH_PACKETS], count);
    delivery_flush(&inbound->delivery);
    packets_taken(inbound->stats, COUNTER_INBOUND_TAKEN, inbound->taken);
    inbound->taken = 0;
    histogram_time(&inbound->stats->histograms[HISTOGRAM_INBOUND_BATCH_NS], clock_ns() - began);
    if (inbound->delivery.fatal)
        return inbound->delivery.fatal;
    bool full = count == inbound->wanted;
    want(inbound, bytes, count);
    return full ? BATCH_MORE : BATCH_IDLE;
}
