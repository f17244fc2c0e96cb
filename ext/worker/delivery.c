/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/delivery.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>

#include "packet/packet.h"
#include "worker/clock.h"
#include "worker/event.h"

static enum verdict write_verdict(int error)
{
    switch (error) {
    case EIO:
        return VERDICT_INBOUND_DEVICE_DOWN;
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
        return VERDICT_INBOUND_QUEUE_FULL;
    default:
        return VERDICT_INBOUND_WRITE_FAILED;
    }
}

/* What a queued packet takes of a socket's receive buffer beside its bytes (struct sk_buff and the
 * head of its data, include/linux/skbuff.h), and how much may be handed on before its reader gets a
 * turn: a third of the buffer that a socket has by default (212,992 bytes, net.core.rmem_default). */
enum { QUEUED_OVERHEAD = 512, DIGEST_BYTES = 65536 };

/* An application that reads UDP one by one on this CPU runs only when we let it: without a pause we
 * fill its buffer within our own turn of the scheduler, and what we carried is dropped there. TCP has
 * a window and needs none. Costs a system call every 34 to 113 packets, and nothing else where no one
 * waits for the CPU. */
static void let_readers_run(struct delivery *delivery, const struct iovec *packet)
{
    const uint8_t *bytes = packet->iov_base;
    const uint8_t protocol = bytes[bytes[0] >> 4 == 6 ? IPV6_NEXT_HEADER : IPV4_PROTOCOL];

    if (protocol != IPPROTO_UDP)
        return;
    delivery->undigested += (uint32_t)packet->iov_len + QUEUED_OVERHEAD;
    if (delivery->undigested < DIGEST_BYTES)
        return;
    delivery->undigested = 0;
    stats_count(delivery->device->stats, COUNTER_INBOUND_PAUSES, 1);
    sched_yield();
}

/* One packet's end; `error` is 0 or the errno of the write, `run` as in struct packet_event. */
static void settle(struct delivery *delivery, const struct iovec *packet, uint16_t peer, int error,
                   bool coalesced, unsigned run)
{
    packet_event(delivery->device->stats,
                 (struct packet_event){
                     .verdict = error ? write_verdict(error) : VERDICT_INBOUND_DELIVERED,
                     .point = POINT_TUN_OUT,
                     .peer = peer,
                     .count = 1,
                     .pieces = packet,
                     .run = (uint16_t)run,
                 });
    if (error) {
        if (device_is_gone(error))
            delivery->fatal = -error;
        return;
    }
    packet_bytes(delivery->device->stats, DIRECTION_INBOUND, peer, packet->iov_len);
    stats_count(delivery->device->stats,
                coalesced ? COUNTER_INBOUND_FAST_PACKETS : COUNTER_INBOUND_PLAIN_PACKETS, 1);
    let_readers_run(delivery, packet);
}

/* Writes one packet as it is. */
static void deliver(struct delivery *delivery, uint8_t *bytes, size_t length, uint16_t peer)
{
    const struct iovec packet = {.iov_base = bytes, .iov_len = length};
    settle(delivery, &packet, peer, -device_write(delivery->device, bytes, length), false, 1);
}

/* ---- super-packets ----------------------------------------------------------------------------- */

static struct fallback *fallback_of(struct delivery *delivery, const struct coalesce_write *write)
{
    struct vnet vnet;
    vnet_load(&vnet, write->iov[0].iov_base);
    switch (vnet.gso_type & ~VNET_GSO_ECN) {
    case VNET_GSO_TCPV4:
        return &delivery->refusals[DELIVERY_TCP4];
    case VNET_GSO_TCPV6:
        return &delivery->refusals[DELIVERY_TCP6];
    default:
        return &delivery->refusals[DELIVERY_UDP];
    }
}

/* The TUN does not take this super-packet: its packets go one by one, and from the next batch on no
 * more of its kind are made for a while. */
static void write_one_by_one(struct delivery *delivery, const struct coalesce_write *write)
{
    fallback_refused(fallback_of(delivery, write), FALLBACK_KERNEL, 0, clock_ns());
    delivery->refusals_change = true;
    stats_count(delivery->device->stats, COUNTER_COALESCED_REFUSED, 1);
    for (unsigned i = 0; i < write->packets; i++) {
        const struct iovec packet = coalesce_original(write, i);
        deliver(delivery, packet.iov_base, packet.iov_len, delivery->coalescer.tag);
    }
}

/* A super-packet, or a single packet. */
static void write_coalesced(void *context, const struct coalesce_write *write)
{
    struct delivery *delivery = context;
    const struct iovec first = coalesce_original(write, 0);
    const bool super = write->packets > 1;
    const int error = -device_write_pieces(delivery->device, &first, write->iov, write->iov_count);

    if (super && (error == EINVAL || error == EOPNOTSUPP)) {
        write_one_by_one(delivery, write);
        return;
    }
    if (super && !error) {
        stats_count(delivery->device->stats, COUNTER_COALESCED_SUPER_PACKETS, 1);
        histogram_count(&delivery->device->stats->histograms[HISTOGRAM_INBOUND_SUPER_PACKETS],
                        write->packets);
        if (delivery->refusals_change)
            fallback_worked(fallback_of(delivery, write), 0, clock_ns());
    }
    for (unsigned i = 0; i < write->packets; i++) {
        const struct iovec packet = coalesce_original(write, i);
        settle(delivery, &packet, delivery->coalescer.tag, error, super, i ? 0 : write->packets);
    }
}

/* What is wanted and not refused just now. */
static unsigned coalesce_kinds(struct delivery *delivery)
{
    static const unsigned kinds_of[DELIVERY_KINDS] = {
        [DELIVERY_TCP4] = COALESCE_TCP4,
        [DELIVERY_TCP6] = COALESCE_TCP6,
        [DELIVERY_UDP] = COALESCE_UDP4 | COALESCE_UDP6,
    };
    unsigned kinds = delivery->wanted;

    if (!delivery->refusals_change)
        return kinds;
    delivery->refusals_change = false;
    for (int i = 0; i < DELIVERY_KINDS; i++) {
        if (fallback_in_use(&delivery->refusals[i]))
            continue;
        delivery->refusals_change = true;
        if (!fallback_tries(&delivery->refusals[i], 0, clock_ns()))
            kinds &= ~kinds_of[i];
    }
    return kinds;
}

/* Nothing may be pending. */
static void choose_kinds(struct delivery *delivery)
{
    coalesce_init(&delivery->coalescer, coalesce_kinds(delivery), COALESCE_MAX_SEGMENTS,
                  write_coalesced, delivery);
}

void delivery_init(struct delivery *delivery, const struct device *device, unsigned wanted)
{
    delivery->device = device;
    delivery->wanted = wanted;
    choose_kinds(delivery);
}

void delivery_add(struct delivery *delivery, uint8_t *bytes, size_t length, uint16_t peer)
{
    if (delivery->coalescer.kinds)
        coalesce_add(&delivery->coalescer, bytes, length, peer);
    else
        deliver(delivery, bytes, length, peer);
}

/* What the coalescer holds is written whatever became of its kinds meanwhile; which kinds it takes
 * changes only here, when it is empty, so that no packet of a flow overtakes one that waits in it. */
void delivery_flush(struct delivery *delivery)
{
    if (delivery->coalescer.kinds != 0) {
        coalesce_flush(&delivery->coalescer);
        stats_count(delivery->device->stats, COUNTER_COALESCE_BAD_CHECKSUMS,
                    delivery->coalescer.counters.bad_checksum);
        delivery->coalescer.counters = (struct coalesce_counters){0};
    }
    if (delivery->refusals_change)
        choose_kinds(delivery);
}
