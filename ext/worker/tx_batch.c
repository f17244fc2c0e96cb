/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* recvmmsg, sendmmsg, EBADFD */
#include "worker/tx_batch.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/clock.h"

void tx_batch_init(struct tx_batch *batch, struct stats *stats, int fd, uint32_t most,
                   bool segments, bool watched)
{
    socklen_t length = sizeof(batch->mtu_discover);

    batch->stats = stats;
    batch->fd = fd;
    batch->most = most;
    batch->segments = segments;
    batch->watched = watched;
    if (getsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &batch->mtu_discover, &length) < 0)
        batch->mtu_discover = IP_PMTUDISC_WANT;
}

static struct tx_entry *entry_open(struct tx_batch *batch, const struct nexthop *hop)
{
    struct tx_entry *entry = &batch->entries[batch->count++];
    entry->endpoint = hop->endpoint;
    entry->peer = hop->peer;
    entry->slot = hop->slot;
    entry->hop = hop;
    entry->first = batch->iovecs;
    entry->header = hop->header.length;
    entry->sent = 0;
    entry->refused = FALLBACK_NONE;
    return entry;
}

/* How datagrams of that size go to the next hop, a run of them if `run`. */
static struct path_mode mode_of(const struct tx_batch *batch, const struct nexthop *hop,
                                uint32_t datagram, bool run)
{
    if (hop->peer == NULL)
        return (struct path_mode){.segmented = run};
    return path_mode(&hop->peer->path, datagram, run, batch->watched, clock_ns);
}

/* UDP_SEGMENT wants datagrams of one size but for the last, which may be shorter. */
static bool joins_run(const struct tx_batch *batch, const struct tx_entry *run,
                      const struct nexthop *hop, uint32_t length)
{
    return run->hop == hop && run->pieces == 1 && run->segments < TX_BATCH_SEGMENTS &&
           run->last == run->datagram && length <= run->datagram &&
           run->bytes + length <= SEND_BYTES_MAX && run->first + run->segments == batch->iovecs;
}

/* Adds the datagram to the run that the last entry is, or begins with it, if it can. */
static bool join_run(struct tx_batch *batch, const struct nexthop *hop, uint32_t length)
{
    if (batch->count == 0)
        return false;
    struct tx_entry *entry = &batch->entries[batch->count - 1];
    if (!joins_run(batch, entry, hop, length))
        return false;
    const struct path_mode mode = mode_of(batch, hop, entry->datagram, true);
    if (!mode.segmented)
        return false;
    entry->segments++;
    entry->segmented = true;
    entry->past_mtu = mode.past_mtu;
    entry->bytes += length;
    entry->last = (uint16_t)length;
    return true;
}

static struct tx_entry *open_single(struct tx_batch *batch, const struct nexthop *hop,
                                    uint32_t length)
{
    struct tx_entry *entry = entry_open(batch, hop);
    entry->segments = 1;
    entry->segmented = false;
    entry->past_mtu = mode_of(batch, hop, length, false).past_mtu;
    entry->bytes = length;
    entry->pieces = 1;
    entry->datagram = entry->last = (uint16_t)length;
    return entry;
}

void tx_batch_add(struct tx_batch *batch, const struct nexthop *hop, uint8_t *datagram,
                  uint32_t length)
{
    if (!batch->segments || !join_run(batch, hop, length))
        open_single(batch, hop, length);
    batch->iov[batch->iovecs++] = (struct iovec){.iov_base = datagram, .iov_len = length};
}

void tx_batch_add_alone(struct tx_batch *batch, const struct nexthop *hop, uint8_t *datagram,
                        uint32_t length)
{
    open_single(batch, hop, length)->hop = NULL; /* no next hop is that */
    batch->iov[batch->iovecs++] = (struct iovec){.iov_base = datagram, .iov_len = length};
}

void tx_batch_add_group(struct tx_batch *batch, const struct nexthop *hop,
                        const struct segment_group *group)
{
    const bool run = batch->segments && group->segments > 1;
    const struct path_mode mode = mode_of(batch, hop, (uint32_t)group->datagram, run);
    struct tx_entry *entry = entry_open(batch, hop);
    entry->segments = (uint16_t)group->segments;
    entry->segmented = mode.segmented;
    entry->past_mtu = mode.past_mtu;
    entry->bytes = (uint32_t)group->bytes;
    entry->pieces = 2;
    entry->datagram = (uint16_t)group->datagram;
    entry->last = (uint16_t)group->last;
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
    const bool past_mtu = batch->entries[batch->next].past_mtu;
    unsigned count = 0;
    for (uint32_t at = batch->next; at < batch->count && count < most; at++) {
        struct tx_entry *entry = &batch->entries[at];
        unsigned segment = entry->sent;
        if (entry->past_mtu != past_mtu)
            break;
        do {
            unsigned datagrams = entry->segmented ? entry->segments : 1;
            batch->headers[count].msg_hdr = (struct msghdr){
                .msg_name = &entry->endpoint.address,
                .msg_namelen = entry->endpoint.length,
                .msg_iov = &batch->iov[entry->first + segment * entry->pieces],
                .msg_iovlen = (size_t)datagrams * entry->pieces,
            };
            if (entry->segmented)
                set_segment_size(&batch->headers[count].msg_hdr, batch->controls[count],
                                 entry->datagram);
            count++;
            segment += datagrams;
        } while (segment < entry->segments && count < most);
    }
    return count;
}

/* The entry went out: what is known of the way to its peer grows. */
static void learn(struct tx_entry *entry, bool watched)
{
    struct path *path = &entry->peer->path;

    if (entry->segmented) {
        if (!fallback_in_use(&path->segment))
            path_worked(path, entry->datagram, watched, clock_ns());
    } else if (entry->refused != FALLBACK_NONE) {
        path_refused(path, entry->refused, entry->refused == FALLBACK_MTU ? entry->datagram : 0,
                     clock_ns());
        entry->refused = FALLBACK_NONE;
    }
}

/* The datagrams of the first send that waits are done with: `verdict` for each. */
static void settle(struct tx_batch *batch, enum verdict verdict)
{
    struct tx_entry *entry = &batch->entries[batch->next];
    unsigned datagrams = entry->segmented ? entry->segments : 1;
    uint64_t bytes = 0;

    for (unsigned i = 0; i < datagrams; i++, entry->sent++) {
        const struct iovec *iov = &batch->iov[entry->first + entry->sent * entry->pieces];
        packet_event(batch->stats, (struct packet_event){.verdict = verdict,
                                                         .point = POINT_UDP_OUT,
                                                         .peer = entry->slot,
                                                         .header = entry->header,
                                                         .count = entry->pieces,
                                                         .pieces = iov,
                                                         .run = (uint16_t)(i ? 0 : datagrams)});
        bytes += entry->sent + 1U < entry->segments ? entry->datagram : entry->last;
        bytes -= entry->header;
    }
    if (verdict == VERDICT_OUTBOUND_SENT) {
        if (entry->peer)
            learn(entry, batch->watched);
        packet_bytes(batch->stats, DIRECTION_OUTBOUND, entry->slot, bytes);
        stats_count(batch->stats,
                    entry->segmented ? COUNTER_OUTBOUND_FAST_PACKETS
                                     : COUNTER_OUTBOUND_PLAIN_PACKETS,
                    datagrams);
    }
    if (entry->sent == entry->segments)
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
 * that are too long for the device itself in fragments, as the kernel makes them unless it is asked
 * to send past the MTU. */
static bool falls_back(struct tx_batch *batch, int error)
{
    struct tx_entry *entry = &batch->entries[batch->next];
    enum fallback_cause cause = refusal(error);
    const bool past_mtu = entry->past_mtu && error == EMSGSIZE;

    if (past_mtu) {
        entry->past_mtu = false;
        if (entry->peer)
            path_too_narrow(&entry->peer->path);
    }
    if (!entry->segmented || cause == FALLBACK_NONE)
        return past_mtu;
    entry->segmented = false;
    entry->past_mtu = false;
    entry->refused = (uint8_t)cause;
    stats_count(batch->stats, COUNTER_UDP_SEGMENT_REFUSED, 1);
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

/* Entries that stay for a later batch must not point into the route table. */
static enum tx_batch_end keep(struct tx_batch *batch, enum tx_batch_end end)
{
    for (uint32_t at = batch->next; at < batch->count; at++) {
        batch->entries[at].peer = NULL;
        batch->entries[at].hop = NULL;
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
static int send_past_mtu(const struct tx_batch *batch, struct mmsghdr *messages, unsigned count)
{
    const int probe = IP_PMTUDISC_PROBE;
    setsockopt(batch->fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof(probe));
    int sent = send_messages(batch->fd, messages, count);
    int error = errno;
    setsockopt(batch->fd, IPPROTO_IP, IP_MTU_DISCOVER, &batch->mtu_discover,
               sizeof(batch->mtu_discover));
    errno = error;
    return sent;
}

enum tx_batch_end tx_batch_flush(struct tx_batch *batch)
{

    while (!tx_batch_empty(batch)) {
        unsigned count = prepare(batch, batch->most);
        int sent = batch->entries[batch->next].past_mtu
                       ? send_past_mtu(batch, batch->headers, count)
                       : send_messages(batch->fd, batch->headers, count);
        int error = errno;
        stats_count(batch->stats, COUNTER_UDP_SEND_CALLS, 1);
        for (int i = 0; i < sent; i++)
            settle(batch, VERDICT_OUTBOUND_SENT);
        if (sent > 0 || error == EINTR)
            continue;
        if (error == EAGAIN || error == EWOULDBLOCK) {
            stats_count(batch->stats, COUNTER_UDP_SEND_BLOCKED, 1);
            return keep(batch, TX_BATCH_BLOCKED);
        }
        if ((error == ENOBUFS || error == ENOMEM) && batch->retries++ < TX_BATCH_RETRIES) {
            stats_count(batch->stats, COUNTER_UDP_SEND_BLOCKED, 1);
            return keep(batch, TX_BATCH_RETRY);
        }
        if (!falls_back(batch, error))
            settle(batch, send_verdict(error));
    }
    tx_batch_reset(batch);
    return TX_BATCH_SENT;
}

void tx_batch_abandon(struct tx_batch *batch)
{
    while (!tx_batch_empty(batch))
        settle(batch, VERDICT_OUTBOUND_QUEUE_FULL);
    tx_batch_reset(batch);
}
