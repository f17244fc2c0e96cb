/* SPDX-License-Identifier: Apache-2.0 */
#include "routes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "trie.h"

struct route_table {
    struct trie v4, v6;
    struct nexthop *hops; /* an entry of the tries is an index here, counted from 1 */
    size_t hop_count, hop_room;
    size_t routes;
    size_t retired_at; /* epoch in which it was replaced */
    struct route_table *older;
};

/* ---- endpoints and peers ---------------------------------------------------------------------- */

int endpoint_set(struct endpoint *endpoint, const uint8_t *address, size_t length, uint16_t port)
{
    memset(endpoint, 0, sizeof(*endpoint));
    if (length == 4) {
        endpoint->address.v4.sin_family = AF_INET;
        endpoint->address.v4.sin_port = htons(port);
        memcpy(&endpoint->address.v4.sin_addr, address, 4);
        endpoint->length = sizeof(struct sockaddr_in);
        return 0;
    }
    if (length == 16) {
        endpoint->address.v6.sin6_family = AF_INET6;
        endpoint->address.v6.sin6_port = htons(port);
        memcpy(&endpoint->address.v6.sin6_addr, address, 16);
        endpoint->length = sizeof(struct sockaddr_in6);
        return 0;
    }
    return -EINVAL;
}

size_t endpoint_get(const struct endpoint *endpoint, uint8_t address[static 16], uint16_t *port)
{
    if (endpoint->address.any.sa_family == AF_INET) {
        memcpy(address, &endpoint->address.v4.sin_addr, 4);
        *port = ntohs(endpoint->address.v4.sin_port);
        return 4;
    }
    memcpy(address, &endpoint->address.v6.sin6_addr, 16);
    *port = ntohs(endpoint->address.v6.sin6_port);
    return 16;
}

static int endpoint_valid(const struct endpoint *endpoint)
{
    return (endpoint->address.any.sa_family == AF_INET &&
            endpoint->length == sizeof(struct sockaddr_in)) ||
           (endpoint->address.any.sa_family == AF_INET6 &&
            endpoint->length == sizeof(struct sockaddr_in6));
}

/* What tells two endpoints apart, without padding and flow labels. */
struct endpoint_key {
    uint8_t address[16];
    uint32_t scope;
    uint16_t family, port;
};

static struct endpoint_key key_of(const struct endpoint *endpoint)
{
    struct endpoint_key key;
    memset(&key, 0, sizeof(key));
    key.family = endpoint->address.any.sa_family;
    if (key.family == AF_INET) {
        memcpy(key.address, &endpoint->address.v4.sin_addr, 4);
        key.port = endpoint->address.v4.sin_port;
    } else {
        memcpy(key.address, &endpoint->address.v6.sin6_addr, 16);
        key.port = endpoint->address.v6.sin6_port;
        key.scope = endpoint->address.v6.sin6_scope_id;
    }
    return key;
}

static size_t key_hash(const struct endpoint_key *key)
{
    /* FNV-1a; peers come from the registry, which may be hostile only at its own cost. */
    uint64_t hash = 0xCBF29CE484222325U;
    const uint8_t *bytes = (const uint8_t *)key;
    for (size_t i = 0; i < sizeof(*key); i++)
        hash = (hash ^ bytes[i]) * 0x100000001B3U;
    return (size_t)(hash ^ hash >> 32);
}

static int peers_grow(struct route_slot *slot)
{
    size_t buckets = slot->peer_buckets ? slot->peer_buckets * 2 : 64;
    struct peer_state **grown = calloc(buckets, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    for (size_t i = 0; i < slot->peer_buckets; i++) {
        struct peer_state *peer = slot->peers[i], *next;
        for (; peer; peer = next) {
            struct endpoint_key key = key_of(&peer->endpoint);
            struct peer_state **bucket = &grown[key_hash(&key) & (buckets - 1)];
            next = peer->next;
            peer->next = *bucket;
            *bucket = peer;
        }
    }
    free(slot->peers);
    slot->peers = grown;
    slot->peer_buckets = buckets;
    return 0;
}

/* The peer of that endpoint, made if need be; NULL: no memory. */
static struct peer_state *peer_find(struct route_slot *slot, const struct endpoint *endpoint)
{
    if (slot->peer_count >= slot->peer_buckets && peers_grow(slot) < 0)
        return NULL;
    struct endpoint_key key = key_of(endpoint);
    struct peer_state **bucket = &slot->peers[key_hash(&key) & (slot->peer_buckets - 1)];
    for (struct peer_state *peer = *bucket; peer; peer = peer->next) {
        struct endpoint_key other = key_of(&peer->endpoint);
        if (memcmp(&key, &other, sizeof(key)) == 0)
            return peer;
    }
    struct peer_state *peer = calloc(1, sizeof(*peer));
    if (!peer)
        return NULL;
    atomic_init(&peer->flags, 0);
    peer->id = slot->next_peer_id++;
    peer->endpoint = *endpoint;
    peer->next = *bucket;
    *bucket = peer;
    slot->peer_count++;
    return peer;
}

static void peer_release(struct route_slot *slot, struct peer_state *peer)
{
    if (--peer->users > 0)
        return;
    struct endpoint_key key = key_of(&peer->endpoint);
    struct peer_state **link = &slot->peers[key_hash(&key) & (slot->peer_buckets - 1)];
    while (*link != peer)
        link = &(*link)->next;
    *link = peer->next;
    slot->peer_count--;
    free(peer);
}

/* ---- building ---------------------------------------------------------------------------------- */

static void table_free(struct route_slot *slot, struct route_table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->hop_count; i++)
        peer_release(slot, table->hops[i].peer);
    free(table->hops);
    trie_free(&table->v4);
    trie_free(&table->v6);
    free(table);
}

static size_t table_memory(const struct route_table *table)
{
    return sizeof(*table) + table->hop_room * sizeof(*table->hops) + trie_memory(&table->v4) +
           trie_memory(&table->v6);
}

/* The number of the next hop for `route`, counted from 1, in *value. Routes to one endpoint that
 * follow each other with the same MTU share it. */
static int hop_of(struct route_slot *slot, struct route_table *table, const struct route *route,
                  const struct encap *encap, uint32_t *value)
{
    struct peer_state *peer = peer_find(slot, &route->endpoint);
    if (!peer)
        return -ENOMEM;
    if (peer->built == slot->builds && table->hops[peer->hop].mtu == route->mtu) {
        *value = peer->hop + 1;
        return 0;
    }
    struct nexthop *hop = &table->hops[table->hop_count];
    hop->endpoint = route->endpoint;
    hop->mtu = route->mtu;
    hop->peer = peer;
    encap_fill(encap, &hop->header);
    peer->users++;
    peer->built = slot->builds;
    peer->hop = (uint32_t)table->hop_count++;
    *value = peer->hop + 1;
    return 0;
}

static int route_valid(const struct route *route)
{
    unsigned width = route->version == 4 ? 32 : route->version == 6 ? 128 : 0;
    return width != 0 && route->length <= width && endpoint_valid(&route->endpoint);
}

/* Sorts the routes of each version by prefix length, keeping their order (a counting sort), as
 * trie_build wants them. `starts` ends up at the end of each length; `prefixes` has room for all. */
static int sort_routes(struct route_slot *slot, struct route_table *table, const struct route *routes,
                       size_t count, const struct encap *encap, struct trie_prefix *prefixes,
                       size_t *count_v4)
{
    enum { LENGTHS_V4 = 33, LENGTHS = LENGTHS_V4 + 129 };
    size_t starts[LENGTHS] = {0}, at = 0;

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
        int rc = hop_of(slot, table, route, encap, &prefix->value);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int table_build(struct route_slot *slot, const struct route *routes, size_t count,
                       const struct encap *encap, struct route_table **built)
{
    int rc = -ENOMEM;
    size_t count_v4 = 0;
    struct trie_prefix *prefixes = NULL;
    struct route_table *table = calloc(1, sizeof(*table));
    if (!table)
        goto cleanup;
    rc = -E2BIG;
    if (count > TRIE_NUMBER_MAX || count > ROUTES_MEMORY_MAX / sizeof(*table->hops))
        goto cleanup;
    rc = -ENOMEM;
    table->hop_room = count ? count : 1;
    table->hops = malloc(table->hop_room * sizeof(*table->hops));
    prefixes = malloc(table->hop_room * sizeof(*prefixes));
    if (!table->hops || !prefixes)
        goto cleanup;
    slot->builds++;
    table->routes = count;
    rc = sort_routes(slot, table, routes, count, encap, prefixes, &count_v4);
    if (rc < 0)
        goto cleanup;
    rc = trie_build(&table->v4, 4, prefixes, count_v4, ROUTES_MEMORY_MAX);
    if (rc < 0)
        goto cleanup;
    rc = trie_build(&table->v6, 16, prefixes + count_v4, count - count_v4,
                    ROUTES_MEMORY_MAX - trie_memory(&table->v4));
    if (rc < 0)
        goto cleanup;
    size_t room = table->hop_count ? table->hop_count : 1;
    struct nexthop *hops = realloc(table->hops, room * sizeof(*hops));
    if (hops) {
        table->hops = hops;
        table->hop_room = room;
    }
    *built = table;
    table = NULL;
cleanup:
    free(prefixes);
    table_free(slot, table);
    return rc;
}

/* ---- publication and reclamation --------------------------------------------------------------- */

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
    int rc = table_build(slot, NULL, 0, &encap_udp, &table);
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
    free(slot->peers);
    pthread_mutex_destroy(&slot->control);
}

int routes_publish(struct route_slot *slot, const struct route *routes, size_t count,
                   const struct encap *encap)
{
    for (size_t i = 0; i < count; i++)
        if (!route_valid(&routes[i]))
            return -EINVAL;

    struct route_table *table;
    pthread_mutex_lock(&slot->control);
    int rc = table_build(slot, routes, count, encap, &table);
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
    facts->peers = slot->peer_count;
    facts->retired = 0;
    for (table = slot->retired; table; table = table->older)
        facts->retired++;
    pthread_mutex_unlock(&slot->control);
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
