/* SPDX-License-Identifier: Apache-2.0
 *
 * source_check: whether a datagram may be what it says it is.
 *
 * The wire has no authentication, but the registry knows where each host sends from and which
 * subnet is whose (docs/explanation/security.md). With SOURCE_CHECK_ENFORCE
 *
 *     the outer source        is a peer's public IP, or an address that a probe proved to be its
 *     the inner source        lies in a subnet that is routed to that peer, or is its public IP:
 *                             flannel's hosts answer with that when containers ask them by it
 *     the inner destination   lies in our own subnet, which holds our TUN address too
 *
 * and in every mode no packet passes from an address that no other host has (loopback, link-local,
 * multicast, broadcast, zero, our own), nor to one that no router forwards to.
 *
 * Constant cost: one hash lookup a message, one trie lookup where the inner source is not that of
 * the packet before. The table is the one that the batch began with, so a subnet that moves to
 * another host is refused from its old one with the batch after the change.
 */
#ifndef UDPOVERLAY_SOURCE_CHECK_H
#define UDPOVERLAY_SOURCE_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "packet/packet.h"
#include "routes/routes.h"
#include "worker/pump.h"
#include "worker/refused.h"
#include "worker/stats.h"

/* The message at hand; valid within a batch. */
struct source {
    struct pump *pump;
    struct stats *stats;
    const struct route_table *table;
    struct address address;      /* where it came from */
    const struct sender *sender; /* NULL: no peer's */
    bool known;                  /* both are set: not with SOURCE_CHECK_OFF */
    uint16_t peer;               /* the sender's slot; PEER_UNKNOWN also while it may be several */
    uint64_t passed;             /* inner source that passed last, from `sender`; SOURCE_NONE */
    uint64_t now_ns;             /* 0: not read in this batch */
    /* The pump's, ready to be compared with what is in a packet. */
    uint32_t subnet, mask, broadcast;
    struct refused_table refused;
};

#define SOURCE_NONE UINT64_MAX

/* Of zeros, once. */
void source_init(struct source *source, struct pump *pump, struct stats *stats);

/* A batch begins, with another table. */
void source_begin(struct source *source, const struct route_table *table);

/* The packets of this message come next. False: it is no peer's, and they are all refused. */
bool source_message(struct source *source, const struct msghdr *message);

/* The time of this batch, monotonic, in nanoseconds. */
uint64_t source_now(struct source *source);

/* Remembers whose datagrams were refused; `bytes` has one of them. */
void source_refuse(struct source *source, enum verdict verdict, const uint8_t *bytes, size_t length,
                   uint32_t datagrams);

/* The verdict for a checked packet of the message: VERDICT_INBOUND_DELIVERED to go on. */
enum verdict source_check(struct source *source, const uint8_t *bytes, const struct packet *packet);

/* Whether a packet that passed would pass in every mode: only then may its source be answered. */
bool source_verified(struct source *source, const uint8_t *bytes, const struct packet *packet);

/* Whether the source of a packet from the TUN is ours or a peer's: only then may it be answered. */
bool source_answerable(const struct pump *pump, const struct route_table *table,
                       const uint8_t *bytes, const struct packet *packet);

#endif
