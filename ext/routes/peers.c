/* SPDX-License-Identifier: Apache-2.0 */
#include "routes/peers.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

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

int endpoint_valid(const struct endpoint *endpoint)
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

static int grow(struct peers *peers)
{
    size_t room = peers->room ? peers->room * 2 : 64;
    struct peer_state **grown = calloc(room, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    for (size_t i = 0; i < peers->room; i++) {
        struct peer_state *peer = peers->buckets[i], *next;
        for (; peer; peer = next) {
            struct endpoint_key key = key_of(&peer->endpoint);
            struct peer_state **bucket = &grown[key_hash(&key) & (room - 1)];
            next = peer->next;
            peer->next = *bucket;
            *bucket = peer;
        }
    }
    free(peers->buckets);
    peers->buckets = grown;
    peers->room = room;
    return 0;
}

struct peer_state *peers_known(const struct peers *peers, const struct endpoint *endpoint)
{
    if (peers->room == 0)
        return NULL;
    struct endpoint_key key = key_of(endpoint);
    struct peer_state *peer = peers->buckets[key_hash(&key) & (peers->room - 1)];
    for (; peer; peer = peer->next) {
        struct endpoint_key other = key_of(&peer->endpoint);
        if (memcmp(&key, &other, sizeof(key)) == 0)
            return peer;
    }
    return NULL;
}

/* ---- counts ---------------------------------------------------------------------------------- */

static struct peer_sum sum_of(const struct peers *peers, uint16_t slot)
{
    struct peer_sum sum = {{0}, {0}, 0};

    for (const struct peer_rows *rows = peers->rows; rows; rows = rows->next)
        peer_sum_add(&sum, &rows->rows[slot]);
    return sum;
}

/* Without memory for what stood in the rows the peer goes uncounted. */
static void give_slot(struct peers *peers, struct peer_state *peer)
{
    int again;

    peer->slot = peer_slots_take(&peers->slots, &again);
    if (!again)
        return;
    peer->before = malloc(sizeof(*peer->before));
    if (peer->before) {
        *peer->before = sum_of(peers, peer->slot);
        return;
    }
    peer_slots_free(&peers->slots, peer->slot);
    peer->slot = PEER_UNKNOWN;
}

struct peer_sum peers_sum(const struct peers *peers, const struct peer_state *peer)
{
    struct peer_sum sum = {{0}, {0}, 0};

    if (peer->slot == PEER_UNKNOWN || !peers->rows)
        return sum;
    sum = sum_of(peers, peer->slot);
    if (peer->before)
        peer_sum_subtract(&sum, peer->before);
    return sum;
}

uint64_t peers_heard(const struct peers *peers, const struct peer_state *peer)
{
    uint64_t last = peer->before ? peer->before->heard_ns : 0;
    bool heard = false;

    for (const struct peer_rows *rows = peers->rows; rows; rows = rows->next) {
        const uint64_t at =
            atomic_load_explicit(&rows->rows[peer->slot].heard_ns, memory_order_relaxed);
        if (at > last) {
            last = at;
            heard = true;
        }
    }
    return heard && peer->slot != PEER_UNKNOWN ? last : 0;
}

void peers_rows_add(struct peers *peers, struct peer_rows *rows)
{
    rows->next = peers->rows;
    peers->rows = rows;
}

void peers_rows_remove(struct peers *peers, struct peer_rows *rows)
{
    struct peer_rows **link = &peers->rows;

    while (*link != rows)
        link = &(*link)->next;
    *link = rows->next;
}

/* ---- peers ----------------------------------------------------------------------------------- */

struct peer_state *peers_find(struct peers *peers, const struct endpoint *endpoint)
{
    struct peer_state *peer = peers_known(peers, endpoint);
    if (peer)
        return peer;
    if (peers->count >= peers->room && grow(peers) < 0)
        return NULL;
    peer = calloc(1, sizeof(*peer));
    if (!peer)
        return NULL;
    struct endpoint_key key = key_of(endpoint);
    struct peer_state **bucket = &peers->buckets[key_hash(&key) & (peers->room - 1)];
    peer->id = peers->next_id++;
    peer->endpoint = *endpoint;
    peer->next = *bucket;
    *bucket = peer;
    peers->count++;
    give_slot(peers, peer);
    if (peer->slot != PEER_UNKNOWN && key.family == AF_INET) {
        uint32_t address;
        memcpy(&address, key.address, sizeof(address));
        atomic_store_explicit(&peers->addresses[peer->slot], address, memory_order_relaxed);
    }
    return peer;
}

void peers_release(struct peers *peers, struct peer_state *peer)
{
    if (--peer->users > 0)
        return;
    struct endpoint_key key = key_of(&peer->endpoint);
    struct peer_state **link = &peers->buckets[key_hash(&key) & (peers->room - 1)];
    while (*link != peer)
        link = &(*link)->next;
    *link = peer->next;
    peers->count--;
    peer_slots_free(&peers->slots, peer->slot);
    free(peer->before);
    free(peer);
}

void peers_free(struct peers *peers)
{
    free(peers->buckets);
    peers->buckets = NULL;
    peers->room = peers->count = 0;
}
