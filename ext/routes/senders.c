/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* getrandom */
#include "routes/senders.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

void sender_address(struct address *address, const struct endpoint *endpoint)
{
    if (endpoint->address.any.sa_family == AF_INET)
        address_from_ipv4(address, &endpoint->address.v4.sin_addr);
    else
        memcpy(address->bytes, &endpoint->address.v6.sin6_addr, sizeof(address->bytes));
}

/* ---- the index -------------------------------------------------------------------------------- */

static uint64_t random_odd(void)
{
    uint64_t number;
    /* Early after boot there may be none: an address of this process has to do. */
    if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number))
        number = (uint64_t)(uintptr_t)&number * 0x9E3779B97F4A7C15U;
    return number | 1;
}

/* Room for `addresses`, with at most half of the buckets taken. */
static int make_index(struct senders *senders, size_t addresses)
{
    unsigned bits = 4;
    while ((size_t)1 << bits < 2 * addresses)
        bits++;
    senders->multiplier = random_odd();
    senders->shift = 64 - bits;
    senders->mask = (uint32_t)(((size_t)1 << bits) - 1);
    senders->index = calloc((size_t)1 << bits, sizeof(*senders->index));
    senders->list = malloc(addresses * sizeof(*senders->list));
    return senders->index && senders->list ? 0 : -ENOMEM;
}

/* The sender of that address, made with no peers if need be. */
static struct sender *enter(struct senders *senders, const struct address *address)
{
    size_t at = senders_hash(senders, address);
    for (; senders->index[at]; at = (at + 1) & senders->mask) {
        struct sender *sender = &senders->list[senders->index[at] - 1];
        if (memcmp(&sender->address, address, sizeof(*address)) == 0)
            return sender;
    }
    struct sender *sender = &senders->list[senders->count];
    *sender = (struct sender){.address = *address};
    senders->index[at] = (uint32_t)++senders->count;
    return sender;
}

/* ---- building --------------------------------------------------------------------------------- */

static int by_id(const void *one, const void *other)
{
    const uint32_t a = (*(struct peer_state *const *)one)->id;
    const uint32_t b = (*(struct peer_state *const *)other)->id;
    return a < b ? -1 : a > b;
}

/* Sorts the peers of each address and drops those that are there twice. */
static void settle(struct senders *senders)
{
    for (size_t i = 0; i < senders->count; i++) {
        struct sender *sender = &senders->list[i];
        struct peer_state **peers = senders->peers + sender->first;
        uint32_t kept = sender->count ? 1 : 0;
        if (sender->count < 2)
            continue;
        qsort(peers, sender->count, sizeof(*peers), by_id);
        for (uint32_t at = 1; at < sender->count; at++)
            if (peers[at] != peers[kept - 1])
                peers[kept++] = peers[at];
        sender->count = kept;
    }
}

/* One pass over all pairs of address and peer: to count them (`add` false) or to put them in. */
static void pass(struct senders *senders, const struct senders *direct,
                 struct peer_state *const *peers, size_t peer_count,
                 const struct sender_alias *aliases, size_t alias_count, bool add)
{
    struct address address;

    for (size_t i = 0; i < peer_count; i++) {
        sender_address(&address, &peers[i]->endpoint);
        struct sender *sender = enter(senders, &address);
        if (add)
            senders->peers[sender->first + sender->count] = peers[i];
        sender->count++;
    }
    for (size_t i = 0; direct && i < alias_count; i++) {
        const struct sender *of = senders_lookup(direct, &aliases[i].of);
        if (of == NULL)
            continue;
        struct sender *sender = enter(senders, &aliases[i].address);
        if (add)
            memcpy(senders->peers + sender->first + sender->count, direct->peers + of->first,
                   of->count * sizeof(*senders->peers));
        sender->count += of->count;
    }
}

static int build(struct senders *senders, const struct senders *direct,
                 struct peer_state *const *peers, size_t peer_count,
                 const struct sender_alias *aliases, size_t alias_count)
{
    *senders = (struct senders){0};
    if (peer_count == 0)
        return 0;
    if (make_index(senders, peer_count + alias_count) < 0)
        goto cleanup;
    pass(senders, direct, peers, peer_count, aliases, alias_count, false);
    for (size_t i = 0; i < senders->count; i++) {
        senders->list[i].first = (uint32_t)senders->peer_count;
        senders->peer_count += senders->list[i].count;
        senders->list[i].count = 0;
    }
    senders->peers = malloc(senders->peer_count * sizeof(*senders->peers));
    if (!senders->peers)
        goto cleanup;
    pass(senders, direct, peers, peer_count, aliases, alias_count, true);
    settle(senders);
    return 0;
cleanup:
    senders_free(senders);
    return -ENOMEM;
}

int senders_build(struct senders *senders, struct peer_state *const *peers, size_t peer_count,
                  const struct sender_alias *aliases, size_t alias_count)
{
    struct senders direct = {0};
    int rc = 0;

    *senders = (struct senders){0};
    /* An alias refers to addresses, so these come first; there is seldom any. */
    if (alias_count > 0)
        rc = build(&direct, NULL, peers, peer_count, NULL, 0);
    if (rc == 0)
        rc = build(senders, alias_count > 0 ? &direct : NULL, peers, peer_count, aliases,
                   alias_count);
    senders_free(&direct);
    return rc;
}

void senders_free(struct senders *senders)
{
    free(senders->index);
    free(senders->list);
    free(senders->peers);
    *senders = (struct senders){0};
}

size_t senders_memory(const struct senders *senders)
{
    if (senders->count == 0)
        return 0;
    return ((size_t)senders->mask + 1) * sizeof(*senders->index) +
           senders->count * sizeof(*senders->list) +
           senders->peer_count * sizeof(struct peer_state *);
}

bool sender_is_one_of(const struct senders *senders, const struct sender *sender,
                      const struct peer_state *peer)
{
    const struct peer_state *const *peers =
        (const struct peer_state *const *)senders->peers + sender->first;
    uint32_t from = 0, to = sender->count;

    while (from < to) {
        const uint32_t middle = from + (to - from) / 2;
        if (peers[middle] == peer)
            return true;
        if (peers[middle]->id < peer->id)
            from = middle + 1;
        else
            to = middle;
    }
    return false;
}
