/* SPDX-License-Identifier: Apache-2.0
 *
 * inbound: UDP -> TUN, one batch at a time; inbound.c reads in the order in which a packet meets it.
 *
 * Owns: the received messages of a worker and the decision about each datagram in them. Must not
 * know: how delivered packets are written (delivery.h), who sleeps when.
 */
#ifndef UDPOVERLAY_INBOUND_H
#define UDPOVERLAY_INBOUND_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "worker/delivery.h"
#include "worker/device.h"
#include "worker/pump.h"
#include "worker/source_check.h"

enum {
    INBOUND_MESSAGE_MAX = 65535, /* bytes of one message, merged datagrams */
    /* One received message: 64 KB of merged datagrams, and an odd number of cache lines more, so
     * that the beginnings of all slots do not fall into the same sets of the caches. */
    INBOUND_SLOT = 65536 + 17 * CACHE_LINE,
    /* What one receive should bring at most: it passes through the cache three times. */
    INBOUND_BATCH_BYTES = 128 * 1024,
    INBOUND_CONTROL = CMSG_SPACE(sizeof(int)),
};

struct inbound {
    struct pump *pump;
    struct stats *stats;
    const struct device *device;
    int udp_fd;
    bool moved;        /* a batch had something; cleared by the caller */
    uint64_t taken;    /* datagrams of the batch at hand, merged ones counted */
    uint8_t *slots;    /* PUMP_BATCH_MAX of INBOUND_SLOT bytes, touched when used */
    size_t slot_bytes; /* how many of them one receive may fill */
    uint32_t wanted;   /* messages of the next receive */
    struct mmsghdr headers[PUMP_BATCH_MAX];
    struct iovec iov[PUMP_BATCH_MAX];
    _Alignas(struct cmsghdr) uint8_t controls[PUMP_BATCH_MAX][INBOUND_CONTROL];
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } names[PUMP_BATCH_MAX]; /* where each message came from */
    struct source source;
    struct delivery delivery;
};

/* Of zeros; `slots` has room for PUMP_BATCH_MAX of INBOUND_SLOT bytes. */
void inbound_init(struct inbound *inbound, struct pump *pump, const struct device *device,
                  int udp_fd, uint8_t *slots);

/* One batch with the routes of `table`: enum batch_end, or -errno that ends the worker. */
int inbound_batch(struct inbound *inbound, const struct route_table *table);

#endif
