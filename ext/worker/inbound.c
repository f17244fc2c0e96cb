/* SPDX-License-Identifier: Apache-2.0
 *
 * inbound: UDP -> TUN. The functions stand in the order in which a packet meets them:
 *
 *     receive -> sender -> whole? -> encapsulation check -> check -> probe? -> source check -> TTL
 *             -> coalesce -> write
 *
 * flannel looks at no address: any host may send (pkg/backend/udp/proxy_amd64.c, udp_to_tun).
 */
#define _GNU_SOURCE /* recvmmsg, sendmmsg, EBADFD */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "packet/bytes.h"
#include "worker/clock.h"
#include "worker/worker.h"

/* Receives what there is, up to a batch with the `first` messages that are in it already. How many,
 * 0 when there is none, or -errno. */
static int receive(struct worker *worker, uint32_t first)
{
    struct inbound *inbound = &worker->inbound;
    /* The kernel takes 80 ns to tell a sender's address: it is asked only where that matters. */
    const socklen_t name_length =
        worker->pump->source_check == SOURCE_CHECK_OFF ? 0 : sizeof(inbound->names[0]);

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
        int count = recvmmsg(worker->udp_fd, inbound->headers + first, inbound->wanted - first,
                             MSG_DONTWAIT, NULL);
        worker_count(worker, COUNTER_UDP_RECEIVE_CALLS, 1);
        if (count >= 0)
            return count;
        if (errno == EINTR)
            continue;
        if (errno == EBADF || errno == ENOTSOCK)
            return -errno;
        /* The rest are errors of earlier sends that the kernel reports here, once each. */
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            worker_count(worker, COUNTER_UDP_RECEIVE_FAILED, 1);
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

/* The queue for a packet whose headers begin at `bytes`: one flow, one queue, both ways. */
static int queue_of(const struct worker *worker, const uint8_t *bytes, size_t length)
{
    const struct inbound *inbound = &worker->inbound;
    if (inbound->queue_count == 1)
        return inbound->queues[0];

    const bool ipv6 = bytes[0] >> 4 == 6;
    const size_t header = ipv6 ? IPV6_HEADER : (size_t)(bytes[0] & 0x0F) * 4;
    const uint8_t *address = bytes + (ipv6 ? IPV6_SOURCE : IPV4_SOURCE);
    uint32_t hash = 0;
    for (size_t i = 0; i < (ipv6 ? 32 : 8); i += 4)
        hash ^= get32(address + i);
    const uint8_t protocol = bytes[ipv6 ? IPV6_NEXT_HEADER : IPV4_PROTOCOL];
    if ((protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) && length >= header + 4 &&
        (ipv6 || (get16(bytes + IPV4_FRAGMENT) & 0x3FFF) == 0))
        hash ^= (uint32_t)(get16(bytes + header) ^ get16(bytes + header + 2)) * 0x10001U;
    hash *= 0x9E3779B1U; /* 2^32 / golden ratio: spreads close values (Knuth 6.4) */
    return inbound->queues[(uint64_t)hash * inbound->queue_count >> 32];
}

ssize_t tun_write(struct worker *worker, const uint8_t *bytes, size_t length)
{
    static const uint8_t no_offload[VNET_HEADER_LENGTH];
    /* writev reads only, whatever the type of iov_base says. */
    struct iovec iov[2] = {
        {.iov_base = (void *)(uintptr_t)no_offload, .iov_len = sizeof(no_offload)},
        {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length},
    };
    const int skip = worker->pump->offloads & PUMP_VNET_HEADER ? 0 : 1;
    const int fd = queue_of(worker, bytes, length);
    ssize_t written;

    do {
        written = writev(fd, iov + skip, 2 - skip);
        worker_count(worker, COUNTER_TUN_WRITE_CALLS, 1);
    } while (written < 0 && errno == EINTR);
    return written;
}

/* What a queued packet takes of a socket's receive buffer beside its bytes (struct sk_buff and the
 * head of its data, include/linux/skbuff.h), and how much may be handed on before its reader gets a
 * turn: a third of the buffer that a socket has by default (212,992 bytes, net.core.rmem_default). */
enum { QUEUED_OVERHEAD = 512, DIGEST_BYTES = 65536 };

/* An application that reads UDP one by one on this CPU runs only when we let it: without a pause we
 * fill its buffer within our own turn of the scheduler, and what we carried is dropped there. TCP has
 * a window and needs none. Costs a system call every 34 to 113 packets, and nothing else where no one
 * waits for the CPU. */
static void let_readers_run(struct worker *worker, const struct iovec *packet)
{
    const uint8_t *bytes = packet->iov_base;
    const uint8_t protocol = bytes[bytes[0] >> 4 == 6 ? IPV6_NEXT_HEADER : IPV4_PROTOCOL];

    if (protocol != IPPROTO_UDP)
        return;
    worker->inbound.undigested += (uint32_t)packet->iov_len + QUEUED_OVERHEAD;
    if (worker->inbound.undigested < DIGEST_BYTES)
        return;
    worker->inbound.undigested = 0;
    worker_count(worker, COUNTER_INBOUND_PAUSES, 1);
    sched_yield();
}

/* One packet's end; `error` is 0 or the errno of the write. */
static void settle(struct worker *worker, const struct iovec *packet, int error, bool coalesced)
{
    if (error) {
        if (device_is_gone(error))
            worker->fatal = -error;
        worker_verdict(worker, write_verdict(error), packet, 1);
        return;
    }
    worker_verdict(worker, VERDICT_INBOUND_DELIVERED, packet, 1);
    worker_count(worker, COUNTER_INBOUND_BYTES, packet->iov_len);
    worker_count(worker, coalesced ? COUNTER_INBOUND_FAST_PACKETS : COUNTER_INBOUND_PLAIN_PACKETS,
                 1);
    let_readers_run(worker, packet);
}

/* Writes one packet as it is. */
static void deliver(struct worker *worker, uint8_t *bytes, size_t length)
{
    const struct iovec packet = {.iov_base = bytes, .iov_len = length};
    settle(worker, &packet, tun_write(worker, bytes, length) < 0 ? errno : 0, false);
}

/* ---- writing what was coalesced ------------------------------------------------------------------------ */

static struct fallback *fallback_of(struct worker *worker, const struct coalesce_write *write)
{
    struct vnet vnet;
    vnet_load(&vnet, write->iov[0].iov_base);
    switch (vnet.gso_type & ~VNET_GSO_ECN) {
    case VNET_GSO_TCPV4:
        return &worker->inbound.coalesces[PUMP_COALESCE_OF_TCP4];
    case VNET_GSO_TCPV6:
        return &worker->inbound.coalesces[PUMP_COALESCE_OF_TCP6];
    default:
        return &worker->inbound.coalesces[PUMP_COALESCE_OF_UDP];
    }
}

/* The TUN does not take this super-packet: its packets go one by one, and from the next batch on no
 * more of its kind are made for a while. */
static void write_one_by_one(struct worker *worker, const struct coalesce_write *write)
{
    fallback_refused(fallback_of(worker, write), FALLBACK_KERNEL, 0, clock_ns());
    worker->inbound.coalesce_changes = true;
    worker_count(worker, COUNTER_COALESCED_REFUSED, 1);
    for (unsigned i = 0; i < write->packets; i++) {
        const struct iovec packet = coalesce_original(write, i);
        deliver(worker, packet.iov_base, packet.iov_len);
    }
}

/* A super-packet, or one packet that found no company. */
static void write_coalesced(void *context, const struct coalesce_write *write)
{
    struct worker *worker = context;
    const struct iovec first = coalesce_original(write, 0);
    const int fd = queue_of(worker, first.iov_base, first.iov_len);
    const bool super = write->packets > 1;
    ssize_t written;
    int error;

    do {
        written = writev(fd, write->iov, (int)write->iov_count);
        worker_count(worker, COUNTER_TUN_WRITE_CALLS, 1);
    } while (written < 0 && errno == EINTR);
    error = written < 0 ? errno : 0;
    if (super && (error == EINVAL || error == EOPNOTSUPP)) {
        write_one_by_one(worker, write);
        return;
    }
    if (super && !error) {
        worker_count(worker, COUNTER_COALESCED_SUPER_PACKETS, 1);
        if (worker->inbound.coalesce_changes)
            fallback_worked(fallback_of(worker, write), 0, clock_ns());
    }
    for (unsigned i = 0; i < write->packets; i++) {
        const struct iovec packet = coalesce_original(write, i);
        settle(worker, &packet, error, super);
    }
}

/* What is wanted and not refused just now. */
static unsigned coalesce_kinds(struct worker *worker)
{
    static const unsigned kinds_of[PUMP_COALESCE] = {
        [PUMP_COALESCE_OF_TCP4] = COALESCE_TCP4,
        [PUMP_COALESCE_OF_TCP6] = COALESCE_TCP6,
        [PUMP_COALESCE_OF_UDP] = COALESCE_UDP4 | COALESCE_UDP6,
    };
    const unsigned offloads = worker->pump->offloads;
    struct inbound *inbound = &worker->inbound;
    unsigned kinds = 0;

    if (!(offloads & PUMP_VNET_HEADER))
        return 0;
    if (offloads & PUMP_COALESCE_TCP)
        kinds |= COALESCE_TCP4 | COALESCE_TCP6;
    if (offloads & PUMP_COALESCE_UDP)
        kinds |= COALESCE_UDP4 | COALESCE_UDP6;
    if (!inbound->coalesce_changes)
        return kinds;
    inbound->coalesce_changes = false;
    for (int i = 0; i < PUMP_COALESCE; i++) {
        if (fallback_in_use(&inbound->coalesces[i]))
            continue;
        inbound->coalesce_changes = true;
        if (!fallback_tries(&inbound->coalesces[i], 0, clock_ns()))
            kinds &= ~kinds_of[i];
    }
    return kinds;
}

void inbound_coalesce_init(struct worker *worker)
{
    struct inbound *inbound = &worker->inbound;
    coalesce_init(&inbound->coalescer, coalesce_kinds(worker), COALESCE_MAX_SEGMENTS,
                  write_coalesced, worker);
}

/* The end of a batch: no received buffer is referred to any more. What the coalescer holds is written
 * whatever became of its kinds meanwhile; which kinds it takes changes only here, when it is empty,
 * so that no packet of a flow overtakes one that waits in it. */
static void flush(struct worker *worker)
{
    struct inbound *inbound = &worker->inbound;

    if (inbound->coalescer.kinds != 0) {
        coalesce_flush(&inbound->coalescer);
        worker_count(worker, COUNTER_COALESCE_BAD_CHECKSUMS,
                     inbound->coalescer.counters.bad_checksum);
        inbound->coalescer.counters = (struct coalesce_counters){0};
    }
    if (inbound->coalesce_changes)
        inbound_coalesce_init(worker);
}

/* ---- datagrams --------------------------------------------------------------------------------- */

/* Decides about one datagram. */
static void forward(struct worker *worker, uint8_t *datagram, size_t length)
{
    const struct pump *pump = worker->pump;
    const struct iovec all = encap_inner(pump->encap, datagram, length);
    uint8_t *bytes = all.iov_base;
    struct packet packet;

    if (all.iov_len > pump->mtu) {
        worker_verdict(worker, VERDICT_INBOUND_OVERSIZE, &all, 1);
        return;
    }
    enum verdict verdict = encap_open(pump->encap, &pump->encap_own, datagram, length);
    if (verdict != VERDICT_INBOUND_DELIVERED) {
        worker_verdict(worker, verdict, &all, 1);
        return;
    }
    enum packet_check check = packet_check(bytes, all.iov_len, pump->families, &packet);
    if (check != PACKET_OK) {
        enum verdict refusal = packet_refusal(DIRECTION_INBOUND, check);
        if (check == PACKET_WRONG_VERSION && bytes[0] >> 4 != 4 && bytes[0] >> 4 != 6)
            refusal = VERDICT_INBOUND_NOT_IP;
        worker_verdict(worker, refusal, &all, 1);
        return;
    }
    if (packet.protocol == IPPROTO_ICMP && probe_take(worker, bytes, packet.length)) {
        worker_verdict(worker, VERDICT_INBOUND_PROBE, &all, 1);
        return;
    }
    verdict = source_check(worker, bytes, &packet);
    if (verdict != VERDICT_INBOUND_DELIVERED) {
        worker_verdict(worker, verdict, &all, 1);
        return;
    }
    if (!encap_pass(pump->encap, bytes, &packet)) {
        worker_verdict(worker, VERDICT_INBOUND_TTL_EXPIRED, &all, 1);
        if (source_verified(worker, bytes, &packet))
            refuse(worker, ICMP_ERROR_TIME_EXCEEDED, bytes, &packet);
        else
            worker_count(worker, COUNTER_ICMP_UNVERIFIED, 1);
        return;
    }
    if (worker->inbound.coalescer.kinds)
        coalesce_add(&worker->inbound.coalescer, bytes, packet.length);
    else
        deliver(worker, bytes, packet.length);
}

/* Long messages: few at a time, so that they are still in the cache when they are written. */
static void want(struct worker *worker, size_t bytes, uint32_t count)
{
    size_t wanted = INBOUND_BATCH_BYTES / (bytes / count + 1) + 1;
    worker->inbound.wanted = wanted < worker->pump->batch ? (uint32_t)wanted : worker->pump->batch;
}

/* A message of an unknown sender: refused, but for probes and answers to ours. */
static void refuse_message(struct worker *worker, uint8_t *bytes, size_t length, size_t size)
{
    const struct encap *encap = worker->pump->encap;
    struct iovec first = {.iov_base = NULL};
    uint32_t count = 0;

    do {
        const size_t one = size < length ? size : length;
        const struct iovec all = encap_inner(encap, bytes, one);
        const bool ours =
            encap_open(encap, &worker->pump->encap_own, bytes, one) == VERDICT_INBOUND_DELIVERED;
        if (ours && probe_take(worker, all.iov_base, all.iov_len)) {
            worker_verdict(worker, VERDICT_INBOUND_PROBE, &all, 1);
        } else {
            worker_verdict(worker, VERDICT_INBOUND_UNKNOWN_SENDER, &all, 1);
            if (count++ == 0)
                first = all;
        }
        bytes += one;
        length -= one;
    } while (length > 0);
    if (count > 0)
        source_refuse(worker, VERDICT_INBOUND_UNKNOWN_SENDER, first.iov_base, first.iov_len, count);
}

/* What one message holds: a datagram, or equal ones that the kernel merged. */
static void take_apart(struct worker *worker, const struct mmsghdr *message)
{
    struct msghdr header = message->msg_hdr;
    uint8_t *bytes = header.msg_iov->iov_base;
    size_t length = message->msg_len;

    size_t size = merged_size(&header);
    if (size == 0)
        size = length;
    else
        worker_count(worker, COUNTER_UDP_GRO_RECEIVES, 1);
    if (!source_message(worker, &message->msg_hdr)) {
        refuse_message(worker, bytes, length, size);
        return;
    }
    if (header.msg_flags & MSG_TRUNC) {
        const struct iovec seen = encap_inner(worker->pump->encap, bytes, length);
        worker_verdict(worker, VERDICT_INBOUND_OVERSIZE, &seen, 1);
        return;
    }
    do { /* an empty datagram is one, too */
        size_t one = size < length ? size : length;
        forward(worker, bytes, one);
        bytes += one;
        length -= one;
    } while (length > 0);
}

int inbound_batch(struct worker *worker)
{
    struct inbound *inbound = &worker->inbound;
    size_t bytes = 0;
    uint32_t count = 0;

    source_begin(worker);
    /* While these are looked at the rest of a burst arrives: it joins the batch, so that what was
     * one super-packet at the sender is one again. */
    while (count < inbound->wanted) {
        int received = receive(worker, count);
        if (received < 0 && count == 0)
            return received;
        if (received <= 0) /* an error comes again, when these are delivered */
            break;
        for (uint32_t i = count; i < count + (uint32_t)received; i++) {
            bytes += inbound->headers[i].msg_len;
            take_apart(worker, &inbound->headers[i]);
        }
        count += (uint32_t)received;
    }
    if (count == 0)
        return BATCH_IDLE;
    worker->moved = true;
    worker_count(worker, COUNTER_INBOUND_BATCHES, 1);
    flush(worker);
    if (worker->fatal)
        return worker->fatal;
    bool full = count == inbound->wanted;
    want(worker, bytes, count);
    return full ? BATCH_MORE : BATCH_IDLE;
}
