/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* recvmmsg, sendmmsg, EBADFD */
#include "worker/tx_batch.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/clock.h"
#include "worker/worker.h"

static struct message *message_open(struct tx_batch *batch, const struct nexthop *hop)
{
    struct message *message = &batch->messages[batch->count++];
    message->endpoint = hop->endpoint;
    message->peer = hop->peer;
    message->hop = hop;
    message->first = batch->iovecs;
    message->header = hop->header.length;
    message->sent = 0;
    message->refused = FALLBACK_NONE;
    return message;
}

/* How datagrams of that size go to the next hop, a run of them if `run`. */
static struct path_mode mode_of(const struct worker *worker, const struct nexthop *hop,
                                uint32_t datagram, bool run)
{
    if (hop->peer == NULL)
        return (struct path_mode){.segmented = run};
    return path_mode(&hop->peer->path, datagram, run, worker->pump->offloads & PUMP_PATH_REPORTS,
                     clock_ns);
}

/* UDP_SEGMENT wants datagrams of one size but for the last, which may be shorter. */
static bool joins_run(const struct tx_batch *batch, const struct message *run,
                      const struct nexthop *hop, uint32_t length)
{
    return run->hop == hop && run->pieces == 1 && run->segments < TX_BATCH_SEGMENTS &&
           run->last == run->datagram && length <= run->datagram &&
           run->bytes + length <= SEND_BYTES_MAX && run->first + run->segments == batch->iovecs;
}

/* Adds the datagram to the run that the last message is, or begins with it, if it can. */
static bool join_run(struct worker *worker, const struct nexthop *hop, uint32_t length)
{
    struct tx_batch *batch = &worker->outbound.batch;
    if (batch->count == 0)
        return false;
    struct message *message = &batch->messages[batch->count - 1];
    if (!joins_run(batch, message, hop, length))
        return false;
    const struct path_mode mode = mode_of(worker, hop, message->datagram, true);
    if (!mode.segmented)
        return false;
    message->segments++;
    message->segmented = true;
    message->past_mtu = mode.past_mtu;
    message->bytes += length;
    message->last = (uint16_t)length;
    return true;
}

void tx_batch_add(struct worker *worker, const struct nexthop *hop, uint8_t *datagram,
                  uint32_t length)
{
    struct tx_batch *batch = &worker->outbound.batch;
    if (!(worker->pump->offloads & PUMP_UDP_SEGMENT) || !join_run(worker, hop, length)) {
        struct message *message = message_open(batch, hop);
        message->segments = 1;
        message->segmented = false;
        message->past_mtu = mode_of(worker, hop, length, false).past_mtu;
        message->bytes = length;
        message->pieces = 1;
        message->datagram = message->last = (uint16_t)length;
    }
    batch->iov[batch->iovecs++] = (struct iovec){.iov_base = datagram, .iov_len = length};
}

void tx_batch_add_group(struct worker *worker, const struct nexthop *hop,
                        const struct segment_group *group)
{
    struct tx_batch *batch = &worker->outbound.batch;
    const bool run = worker->pump->offloads & PUMP_UDP_SEGMENT && group->segments > 1;
    const struct path_mode mode = mode_of(worker, hop, (uint32_t)group->datagram, run);
    struct message *message = message_open(batch, hop);
    message->segments = (uint16_t)group->segments;
    message->segmented = mode.segmented;
    message->past_mtu = mode.past_mtu;
    message->bytes = (uint32_t)group->bytes;
    message->pieces = 2;
    message->datagram = (uint16_t)group->datagram;
    message->last = (uint16_t)group->last;
    batch->iovecs += 2 * group->segments;
}

/* ---- sending ---------------------------------------------------------------------------------- */

static void set_segment_size(struct msghdr *header, uint8_t *control, uint16_t size)
{
    header->msg_control = control;
    header->msg_controllen = SEGMENT_CONTROL;
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(header);
    cmsg->cmsg_level = SOL_UDP;
    cmsg->cmsg_type = UDP_SEGMENT;
    cmsg->cmsg_len = CMSG_LEN(sizeof(size));
    memcpy(CMSG_DATA(cmsg), &size, sizeof(size));
}

/* Describes up to `most` sends, from the first datagram that waits on, all of one kind. */
static unsigned prepare(struct tx_batch *batch, unsigned most)
{
    const bool past_mtu = batch->messages[batch->next].past_mtu;
    unsigned count = 0;
    for (uint32_t at = batch->next; at < batch->count && count < most; at++) {
        struct message *message = &batch->messages[at];
        unsigned segment = message->sent;
        if (message->past_mtu != past_mtu)
            break;
        do {
            unsigned datagrams = message->segmented ? message->segments : 1;
            batch->headers[count].msg_hdr = (struct msghdr){
                .msg_name = &message->endpoint.address,
                .msg_namelen = message->endpoint.length,
                .msg_iov = &batch->iov[message->first + segment * message->pieces],
                .msg_iovlen = (size_t)datagrams * message->pieces,
            };
            if (message->segmented)
                set_segment_size(&batch->headers[count].msg_hdr, batch->controls[count],
                                 message->datagram);
            count++;
            segment += datagrams;
        } while (segment < message->segments && count < most);
    }
    return count;
}

/* The message went out: what is known of the way to its peer grows. */
static void learn(struct message *message, bool watched)
{
    struct path *path = &message->peer->path;

    if (message->segmented) {
        if (!fallback_in_use(&path->segment))
            path_worked(path, message->datagram, watched, clock_ns());
    } else if (message->refused != FALLBACK_NONE) {
        path_refused(path, message->refused,
                     message->refused == FALLBACK_MTU ? message->datagram : 0, clock_ns());
        message->refused = FALLBACK_NONE;
    }
}

/* The verdict of one datagram is its packet's, which begins behind the tunnel's header. */
static void report(struct worker *worker, enum verdict verdict, const struct message *message,
                   const struct iovec *datagram)
{
    struct iovec packet[2] = {datagram[0]};

    if (message->pieces > 1)
        packet[1] = datagram[1];
    packet[0].iov_base = (uint8_t *)packet[0].iov_base + message->header;
    packet[0].iov_len -= message->header;
    worker_verdict(worker, verdict, packet, message->pieces);
}

/* The datagrams of the first send that waits are done with: `verdict` for each. */
static void settle(struct worker *worker, enum verdict verdict)
{
    struct tx_batch *batch = &worker->outbound.batch;
    struct message *message = &batch->messages[batch->next];
    unsigned datagrams = message->segmented ? message->segments : 1;
    uint64_t bytes = 0;

    for (unsigned i = 0; i < datagrams; i++, message->sent++) {
        const struct iovec *iov = &batch->iov[message->first + message->sent * message->pieces];
        report(worker, verdict, message, iov);
        bytes += message->sent + 1U < message->segments ? message->datagram : message->last;
        bytes -= message->header;
    }
    if (verdict == VERDICT_OUTBOUND_SENT) {
        if (message->peer)
            learn(message, worker->pump->offloads & PUMP_PATH_REPORTS);
        worker_count(worker, COUNTER_OUTBOUND_BYTES, bytes);
        worker_count(worker,
                     message->segmented ? COUNTER_OUTBOUND_FAST_PACKETS
                                        : COUNTER_OUTBOUND_PLAIN_PACKETS,
                     datagrams);
    }
    if (message->sent == message->segments)
        batch->next++;
    batch->retries = 0;
}

/* Why a send with UDP_SEGMENT was refused where one without may pass (net/ipv4/udp.c, udp_send_skb;
 * EINVAL is what kernels before 6.13 say of datagrams that are longer than the MTU). */
static enum fallback_cause refusal(int error)
{
    switch (error) {
    case EMSGSIZE:
    case EINVAL:
        return FALLBACK_MTU;
    case EIO:
        return FALLBACK_DEVICE;
    case EOPNOTSUPP:
        return FALLBACK_KERNEL;
    default:
        return FALLBACK_NONE;
    }
}

/* The same datagrams go out one by one, and for a while so do all later ones to that peer; those
 * that are too long for the device itself in fragments, as the kernel makes them unless it is told
 * to send past the MTU. */
static bool falls_back(struct worker *worker, int error)
{
    struct message *message = &worker->outbound.batch.messages[worker->outbound.batch.next];
    enum fallback_cause cause = refusal(error);
    const bool past_mtu = message->past_mtu && error == EMSGSIZE;

    if (past_mtu) {
        message->past_mtu = false;
        if (message->peer)
            path_too_narrow(&message->peer->path);
    }
    if (!message->segmented || cause == FALLBACK_NONE)
        return past_mtu;
    message->segmented = false;
    message->past_mtu = false;
    message->refused = (uint8_t)cause;
    worker_count(worker, COUNTER_UDP_SEGMENT_REFUSED, 1);
    return true;
}

static enum verdict send_verdict(int error)
{
    switch (error) {
    case ENOBUFS:
    case ENOMEM:
        return VERDICT_OUTBOUND_QUEUE_FULL;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case ECONNREFUSED:
        return VERDICT_OUTBOUND_UNREACHABLE;
    case EPERM:
    case EACCES:
        return VERDICT_OUTBOUND_FORBIDDEN;
    case EMSGSIZE:
        return VERDICT_OUTBOUND_UNDERLAY_TOO_BIG;
    default:
        return VERDICT_OUTBOUND_SEND_FAILED;
    }
}

/* Messages that stay for a later batch must not point into the route table. */
static int keep(struct tx_batch *batch, int end)
{
    for (uint32_t at = batch->next; at < batch->count; at++) {
        batch->messages[at].peer = NULL;
        batch->messages[at].hop = NULL;
    }
    return end;
}

/* The system call itself: musl's sendmmsg is a loop of sendmsg. Its structures are the kernel's
 * where the padding is zero, which prepare() sees to. */
static int send_messages(int fd, struct mmsghdr *messages, unsigned count)
{
#ifdef __GLIBC__
    return sendmmsg(fd, messages, count, MSG_DONTWAIT);
#else
    return (int)syscall(SYS_sendmmsg, fd, messages, count, MSG_DONTWAIT);
#endif
}

/* IP_PMTUDISC_PROBE: not fragmented, and the kernel's idea of the path's MTU does not count. The
 * socket is shared: what another worker sends in the meantime is not fragmented either, which
 * matters only to a peer whose path is narrow. */
static int send_past_mtu(const struct worker *worker, struct mmsghdr *messages, unsigned count)
{
    const int probe = IP_PMTUDISC_PROBE;
    setsockopt(worker->udp_fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof(probe));
    int sent = send_messages(worker->udp_fd, messages, count);
    int error = errno;
    setsockopt(worker->udp_fd, IPPROTO_IP, IP_MTU_DISCOVER, &worker->mtu_discover,
               sizeof(worker->mtu_discover));
    errno = error;
    return sent;
}

int tx_batch_flush(struct worker *worker)
{
    struct tx_batch *batch = &worker->outbound.batch;

    while (!tx_batch_empty(batch)) {
        unsigned count = prepare(batch, worker->pump->batch);
        int sent = batch->messages[batch->next].past_mtu
                       ? send_past_mtu(worker, batch->headers, count)
                       : send_messages(worker->udp_fd, batch->headers, count);
        int error = errno;
        worker_count(worker, COUNTER_UDP_SEND_CALLS, 1);
        for (int i = 0; i < sent; i++)
            settle(worker, VERDICT_OUTBOUND_SENT);
        if (sent > 0 || error == EINTR)
            continue;
        if (error == EAGAIN || error == EWOULDBLOCK) {
            worker_count(worker, COUNTER_UDP_SEND_BLOCKED, 1);
            return keep(batch, BATCH_BLOCKED);
        }
        if ((error == ENOBUFS || error == ENOMEM) && batch->retries++ < TX_BATCH_RETRIES) {
            worker_count(worker, COUNTER_UDP_SEND_BLOCKED, 1);
            return keep(batch, BATCH_RETRY);
        }
        if (!falls_back(worker, error))
            settle(worker, send_verdict(error));
    }
    tx_batch_reset(batch);
    return BATCH_IDLE;
}

void tx_batch_abandon(struct worker *worker)
{
    while (!tx_batch_empty(&worker->outbound.batch))
        settle(worker, VERDICT_OUTBOUND_QUEUE_FULL);
    tx_batch_reset(&worker->outbound.batch);
}
