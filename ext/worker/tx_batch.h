/* SPDX-License-Identifier: Apache-2.0
 *
 * batch: datagrams on their way to the UDP socket.
 *
 * Owns: messages (one peer, one datagram or a run of equal ones), when a datagram may join a run,
 * and what is sent after a partial or refused send. Must not know: where packets come from.
 *
 * A message that holds several datagrams goes out as one UDP_SEGMENT send where that works, as one
 * datagram each otherwise; the receiver cannot tell.
 */
#ifndef UDPOVERLAY_TX_BATCH_H
#define UDPOVERLAY_TX_BATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "worker/kernel.h"
#include "offload/offload.h"
#include "worker/pump.h"

enum {
    TX_BATCH_MESSAGES = PUMP_BATCH_MAX,
    TX_BATCH_IOVECS = 1024,
    TX_BATCH_SEGMENTS = 64, /* of one UDP_SEGMENT send: UDP_MAX_SEGMENTS before Linux 6.9 */
    SEND_BYTES_MAX = 65507, /* of one send: 65535 - 20 (IPv4) - 8 (UDP) */
    TX_BATCH_RETRIES = 8,   /* sends without kernel memory before a datagram is dropped */
    SEGMENT_CONTROL = CMSG_SPACE(sizeof(uint16_t)),
};

struct message {
    struct endpoint endpoint;  /* copied: the table may be gone when a blocked send goes on */
    struct peer_state *peer;   /* NULL as soon as the batch it was looked up in is over */
    const struct nexthop *hop; /* only compared, only within its batch */
    uint32_t first;            /* its iovecs: batch.iov[first ...] */
    uint32_t bytes;
    uint16_t segments; /* datagrams in it */
    uint16_t sent;     /* of these, those that are gone already */
    uint16_t datagram; /* bytes of each but the last */
    uint16_t last;
    uint8_t pieces;  /* iovecs of each datagram */
    uint8_t header;  /* bytes in front of the packet in each */
    bool segmented;  /* to go as one UDP_SEGMENT send */
    bool past_mtu;   /* to go whatever MTU of the path the kernel believes in */
    uint8_t refused; /* enum fallback_cause: why it does not; the peer hears of it when its
                                 datagrams go one by one, so only if that was the reason */
};

struct tx_batch {
    uint32_t next, count; /* messages[next ... count-1] wait */
    uint32_t iovecs;      /* used */
    uint32_t retries;     /* of the message at `next` */
    struct message messages[TX_BATCH_MESSAGES];
    struct iovec iov[TX_BATCH_IOVECS];
    struct mmsghdr headers[PUMP_BATCH_MAX];
    _Alignas(struct cmsghdr) uint8_t controls[PUMP_BATCH_MAX][SEGMENT_CONTROL];
};

static inline bool tx_batch_empty(const struct tx_batch *batch)
{
    return batch->next == batch->count;
}

/* Forgets the messages sent; their iovecs and the memory these point to are free again. */
static inline void tx_batch_reset(struct tx_batch *batch)
{
    batch->next = batch->count = batch->iovecs = batch->retries = 0;
}

/* Room for one more datagram, whatever it is. */
static inline bool tx_batch_has_room(const struct tx_batch *batch)
{
    return batch->count < TX_BATCH_MESSAGES && batch->iovecs < TX_BATCH_IOVECS;
}

struct worker;

/* Adds a group of segments whose iovecs were made at batch.iov[batch.iovecs ...]; it goes as one
 * send where it can. Precondition: tx_batch_has_room. */
void tx_batch_add_group(struct worker *worker, const struct nexthop *hop,
                        const struct segment_group *group);

/* Adds one datagram of `length` bytes; precondition: tx_batch_has_room. It may join the message
 * before it. */
void tx_batch_add(struct worker *worker, const struct nexthop *hop, uint8_t *datagram,
                  uint32_t length);

#endif
