/* SPDX-License-Identifier: Apache-2.0
 *
 * peers: where a peer takes our datagrams, and what was learned about it.
 *
 * Owns: endpoints (an address with a port), their equality, and one object for each that is in use.
 * Must not know: routes. The functions on `struct peers` are for one thread at a time; a peer's
 * path is for all.
 */
#ifndef UDPOVERLAY_PEERS_H
#define UDPOVERLAY_PEERS_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "routes/path.h"
#include "routes/peer_counts.h"

/* Where a peer takes our datagrams; hand `address.any` to sendmsg with `length`. */
struct endpoint {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;
    socklen_t length;
};

/* From 4 or 16 bytes in network order and a port; -EINVAL for another length. */
int endpoint_set(struct endpoint *endpoint, const uint8_t *address, size_t length, uint16_t port);

/* The other way round: returns how many bytes of `address` were written, 4 or 16. */
size_t endpoint_get(const struct endpoint *endpoint, uint8_t address[static 16], uint16_t *port);

/* Of a known family and as long as that says. */
int endpoint_valid(const struct endpoint *endpoint);

/* What was learned about a peer and outlives the tables: the same object as long as some table has
 * a route to that endpoint. */
struct peer_state {
    struct path path; /* any worker may write at any time */
    uint32_t id;      /* never used again for another endpoint of the same `struct peers` */
    uint16_t slot;    /* what packets count under */
    struct endpoint endpoint;
    /* Control side only. */
    uint32_t users;          /* next hops that refer to it */
    uint32_t hop;            /* the last of them, */
    uint64_t build;          /* and in which build of a table */
    struct peer_state *next; /* hash chain */
    struct peer_sum *before; /* what its rows counted before it had them; NULL: nothing */
};

/* A worker's rows, PEER_SLOTS of them. */
struct peer_rows {
    const struct peer_counts *rows;
    struct peer_rows *next;
};

/* All peers in use, by endpoint. Starts as zeros. */
struct peers {
    struct peer_state **buckets;
    size_t room; /* buckets, a power of two or 0 */
    size_t count;
    uint32_t next_id;
    struct peer_slots slots;
    struct peer_rows *rows;                 /* of all workers there are */
    _Atomic uint32_t addresses[PEER_SLOTS]; /* IPv4, network order, of each slot's peer; 0: none */
};

/* The peer of that endpoint, made with no users if need be; NULL: no memory. */
struct peer_state *peers_find(struct peers *peers, const struct endpoint *endpoint);

/* The same, but NULL when there is none. */
struct peer_state *peers_known(const struct peers *peers, const struct endpoint *endpoint);

/* One user less; the last one takes the peer along. */
void peers_release(struct peers *peers, struct peer_state *peer);

/* What was counted of a peer. */
struct peer_sum peers_sum(const struct peers *peers, const struct peer_state *peer);

/* When one of its datagrams came last, on the monotonic clock; 0: never. */
uint64_t peers_heard(const struct peers *peers, const struct peer_state *peer);

/* A worker counts in `rows` from now on. */
void peers_rows_add(struct peers *peers, struct peer_rows *rows);

/* It is about to end, as all others are: the sums are to be read before, and are zero in the end. */
void peers_rows_remove(struct peers *peers, struct peer_rows *rows);

/* Frees the buckets; no peer may be left. */
void peers_free(struct peers *peers);

#endif
