/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "routes/routes.h"

/* a.b.0.0/length through 192.0.2.peer */
static struct route route_to(uint8_t a, uint8_t b, uint8_t length, uint8_t peer)
{
    struct route route = {.address = {a, b}, .version = 4, .length = length, .mtu = 1472};
    const uint8_t address[4] = {192, 0, 2, peer};
    CHECK(endpoint_set(&route.endpoint, address, sizeof(address), 8285) == 0);
    return route;
}

static const struct nexthop *find(struct route_slot *slot, uint8_t a, uint8_t b)
{
    const uint8_t address[4] = {a, b, 0, 1};
    return routes_lookup(routes_current(slot), 4, address);
}

TEST(what_was_learned_about_a_peer_survives_swaps)
{
    struct route_slot slot;
    CHECK(route_slot_init(&slot) == 0);
    struct route routes[2] = {route_to(10, 1, 16, 1), route_to(10, 2, 16, 2)};
    CHECK(routes_publish(&slot, routes, 2, NULL, 0) == 0);
    struct peer_state *peer = find(&slot, 10, 1)->peer;
    uint32_t id = peer->id;
    fallback_refused(&peer->path.segment, FALLBACK_DEVICE, 0, 1);
    for (int i = 0; i < 100; i++) {
        routes[0].length = (uint8_t)(16 + i % 3);
        CHECK(routes_publish(&slot, routes, 2, NULL, 0) == 0);
        CHECK(find(&slot, 10, 1)->peer == peer);
    }
    CHECK(!fallback_in_use(&peer->path.segment));
    struct peer_fallback found;
    CHECK(routes_fallbacks(&slot, &found, 1) == 1);
    CHECK(found.endpoint.address.v4.sin_addr.s_addr == peer->endpoint.address.v4.sin_addr.s_addr);
    CHECK(found.path.segment.cause == FALLBACK_DEVICE && found.path.segment.count == 1);
    CHECK(routes_fallbacks(&slot, NULL, 0) == 1);
    CHECK(find(&slot, 10, 2)->peer->id != id);

    CHECK(routes_publish(&slot, routes + 1, 1, NULL, 0) == 0);
    CHECK(routes_publish(&slot, routes, 2, NULL, 0) == 0);
    CHECK(find(&slot, 10, 1)->peer->id != id);
    CHECK(fallback_in_use(&find(&slot, 10, 1)->peer->path.segment));
    CHECK(routes_fallbacks(&slot, NULL, 0) == 0);
    route_slot_destroy(&slot);
}

TEST(a_replaced_table_stays_until_every_reader_has_passed)
{
    struct route_slot slot;
    struct route_reader reader, sleeper;
    CHECK(route_slot_init(&slot) == 0);
    struct route route = route_to(10, 1, 16, 1);
    CHECK(routes_publish(&slot, &route, 1, NULL, 0) == 0);
    route_reader_add(&slot, &reader);
    route_reader_add(&slot, &sleeper);
    CHECK(routes_collect(&slot) == 0);

    route_reader_online(&reader);
    const struct nexthop *hop = find(&slot, 10, 1);
    CHECK(routes_publish(&slot, NULL, 0, NULL, 0) == 0);
    CHECK(routes_publish(&slot, &route, 1, NULL, 0) == 0);
    CHECK(routes_collect(&slot) == 2);
    CHECK(hop->mtu == 1472); /* the sanitizer tells when it is gone */

    route_reader_pass(&reader);
    CHECK(routes_collect(&slot) == 0);

    CHECK(routes_publish(&slot, NULL, 0, NULL, 0) == 0);
    CHECK(routes_collect(&slot) == 1);
    route_reader_offline(&reader);
    CHECK(routes_collect(&slot) == 0);

    route_reader_remove(&reader);
    route_reader_remove(&sleeper);
    route_slot_destroy(&slot);
}

TEST(a_reader_that_came_late_does_not_hold_what_was_replaced_before)
{
    struct route_slot slot;
    struct route_reader early, late;
    CHECK(route_slot_init(&slot) == 0);
    route_reader_add(&slot, &early);
    route_reader_add(&slot, &late);
    route_reader_online(&early);
    CHECK(routes_publish(&slot, NULL, 0, NULL, 0) == 0);
    route_reader_online(&late);
    CHECK(routes_collect(&slot) == 1);
    route_reader_offline(&early);
    CHECK(routes_collect(&slot) == 0);
    route_reader_offline(&late);
    route_reader_remove(&early);
    route_reader_remove(&late);
    route_slot_destroy(&slot);
}

TEST(epochs_may_wrap)
{
    struct route_slot slot;
    struct route_reader reader;
    CHECK(route_slot_init(&slot) == 0);
    atomic_store(&slot.epoch, (size_t)-5);
    route_reader_add(&slot, &reader);
    for (int i = 0; i < 10; i++) {
        route_reader_online(&reader);
        CHECK(atomic_load(&reader.epoch) != 0);
        CHECK(routes_publish(&slot, NULL, 0, NULL, 0) == 0);
        CHECK(routes_collect(&slot) == 1);
        route_reader_pass(&reader);
        CHECK(routes_collect(&slot) == 0);
    }
    route_reader_offline(&reader);
    route_reader_remove(&reader);
    route_slot_destroy(&slot);
}

/* A table with everything in it: both versions, nested prefixes, lone ones, many peers. */
static size_t varied_routes(struct route *routes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t address[16];
        pseudo_random_bytes(address, sizeof(address));
        routes[i] = route_to(0, 0, 0, (uint8_t)i);
        routes[i].version = i % 2 ? 4 : 6;
        routes[i].length = (uint8_t)(pseudo_random() % (i % 2 ? 33 : 129));
        address[0] &= 3;
        address[1] &= 3;
        memcpy(routes[i].address, address, sizeof(address));
    }
    return count;
}

TEST(a_table_that_could_not_be_built_changes_nothing)
{
    struct route_slot slot;
    struct route routes[300], kept = route_to(10, 1, 16, 1);
    struct route_facts before, after;
    CHECK(route_slot_init(&slot) == 0);
    CHECK(routes_publish(&slot, &kept, 1, NULL, 0) == 0);
    routes_facts(&slot, &before);
    size_t count = varied_routes(routes, 300);
    long refused = 0;
    for (;;) {
        fail_allocation(refused + 1);
        int rc = routes_publish(&slot, routes, count, NULL, 0);
        bool failed = allocation_failed();
        fail_allocation(-1);
        if (rc == 0)
            break; /* not even giving memory back has to succeed */
        CHECK(failed && rc == -ENOMEM);
        CHECK(find(&slot, 10, 1) != NULL);
        routes_facts(&slot, &after);
        CHECK(memcmp(&before, &after, sizeof(before)) == 0);
        refused++;
    }
    CHECK(refused > 20);
    routes_facts(&slot, &after);
    CHECK(after.routes == 300 && after.generation == before.generation + 1);
    route_slot_destroy(&slot);
}

TEST(a_slot_without_memory_is_not_begun)
{
    struct route_slot slot;
    for (long nth = 1; nth < 10; nth++) {
        fail_allocation(nth);
        int rc = route_slot_init(&slot);
        fail_allocation(-1);
        if (rc == 0) {
            route_slot_destroy(&slot);
            return;
        }
        CHECK(rc == -ENOMEM);
    }
    CHECK(!"an empty slot takes ten allocations");
}

TEST(a_route_that_cannot_be_is_refused)
{
    struct route_slot slot;
    CHECK(route_slot_init(&slot) == 0);
    struct route good = route_to(10, 1, 16, 1), bad;
    bad = good, bad.version = 5;
    CHECK(routes_publish(&slot, &bad, 1, NULL, 0) == -EINVAL);
    bad = good, bad.length = 33;
    CHECK(routes_publish(&slot, &bad, 1, NULL, 0) == -EINVAL);
    bad = good, bad.endpoint.length = 1;
    CHECK(routes_publish(&slot, &bad, 1, NULL, 0) == -EINVAL);
    bad = good, bad.endpoint.address.any.sa_family = AF_UNIX;
    CHECK(routes_publish(&slot, &bad, 1, NULL, 0) == -EINVAL);
    CHECK(routes_publish(&slot, &good, 1, NULL, 0) == 0);
    route_slot_destroy(&slot);
}

/* ---- against a scan of all routes ---------------------------------------------------------- */

static int holds(const struct route *route, const uint8_t *address)
{
    for (unsigned bit = 0; bit < route->length; bit++)
        if ((route->address[bit / 8] ^ address[bit / 8]) & 0x80 >> bit % 8)
            return 0;
    return 1;
}

static const struct route *slow_find(const struct route *routes, size_t count, unsigned version,
                                     const uint8_t *address)
{
    const struct route *best = NULL;
    for (size_t i = 0; i < count; i++)
        if (routes[i].version == version && holds(&routes[i], address) &&
            (!best || routes[i].length >= best->length))
            best = &routes[i];
    return best;
}

TEST(lookups_agree_with_a_scan)
{
    struct route_slot slot;
    struct route routes[300];
    CHECK(route_slot_init(&slot) == 0);
    for (int round = 0; round < 60; round++) {
        size_t count = varied_routes(routes, pseudo_random() % 300);
        for (size_t i = 0; i < count; i++) {
            routes[i].mtu = (uint32_t)i; /* tells the routes apart */
            /* The default routes stand in the way of skipping: only in some rounds. */
            if (round % 3 && routes[i].length < 9)
                routes[i].length = (uint8_t)(routes[i].length + 9);
            if (round % 3 == 2)
                routes[i].address[0] = routes[i].address[1] = 0;
        }
        CHECK(routes_publish(&slot, routes, count, NULL, 0) == 0);
        for (int i = 0; i < 2000; i++) {
            uint8_t address[16];
            unsigned version = pseudo_random() % 2 ? 4 : 6;
            pseudo_random_bytes(address, sizeof(address));
            address[0] &= 3;
            address[1] &= 3;
            if (count && pseudo_random() % 2) {
                const struct route *near = &routes[pseudo_random() % count];
                memcpy(address, near->address, pseudo_random() % 17);
            }
            const struct route *slow = slow_find(routes, count, version, address);
            const struct nexthop *fast = routes_lookup(routes_current(&slot), version, address);
            CHECK((slow == NULL) == (fast == NULL));
            CHECK(slow == NULL || slow->mtu == fast->mtu);
        }
    }
    route_slot_destroy(&slot);
}

TEST(a_next_hop_has_the_header_of_its_route)
{
    struct route_slot slot;
    CHECK(route_slot_init(&slot) == 0);
    struct route routes[3] = {route_to(10, 1, 24, 1), route_to(10, 2, 24, 1),
                              route_to(10, 3, 24, 1)};
    routes[1].endpoint = routes[2].endpoint = routes[0].endpoint;
    for (unsigned i = 0; i < 3; i++) {
        routes[i].header.length = (uint8_t)(i < 2 ? 22 : 8);
        memset(routes[i].header.bytes, i < 1 ? 0xA0 : 0xB0, 22);
    }
    CHECK(routes_publish(&slot, routes, 3, NULL, 0) == 0);
    for (unsigned i = 0; i < 3; i++) {
        const struct nexthop *hop = find(&slot, 10, (uint8_t)(1 + i));
        CHECK(hop->header.length == routes[i].header.length);
        CHECK(memcmp(hop->header.bytes, routes[i].header.bytes, hop->header.length) == 0);
    }
    routes[0].header.length = ENCAP_HEADER_MAX + 1;
    CHECK(routes_publish(&slot, routes, 1, NULL, 0) == -EINVAL);
    route_slot_destroy(&slot);
}
