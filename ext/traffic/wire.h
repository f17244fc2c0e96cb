/* SPDX-License-Identifier: Apache-2.0 */
/* A datagram of traffic.h and its reception in batches; for traffic_*.c alone. */
#ifndef UDPOVERLAY_TRAFFIC_WIRE_H
#define UDPOVERLAY_TRAFFIC_WIRE_H

#ifndef _GNU_SOURCE
#error "struct mmsghdr needs _GNU_SOURCE before the first include"
#endif

#include "traffic/samples.h"

#include <sys/socket.h>

#define TRAFFIC_MAGIC ((uint32_t)0x75647061)
#define TRAFFIC_END   UINT64_MAX /* sequence number of the last datagram of a run */

enum {
    TRAFFIC_SLICE_NS = 50 * 1000 * 1000, /* how often a blocked run looks at the clock */
    /* A datagram and some lines of cache: a power of two would put all slots in one cache set. */
    TRAFFIC_SLOT = 65536 + 192,
};

struct traffic_header {
    uint32_t magic;
    uint32_t run;
    uint64_t sequence;
    uint64_t sent_at;
};
_Static_assert(sizeof(struct traffic_header) == TRAFFIC_DATAGRAM_HEADER, "no padding");

/* The slots of one recvmmsg. */
struct traffic_slots {
    uint8_t *memory;
    struct iovec parts[TRAFFIC_BATCH];
    struct mmsghdr batch[TRAFFIC_BATCH];
    struct sockaddr_storage names[TRAFFIC_BATCH];
};

/* What a datagram carries behind its header. */
const uint8_t *traffic_piece(const struct traffic_pattern *pattern, uint64_t sequence);

/* Have a blocked call come back after `nanoseconds`, so that the clock is looked at. */
int traffic_limit_blocking(int fd, uint64_t nanoseconds);

/* Whether an error of one datagram is the network's and does not end a run. */
bool traffic_refused(int error);

/* Say several times that a run is over: the queues it filled may drop the first ones. */
void traffic_send_end(int fd, uint32_t run);

struct traffic_slots *traffic_slots_open(void); /* NULL: no memory */
void traffic_slots_close(struct traffic_slots *slots);

/* Datagrams that came, at least one; 0 when none came for a slice of time, or -errno. */
int traffic_slots_receive(struct traffic_slots *slots, int fd);

#endif
