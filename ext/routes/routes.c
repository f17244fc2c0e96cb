/* SPDX-License-Identifier: Apache-2.0 */
#include "routes/routes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "routes/trie.h"

struct route_table {
    struct trie v4, v6;
    struct senders senders;
    struct nexthop *hops; /* an entry of the tries is an index here, counted from 1 */
    size_t hop_count, hop_room;
    size_t routes;
    size_t retired_at; /* epoch in which it was replaced */
    struct route_table *older;
};

/* ---- building ------------------------------------------------------------------------------ */

static void table_free(struct route_slot *slot, struct route_table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->hop_count; i++)
        peers_release(&slot->peers, table->hops[i].peer);
    free(table->hops);
    senders_free(&table->senders);
    trie_free(&table->v4);
    trie_free(&table->v6);
    free(table);
}

static size_t table_memory(const struct route_table *table)
{
    return sizeof(*table) + table->hop_room * sizeof(*table->hops) + trie_memory(&table->v4) +
           trie_memory(&table->v6) + senders_memory(&table->senders);
}

static bool same_header(const struct encap_header *one, const struct encap_header *other)
{
    return one->length == other->length && memcmp(one->bytes, other->bytes, one->length) == 0;
}

/* The number of the next hop for `route`, counted from 1, in *value. Routes to one endpoint that
 * follow each other with the same MTU and header share it. */
static int hop_of(struct route_slot *slot, struct route_table *table, const struct route *route,
                  uint32_t *value)
{
    struct peer_state *peer = peers_find(&slot->peers, &route->endpoint);
    if (!peer)
        return -ENOMEM;
    if (peer->build == slot->builds && table->hops[peer->hop].mtu == route->mtu &&
        same_header(&table->hops[peer->hop].header, &route->header)) {
        *value = peer->hop + 1;
        return 0;
    }
    struct nexthop *hop = &table->hops[table->hop_count];
    hop->endpoint = route->endpoint;
    hop->mtu = route->mtu;
    hop->peer = peer;
    hop->slot = peer->slot;
    hop->header = route->header;
    peer->users++;
    peer->build = slot->builds;
    peer->hop = (uint32_t)table->hop_count++;
    *value = peer->hop + 1;
    return 0;
}

static int route_valid(const struct route *route)
{
    unsigned width = route->version == 4 ? 32 : route->version == 6 ? 128 : 0;
    return width != 0 && route->length <= width && endpoint_valid(&route->endpoint) &&
           route->header.length <= ENCAP_HEADER_MAX;
}

/* Gives the routes their next hops and sorts them into `prefixes`, IPv4 first, by prefix length,
 * otherwise in their order, as trie_build wants them: a counting sort. */
static int sort_routes(struct route_slot *slot, struct route_table *table,
                       const struct route *routes, size_t count, struct trie_prefix *prefixes,
                       size_t *count_v4)
{
    enum { LENGTHS_V4 = 33, LENGTHS = LENGTHS_V4 + 129 };
    size_t starts[LENGTHS] = {0}; /* how many of each length, then where the next one goes */
    size_t at = 0;

    for (size_t i = 0; i < count; i++)
        starts[routes[i].length + (routes[i].version == 4 ? 0 : LENGTHS_V4)]++;
    for (size_t i = 0; i < LENGTHS; i++) {
        size_t here = starts[i];
        if (i == LENGTHS_V4)
            *count_v4 = at;
        starts[i] = at;
        at += here;
    }
    for (size_t i = 0; i < count; i++) {
        const struct route *route = &routes[i];
        struct trie_prefix *prefix =
            &prefixes[starts[route->length + (route->version == 4 ? 0 : LENGTHS_V4)]++];
        memcpy(prefix->address, route->address, sizeof(prefix->address));
        prefix->length = route->length;
        int rc = hop_of(slot, table, route, &prefix->value);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int find_senders(struct route_table *table, const struct sender_alias *aliases,
                        size_t alias_count)
{
    struct peer_state **peers = malloc((table->hop_count + 1) * sizeof(struct peer_state *));
    if (!peers)
        return -ENOMEM;
    for (size_t i = 0; i < table->hop_count; i++)
        peers[i] = table->hops[i].peer;
    int rc = senders_build(&table->senders, peers, table->hop_count, aliases, alias_count);
    free(peers);
    return rc;
}

static int table_build(struct route_slot *slot, const struct route *routes, size_t count,
                       const struct sender_alias *aliases, size_t alias_count,
                       struct route_table **built)
{
    int rc = -ENOMEM;
    size_t count_v4 = 0;
    struct trie_prefix *prefixes = NULL;
    struct route_table *table = calloc(1, sizeof(*table));
    if (!table)
        goto cleanup;
    rc = -E2BIG;
    if (count > TRIE_NUMBER_MAX || count > ROUTES_MEMORY_MAX / 2 / sizeof(*table->hops))
        goto cleanup;
    rc = -ENOMEM;
    table->hop_room = count ? count : 1;
    table->hops = malloc(table->hop_room * sizeof(*table->hops));
    prefixes = malloc(table->hop_room * sizeof(*prefixes));
    if (!table->hops || !prefixes)
        goto cleanup;
    slot->builds++;
    table->routes = count;
    rc = sort_routes(slot, table, routes, count, prefixes, &count_v4);
    if (rc < 0)
        goto cleanup;
    size_t room = table->hop_count ? table->hop_count : 1;
    struct nexthop *hops = realloc(table->hops, room * sizeof(*hops));
    if (hops) {
        table->hops = hops;
        table->hop_room = room;
    }
    rc = find_senders(table, aliases, alias_count);
    if (rc < 0)
        goto cleanup;
    rc = trie_build(&table->v4, 4, prefixes, count_v4, ROUTES_MEMORY_MAX - table_memory(table));
    if (rc < 0)
        goto cleanup;
    rc = trie_build(&table->v6, 16, prefixes + count_v4, count - count_v4,
                    ROUTES_MEMORY_MAX - table_memory(table));
    if (rc < 0)
        goto cleanup;
    *built = table;
    table = NULL;
cleanup:
    free(prefixes);
    table_free(slot, table);
    return rc;
}

/* ---- publication and reclamation ----------------------------------------------------------- */

/* Under slot->control. */
static size_t collect(struct route_slot *slot)
{
    /* The oldest epoch that an online reader announced. */
    size_t now = atomic_load_explicit(&slot->epoch, memory_order_relaxed), oldest = now;
    for (struct route_reader *reader = slot->readers; reader; reader = reader->next) {
        size_t epoch = atomic_load_explicit(&reader->epoch, memory_order_seq_cst);
        if (epoch != 0 && now - epoch > now - oldest)
            oldest = epoch;
    }
    size_t left = 0;
    struct route_table **link = &slot->retired;
    while (*link) {
        struct route_table *table = *link;
        /* Ages, not epochs, are compared: they survive a wrap. */
        if (now - table->retired_at < now - oldest) {
            link = &table->older;
            left++;
            continue;
        }
        *link = table->older;
        table_free(slot, table);
    }
    return left;
}

int route_slot_init(struct route_slot *slot)
{
    memset(slot, 0, sizeof(*slot));
    struct route_table *table = NULL;
    int rc = table_build(slot, NULL, 0, NULL, 0, &table);
    if (rc < 0)
        return rc;
    rc = pthread_mutex_init(&slot->control, NULL);
    if (rc != 0) {
        table_free(slot, table);
        return -rc;
    }
    atomic_init(&slot->current, table);
    atomic_init(&slot->epoch, 1);
    return 0;
}

void route_slot_destroy(struct route_slot *slot)
{
    struct route_table *table = slot->retired, *older;
    for (; table; table = older) {
        older = table->older;
        table_free(slot, table);
    }
    table_free(slot, atomic_load_explicit(&slot->current, memory_order_relaxed));
    peers_free(&slot->peers);
    pthread_mutex_destroy(&slot->control);
}

int routes_publish(struct route_slot *slot, const struct route *routes, size_t count,
                   const struct sender_alias *aliases, size_t alias_count)
{
    for (size_t i = 0; i < count; i++)
        if (!route_valid(&routes[i]))
            return -EINVAL;

    struct route_table *table;
    pthread_mutex_lock(&slot->control);
    int rc = table_build(slot, routes, count, aliases, alias_count, &table);
    if (rc == 0) {
        struct route_table *old =
            atomic_exchange_explicit(&slot->current, table, memory_order_seq_cst);
        /* Steps of two from one: never 0, which means offline. */
        old->retired_at = atomic_fetch_add_explicit(&slot->epoch, 2, memory_order_acq_rel) + 2;
        old->older = slot->retired;
        slot->retired = old;
        slot->generation++;
        collect(slot);
    }
    pthread_mutex_unlock(&slot->control);
    return rc;
}

size_t routes_collect(struct route_slot *slot)
{
    pthread_mutex_lock(&slot->control);
    size_t left = collect(slot);
    pthread_mutex_unlock(&slot->control);
    return left;
}

int routes_find(struct route_slot *slot, unsigned version, const uint8_t *address,
                struct nexthop *found)
{
    pthread_mutex_lock(&slot->control);
    const struct route_table *table = atomic_load_explicit(&slot->current, memory_order_relaxed);
    const struct nexthop *hop = routes_lookup(table, version, address);
    if (hop)
        *found = *hop;
    pthread_mutex_unlock(&slot->control);
    return hop != NULL;
}

void routes_facts(struct route_slot *slot, struct route_facts *facts)
{
    pthread_mutex_lock(&slot->control);
    const struct route_table *table = atomic_load_explicit(&slot->current, memory_order_relaxed);
    facts->generation = slot->generation;
    facts->routes = table->routes;
    facts->memory = table_memory(table);
    facts->peers = slot->peers.count;
    facts->retired = 0;
    for (table = slot->retired; table; table = table->older)
        facts->retired++;
    pthread_mutex_unlock(&slot->control);
}

/* The next peer in no order; NULL to begin with, and at the end. */
static struct peer_state *next_peer(const struct peers *peers, size_t *bucket,
                                    struct peer_state *peer)
{
    if (peer)
        peer = peer->next;
    while (!peer && *bucket < peers->room)
        peer = peers->buckets[(*bucket)++];
    return peer;
}

size_t routes_fallbacks(struct route_slot *slot, struct peer_fallback *found, size_t room)
{
    struct peer_state *peer = NULL;
    size_t bucket = 0, count = 0;

    pthread_mutex_lock(&slot->control);
    while ((peer = next_peer(&slot->peers, &bucket, peer))) {
        struct path_state state = path_look(&peer->path);
        if (state.segment.count == 0)
            continue;
        if (count < room)
            found[count] = (struct peer_fallback){peer->endpoint, state};
        count++;
    }
    pthread_mutex_unlock(&slot->control);
    return count;
}

size_t routes_traffic(struct route_slot *slot, struct peer_traffic *found, size_t room)
{
    struct peer_state *peer = NULL;
    size_t bucket = 0, count = 0;

    pthread_mutex_lock(&slot->control);
    while ((peer = next_peer(&slot->peers, &bucket, peer))) {
        if (count < room)
            found[count] = (struct peer_traffic){peer->endpoint, peers_sum(&slot->peers, peer)};
        count++;
    }
    pthread_mutex_unlock(&slot->control);
    return count;
}

size_t routes_heard(struct route_slot *slot, uint64_t since_ns)
{
    struct peer_state *peer = NULL;
    size_t bucket = 0, count = 0;

    pthread_mutex_lock(&slot->control);
    while ((peer = next_peer(&slot->peers, &bucket, peer)))
        count += peers_heard(&slot->peers, peer) >= since_ns;
    pthread_mutex_unlock(&slot->control);
    return count;
}

void routes_rows_add(struct route_slot *slot, struct peer_rows *rows)
{
    pthread_mutex_lock(&slot->control);
    peers_rows_add(&slot->peers, rows);
    pthread_mutex_unlock(&slot->control);
}

void routes_rows_remove(struct route_slot *slot, struct peer_rows *rows)
{
    pthread_mutex_lock(&slot->control);
    peers_rows_remove(&slot->peers, rows);
    pthread_mutex_unlock(&slot->control);
}

int routes_path_report(struct route_slot *slot, const struct endpoint *endpoint, uint32_t mtu,
                       uint64_t now)
{
    pthread_mutex_lock(&slot->control);
    struct peer_state *peer = peers_known(&slot->peers, endpoint);
    if (peer && mtu > 0)
        path_reported(&peer->path, mtu, now);
    pthread_mutex_unlock(&slot->control);
    return peer != NULL;
}

void route_reader_add(struct route_slot *slot, struct route_reader *reader)
{
    atomic_init(&reader->epoch, 0);
    reader->slot = slot;
    pthread_mutex_lock(&slot->control);
    reader->next = slot->readers;
    slot->readers = reader;
    pthread_mutex_unlock(&slot->control);
}

void route_reader_remove(struct route_reader *reader)
{
    struct route_slot *slot = reader->slot;
    pthread_mutex_lock(&slot->control);
    struct route_reader **link = &slot->readers;
    while (*link != reader)
        link = &(*link)->next;
    *link = reader->next;
    pthread_mutex_unlock(&slot->control);
}

const struct nexthop *routes_lookup(const struct route_table *table, unsigned version,
                                    const uint8_t *address)
{
    uint32_t value = trie_lookup(version == 4 ? &table->v4 : &table->v6, address);
    return value ? &table->hops[value - 1] : NULL;
}

const struct senders *routes_senders(const struct route_table *table)
{
    return &table->senders;
}
