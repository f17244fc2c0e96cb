/* SPDX-License-Identifier: Apache-2.0
 *
 * senders: which peers a datagram from an underlay address may come from.
 *
 * Owns: the table from an outer source address to peers, built aside with the routes and never
 * changed afterwards. Must not know: packets, subnets (a peer's are those whose route leads to it,
 * routes.h), how an alias was found.
 *
 * The address is enough, the port is not looked at: a NAT in front of a peer chooses its own. One
 * address may stand for several peers: ports differ, or a NAT has several nodes behind it.
 *
 *     index[hash of address] ─► list[i] ─► peers[first ... first + count - 1], by id
 */
#ifndef UDPOVERLAY_SENDERS_H
#define UDPOVERLAY_SENDERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "packet/address.h"
#include "routes/peers.h"

/* Datagrams of the peers at `of` come from `address`, too. */
struct sender_alias {
    struct address address, of;
};

struct sender {
    struct address address;
    uint32_t first, count;
};

/* Starts as zeros: empty. */
struct senders {
    uint32_t *index; /* 0: free; else a place in `list`, counted from 1 */
    struct sender *list;
    struct peer_state **peers;
    uint64_t multiplier; /* of the hash, odd and random: no sender can aim at a bucket */
    unsigned shift;      /* 64 minus the bits of a bucket's number */
    uint32_t mask;       /* buckets - 1 */
    size_t count, peer_count;
};

/* Builds from the `peers` in use and the aliases; aliases of an address that no peer has are left
 * out. Repetitions do no harm. 0 or -ENOMEM, and then it is empty. */
int senders_build(struct senders *senders, struct peer_state *const *peers, size_t peer_count,
                  const struct sender_alias *aliases, size_t alias_count);

void senders_free(struct senders *senders);

/* Bytes in use. */
size_t senders_memory(const struct senders *senders);

/* The address of an endpoint. */
void sender_address(struct address *address, const struct endpoint *endpoint);

/* Multiply-shift (Dietzfelbinger 1996) over both halves. */
static inline size_t senders_hash(const struct senders *senders, const struct address *address)
{
    uint64_t halves[2];
    memcpy(halves, address->bytes, sizeof(halves));
    uint64_t mixed = (halves[0] * senders->multiplier) ^ halves[1];
    mixed ^= mixed >> 32; /* an IPv4 address lies in one half of a word, whatever the byte order */
    return (size_t)(mixed * senders->multiplier >> senders->shift);
}

/* Who sends from there; NULL: no peer. At most half of the buckets are taken. */
static inline const struct sender *senders_lookup(const struct senders *senders,
                                                  const struct address *address)
{
    if (senders->count == 0)
        return NULL;
    for (size_t at = senders_hash(senders, address);; at = (at + 1) & senders->mask) {
        const uint32_t place = senders->index[at];
        if (place == 0)
            return NULL;
        const struct sender *sender = &senders->list[place - 1];
        if (memcmp(&sender->address, address, sizeof(*address)) == 0)
            return sender;
    }
}

bool sender_is_one_of(const struct senders *senders, const struct sender *sender,
                      const struct peer_state *peer);

/* Whether the datagrams of `sender` may be the peer's. */
static inline bool sender_is(const struct senders *senders, const struct sender *sender,
                             const struct peer_state *peer)
{
    return sender->count == 1 ? senders->peers[sender->first] == peer
                              : sender_is_one_of(senders, sender, peer);
}

#endif
