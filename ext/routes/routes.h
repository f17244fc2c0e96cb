/* SPDX-License-Identifier: Apache-2.0
 *
 * routes: which peer has the subnet that a destination is in.
 *
 * Owns: the table of next hops, its publication, its reclamation. Must not know: packets, sockets,
 * where routes come from, how prefixes are matched (trie.h), what is known of a peer (peers.h).
 *
 * A table is built aside from a flat array and never changed afterwards; publishing swaps one
 * pointer. Workers use whatever table the pointer shows at a batch boundary, without a lock and
 * without waiting; a replaced table is freed once every worker has passed a boundary since
 * (quiescent states). So a worker goes:
 *
 *     route_reader_online(reader)                     woke up
 *     loop: route_reader_pass(reader)                 batch boundary: holds no table, no next hop
 *           table = routes_current(slot)              valid until the next pass or offline
 *           hop = routes_lookup(table, version, address)
 *     route_reader_offline(reader)                    before it sleeps
 *
 * Control side (publish, collect, add and remove readers): from any thread; a mutex that no worker
 * ever touches puts the callers in order.
 */
#ifndef UDPOVERLAY_ROUTES_H
#define UDPOVERLAY_ROUTES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "packet/encap.h"
#include "routes/peers.h"
#include "routes/senders.h"

struct nexthop {
    struct endpoint endpoint;
    uint32_t mtu; /* longest inner packet in bytes that this peer takes; 0: not limited */
    struct peer_state *peer;
    uint16_t slot;              /* the peer's, also when the peer is gone */
    struct encap_header header; /* stands before every inner packet to this peer */
};

/* One entry of the flat array that a table is built from. */
struct route {
    uint8_t address[16]; /* network order; IPv4 uses the first 4; bits beyond length are ignored */
    uint8_t version;     /* 4 or 6 */
    uint8_t length;      /* of the prefix: 0..32 or 0..128 */
    uint32_t mtu;
    struct endpoint endpoint;
    struct encap_header header;
};

struct route_table; /* immutable */

/* One worker's announcement; on cache lines of its own. 0: offline. */
struct route_reader {
    _Alignas(64) atomic_size_t epoch;
    struct route_slot *slot;
    struct route_reader *next;
};

struct route_slot {
    _Alignas(64) _Atomic(struct route_table *) current;
    atomic_size_t epoch;
    /* control side, under `control` */
    _Alignas(64) pthread_mutex_t control;
    struct route_reader *readers;
    struct route_table *retired; /* newest first */
    struct peers peers;
    uint64_t builds;
    uint64_t generation;
};

struct route_facts {
    uint64_t generation; /* publications so far */
    size_t routes;       /* that the current table was built from */
    size_t memory;       /* bytes of the current table */
    size_t retired;      /* tables not yet freed */
    size_t peers;        /* distinct endpoints still referred to */
};

/* Starts with an empty table. 0 or -ENOMEM. */
int route_slot_init(struct route_slot *slot);

/* Frees everything; no reader may be left. */
void route_slot_destroy(struct route_slot *slot);

/* Builds a table of the `count` routes and makes it current; of two routes with the same prefix the
 * last counts. `aliases` are further addresses that peers send from. 0, -ENOMEM, -E2BIG (more than
 * ROUTES_MEMORY_MAX), -EINVAL (version, prefix length, endpoint, header length); on an error the table
 * that was current stays. Also collects. */
int routes_publish(struct route_slot *slot, const struct route *routes, size_t count,
                   const struct sender_alias *aliases, size_t alias_count);

enum { ROUTES_MEMORY_MAX = 1 << 28 };

/* Frees the tables that no reader can still see; returns how many are left. */
size_t routes_collect(struct route_slot *slot);

/* Control side: one lookup in the current table, copied to *found. 1, or 0 when there is none. */
int routes_find(struct route_slot *slot, unsigned version, const uint8_t *address,
                struct nexthop *found);

void routes_facts(struct route_slot *slot, struct route_facts *facts);

/* A peer to which sends with UDP_SEGMENT were refused, now or at some time. */
struct peer_fallback {
    struct endpoint endpoint;
    struct path_state path;
};

/* Control side: all of them, the first `room` in `found`. How many there are. */
size_t routes_fallbacks(struct route_slot *slot, struct peer_fallback *found, size_t room);

/* A peer in use, and what workers counted of it. */
struct peer_traffic {
    struct endpoint endpoint;
    struct peer_sum sum;
};

/* Control side: all of them, the first `room` in `found`. How many there are. */
size_t routes_traffic(struct route_slot *slot, struct peer_traffic *found, size_t room);

/* Control side: how many peers sent a datagram at that time or later. */
size_t routes_heard(struct route_slot *slot, uint64_t since_ns);

/* Control side: a worker counts in `rows`, until routes_rows_remove. */
void routes_rows_add(struct route_slot *slot, struct peer_rows *rows);
void routes_rows_remove(struct route_slot *slot, struct peer_rows *rows);

/* Control side: ICMP says of datagrams to that endpoint that nothing longer than `mtu` bytes passes,
 * IP header included; 0: it says something else. 1 when some route leads there, otherwise 0. */
int routes_path_report(struct route_slot *slot, const struct endpoint *endpoint, uint32_t mtu,
                       uint64_t now);

void route_reader_add(struct route_slot *slot, struct route_reader *reader);
void route_reader_remove(struct route_reader *reader);

/* From offline to online. This store and the load in routes_current must not change places: either
 * the collector sees that the reader is online, or the reader sees the newer table. Hence both are
 * sequentially consistent (no more than a plain load on x86, an ldar on aarch64). */
static inline void route_reader_online(struct route_reader *reader)
{
    size_t epoch = atomic_load_explicit(&reader->slot->epoch, memory_order_acquire);
    atomic_store_explicit(&reader->epoch, epoch, memory_order_seq_cst);
}

/* A batch boundary: nothing obtained before may be used after. */
static inline void route_reader_pass(struct route_reader *reader)
{
    size_t epoch = atomic_load_explicit(&reader->slot->epoch, memory_order_acquire);
    atomic_store_explicit(&reader->epoch, epoch, memory_order_release);
}

static inline void route_reader_offline(struct route_reader *reader)
{
    atomic_store_explicit(&reader->epoch, 0, memory_order_release);
}

/* The table to use until the next pass; the reader must be online. */
static inline const struct route_table *routes_current(struct route_slot *slot)
{
    return atomic_load_explicit(&slot->current, memory_order_seq_cst);
}

/* The next hop of the longest prefix that holds `address` (network order, 4 or 16 bytes as `version`
 * says), or NULL. */
const struct nexthop *routes_lookup(const struct route_table *table, unsigned version,
                                    const uint8_t *address);

/* The way back: who sends from which address. */
const struct senders *routes_senders(const struct route_table *table);

#endif
