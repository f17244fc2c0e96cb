/* SPDX-License-Identifier: Apache-2.0
 *
 * Readers look up while two control threads swap tables as fast as they can: no lookup may see a
 * torn or a freed table. Run under ThreadSanitizer and under AddressSanitizer.
 */
#include <pthread.h>
#include <string.h>

#include "harness.h"
#include "routes/routes.h"

enum { READERS = 3, PUBLISHERS = 2, SWAPS = 300, SUBNETS = 40 };

static struct route_slot slot;
static atomic_int publishing;

/* 10.x.0.0/16 for all x, all through the one peer and MTU of this generation. */
static void publish(uint8_t generation)
{
    struct route routes[SUBNETS];
    const uint8_t peer[4] = {192, 0, 2, generation};
    memset(routes, 0, sizeof(routes));
    for (uint8_t i = 0; i < SUBNETS; i++) {
        routes[i].address[0] = 10;
        routes[i].address[1] = i;
        routes[i].version = 4;
        routes[i].length = 16;
        routes[i].mtu = generation;
        CHECK(endpoint_set(&routes[i].endpoint, peer, sizeof(peer), 8285) == 0);
    }
    CHECK(routes_publish(&slot, routes, SUBNETS, NULL, 0) == 0);
}

static void *publisher(void *argument)
{
    unsigned which = *(unsigned *)argument;
    for (unsigned i = 0; i < SWAPS; i++) {
        publish((uint8_t)(1 + (2 * i + which) % 250));
        routes_collect(&slot);
    }
    atomic_fetch_sub(&publishing, 1);
    return NULL;
}

static void *reader(void *argument)
{
    unsigned long *lookups = argument;
    struct route_reader self;
    unsigned batch = 0;
    route_reader_add(&slot, &self);
    route_reader_online(&self);
    while (atomic_load(&publishing) > 0 || *lookups == 0) {
        route_reader_pass(&self);
        if (++batch % 64 == 0) { /* as a worker that finds nothing to do */
            route_reader_offline(&self);
            route_reader_online(&self);
        }
        const struct route_table *table = routes_current(&slot);
        uint32_t mtu = 0;
        for (uint8_t i = 0; i < SUBNETS; i++) {
            const uint8_t address[4] = {10, i, 1, 1};
            const struct nexthop *hop = routes_lookup(table, 4, address);
            CHECK(hop != NULL);
            if (mtu == 0)
                mtu = hop->mtu;
            CHECK(hop->mtu == mtu); /* one table, whole */
            CHECK((ntohl(hop->endpoint.address.v4.sin_addr.s_addr) & 0xFF) == mtu);
            CHECK(hop->peer->endpoint.length == hop->endpoint.length);
            fallback_refused(&hop->peer->path.segment, FALLBACK_MTU, 1000, *lookups + 1);
            (*lookups)++;
        }
    }
    route_reader_offline(&self);
    route_reader_remove(&self);
    return NULL;
}

TEST(lookups_see_whole_tables_while_others_swap_them)
{
    pthread_t readers[READERS], publishers[PUBLISHERS];
    unsigned long lookups[READERS] = {0};
    unsigned which[PUBLISHERS] = {0, 1};
    struct route_facts facts;
    CHECK(route_slot_init(&slot) == 0);
    publish(1);
    atomic_store(&publishing, PUBLISHERS);
    for (int i = 0; i < READERS; i++)
        CHECK(pthread_create(&readers[i], NULL, reader, &lookups[i]) == 0);
    for (int i = 0; i < PUBLISHERS; i++)
        CHECK(pthread_create(&publishers[i], NULL, publisher, &which[i]) == 0);
    for (int i = 0; i < PUBLISHERS; i++)
        pthread_join(publishers[i], NULL);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
        CHECK(lookups[i] > 0);
    }
    CHECK(routes_collect(&slot) == 0);
    routes_facts(&slot, &facts);
    CHECK(facts.generation == 1 + PUBLISHERS * SWAPS);
    CHECK(facts.peers == 1);
    route_slot_destroy(&slot);
}
