/* SPDX-License-Identifier: Apache-2.0
 *
 * tx_batch: datagrams on their way to the UDP socket.
 *
 * Terminology, from small to large:
 *
 *     packet   one inner IP packet behind its tunnel header: one datagram, in one or two pieces
 *              (iovecs): all of it, or rewritten headers and the payload where it was read
 *     run      packets to one peer of one size, but for the last, which may be shorter: one
 *              UDP_SEGMENT send where that works, one datagram each otherwise; the receiver cannot
 *              tell
 *     entry    what waits in a batch: one packet or one run, and the peer it goes to
 *     batch    the entries that one batch of the TUN became; sent in one sendmmsg if all goes well
 *
 * Owns: entries, when a packet may join a run, and what is sent after a partial or refused send.
 * Must not know: where packets come from, which worker sends.
 */
#ifndef UDPOVERLAY_TX_BATCH_H
#define UDPOVERLAY_TX_BATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "worker/kernel.h"
#include "offload/offload.h"
#include "routes/routes.h"
#include "worker/event.h"

enum {
    TX_BATCH_ENTRIES = 64,
    TX_BATCH_IOVECS = 1024,
    TX_BATCH_SEGMENTS = 64, /* of one UDP_SEGMENT send: UDP_MAX_SEGMENTS before Linux 6.9 */
    SEND_BYTES_MAX = 65507, /* of one send: 65535 - 20 (IPv4) - 8 (UDP) */
    TX_BATCH_RETRIES = 8,   /* sends without kernel memory before a datagram is dropped */
    SEGMENT_CONTROL = CMSG_SPACE(sizeof(uint16_t)),
};

struct tx_entry {
    struct endpoint endpoint;  /* copied: the table may be gone when a blocked send goes on */
    struct peer_state *peer;   /* NULL as soon as the batch it was looked up in is over */
    const struct nexthop *hop; /* only compared, only within its batch */
    uint32_t first;            /* its iovecs: batch.iov[first ...] */
    uint32_t bytes;
    uint16_t segments; /* datagrams in it */
    uint16_t sent;     /* of these, those that are gone already */
    uint16_t datagram; /* bytes of each but the last */
    uint16_t last;
    uint16_t slot;   /* the peer's, kept when `peer` is not */
    uint8_t pieces;  /* iovecs of each datagram */
    uint8_t header;  /* bytes in front of the packet in each */
    bool segmented;  /* to go as one UDP_SEGMENT send */
    bool past_mtu;   /* to go whatever MTU of the path the kernel believes in */
    uint8_t refused; /* enum fallback_cause: why it does not; the peer hears of it when its
                                 datagrams go one by one, so only if that was the reason */
};

struct tx_batch {
    /* As tx_batch_init set them. */
    struct stats *stats;
    int fd;
    int mtu_discover; /* the socket's IP_MTU_DISCOVER as it was */
    uint32_t most;    /* sends a system call */
    bool segments;    /* send runs with UDP_SEGMENT */
    bool watched;     /* ICMP's reports reach the peers' paths */
    /* The batch at hand. */
    uint32_t next, count; /* entries[next ... count-1] wait */
    uint32_t iovecs;      /* used */
    uint32_t retries;     /* of the entry at `next` */
    struct tx_entry entries[TX_BATCH_ENTRIES];
    struct iovec iov[TX_BATCH_IOVECS];
    struct mmsghdr headers[TX_BATCH_ENTRIES];
    _Alignas(struct cmsghdr) uint8_t controls[TX_BATCH_ENTRIES][SEGMENT_CONTROL];
};

/* What tx_batch_flush left behind. */
enum tx_batch_end {
    TX_BATCH_SENT,    /* nothing waits */
    TX_BATCH_BLOCKED, /* the socket has no room */
    TX_BATCH_RETRY,   /* the kernel has no memory for now */
};

/* Of zeros: sends through `fd`, at most `most` (1..TX_BATCH_ENTRIES) datagrams or runs a call. */
void tx_batch_init(struct tx_batch *batch, struct stats *stats, int fd, uint32_t most,
                   bool segments, bool watched);

static inline bool tx_batch_empty(const struct tx_batch *batch)
{
    return batch->next == batch->count;
}

/* Forgets the entries sent; their iovecs and the memory these point to are free again. */
static inline void tx_batch_reset(struct tx_batch *batch)
{
    batch->next = batch->count = batch->iovecs = batch->retries = 0;
}

/* Room for one more datagram, whatever it is. */
static inline bool tx_batch_has_room(const struct tx_batch *batch)
{
    return batch->count < TX_BATCH_ENTRIES && batch->iovecs < TX_BATCH_IOVECS;
}

/* Adds a group of segments whose iovecs were made at batch.iov[batch.iovecs ...]; it goes as one
 * send where it can. Precondition: tx_batch_has_room. */
void tx_batch_add_group(struct tx_batch *batch, const struct nexthop *hop,
                        const struct segment_group *group);

/* Adds one datagram of `length` bytes; precondition: tx_batch_has_room. It may join the entry
 * before it. */
void tx_batch_add(struct tx_batch *batch, const struct nexthop *hop, uint8_t *datagram,
                  uint32_t length);

/* Adds one datagram that joins no run, and that no other one joins. `hop` is not referred to. */
void tx_batch_add_alone(struct tx_batch *batch, const struct nexthop *hop, uint8_t *datagram,
                        uint32_t length);

/* Sends what waits. */
enum tx_batch_end tx_batch_flush(struct tx_batch *batch);

/* Counts what waits as dropped. */
void tx_batch_abandon(struct tx_batch *batch);

#endif
