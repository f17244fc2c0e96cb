/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "harness.h"
#include "routes/routes.h"

enum { PEERS = 400, ALIASES = 120 };

static struct address mapped(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    const uint8_t bytes[4] = {a, b, c, d};
    struct address address;
    address_from_ipv4(&address, bytes);
    return address;
}

static struct peer_state peer_at(uint32_t id, uint8_t c, uint8_t d, uint16_t port)
{
    struct peer_state peer = {.id = id};
    const uint8_t bytes[4] = {192, 0, c, d};
    CHECK(endpoint_set(&peer.endpoint, bytes, sizeof(bytes), port) == 0);
    return peer;
}

static bool may(const struct senders *senders, struct address address,
                const struct peer_state *peer)
{
    const struct sender *sender = senders_lookup(senders, &address);
    return sender && sender_is(senders, sender, peer);
}

TEST(a_peer_sends_from_its_own_address_alone)
{
    struct peer_state one = peer_at(1, 2, 1, 8285), other = peer_at(2, 2, 2, 8285);
    struct peer_state *peers[] = {&one, &other};
    struct senders senders;
    CHECK(senders_build(&senders, peers, 2, NULL, 0) == 0);
    CHECK(may(&senders, mapped(192, 0, 2, 1), &one));
    CHECK(!may(&senders, mapped(192, 0, 2, 1), &other));
    CHECK(may(&senders, mapped(192, 0, 2, 2), &other));
    const struct address stranger = mapped(192, 0, 2, 3);
    CHECK(senders_lookup(&senders, &stranger) == NULL);
    senders_free(&senders);
    CHECK(senders_lookup(&senders, &stranger) == NULL);
}

TEST(an_empty_table_knows_nobody_and_takes_no_memory)
{
    struct senders senders;
    const struct sender_alias alias = {mapped(1, 2, 3, 4), mapped(192, 0, 2, 1)};
    CHECK(senders_build(&senders, NULL, 0, &alias, 1) == 0);
    CHECK(senders_lookup(&senders, &alias.address) == NULL);
    CHECK(senders_memory(&senders) == 0);
    senders_free(&senders);
}

TEST(an_ipv6_address_and_one_that_looks_like_it_are_two)
{
    struct peer_state six = {.id = 1}, four = peer_at(2, 2, 1, 8285);
    const uint8_t bytes[16] = {0x20, 0x01, [12] = 192, 0, 2, 1};
    struct peer_state *peers[] = {&six, &four};
    struct senders senders;
    struct address address;
    CHECK(endpoint_set(&six.endpoint, bytes, sizeof(bytes), 8285) == 0);
    CHECK(senders_build(&senders, peers, 2, NULL, 0) == 0);
    memcpy(address.bytes, bytes, sizeof(bytes));
    CHECK(may(&senders, address, &six) && !may(&senders, address, &four));
    CHECK(may(&senders, mapped(192, 0, 2, 1), &four));
    senders_free(&senders);
}

/* A slow and obvious twin: pairs of address and peer, looked through one by one. */
struct pair {
    struct address address;
    const struct peer_state *peer;
};

TEST(many_peers_and_aliases_agree_with_a_list_of_pairs)
{
    static struct peer_state states[PEERS];
    static struct peer_state *peers[2 * PEERS];
    static struct sender_alias aliases[ALIASES];
    static struct pair pairs[PEERS + ALIASES * PEERS];
    size_t count = 0;

    for (uint32_t i = 0; i < PEERS; i++) {
        /* Some addresses have two peers with different ports; ids in no order. */
        states[i] = peer_at((i * 7919) % 10007, (uint8_t)(i / 2 % 5), (uint8_t)(i / 10),
                            (uint16_t)(i % 2 + 1));
        peers[i] = &states[i];
        peers[PEERS + i] = &states[pseudo_random() % (i + 1)]; /* repeated */
        sender_address(&pairs[count].address, &states[i].endpoint);
        pairs[count++].peer = &states[i];
    }
    for (size_t i = 0; i < ALIASES; i++) {
        const uint32_t chance = pseudo_random();
        aliases[i].address = mapped(chance & 1 ? 192 : 100, 0, (uint8_t)(chance / 2 % 6),
                                    (uint8_t)(chance / 16 % 50));
        aliases[i].of = mapped(192, 0, (uint8_t)(chance / 1024 % 7), (uint8_t)(chance / 8192 % 50));
        for (size_t at = 0; at < PEERS; at++)
            if (memcmp(&pairs[at].address, &aliases[i].of, sizeof(aliases[i].of)) == 0)
                pairs[count++] = (struct pair){aliases[i].address, pairs[at].peer};
    }

    struct senders senders;
    CHECK(senders_build(&senders, peers, 2 * PEERS, aliases, ALIASES) == 0);
    CHECK(senders_memory(&senders) > 0);
    for (unsigned c = 0; c < 8; c++) {
        for (unsigned d = 0; d < 60; d++) {
            const struct address address = mapped(d % 3 ? 192 : 100, 0, (uint8_t)c, (uint8_t)d);
            bool known = false;
            for (size_t p = 0; p < PEERS; p++) {
                bool wanted = false;
                for (size_t at = 0; at < count && !wanted; at++)
                    wanted = pairs[at].peer == &states[p] &&
                             memcmp(&pairs[at].address, &address, sizeof(address)) == 0;
                known |= wanted;
                CHECK(may(&senders, address, &states[p]) == wanted);
            }
            CHECK((senders_lookup(&senders, &address) != NULL) == known);
        }
    }
    senders_free(&senders);
}

TEST(what_could_not_be_built_is_empty)
{
    struct peer_state states[20];
    struct peer_state *peers[20];
    struct sender_alias alias = {mapped(100, 0, 0, 1), mapped(192, 0, 2, 3)};
    struct senders senders;
    long refused = 0;
    for (uint32_t i = 0; i < 20; i++) {
        states[i] = peer_at(i, 2, (uint8_t)i, 8285);
        peers[i] = &states[i];
    }
    for (;; refused++) {
        fail_allocation(refused + 1);
        int rc = senders_build(&senders, peers, 20, &alias, 1);
        fail_allocation(-1);
        if (rc == 0)
            break;
        CHECK(rc == -ENOMEM && senders.count == 0 && senders_memory(&senders) == 0);
    }
    CHECK(refused >= 6); /* three arrays, twice */
    CHECK(may(&senders, alias.address, &states[3]));
    senders_free(&senders);
}

TEST(a_table_of_routes_brings_its_senders)
{
    struct route_slot slot;
    struct route route = {.address = {10, 5, 1}, .version = 4, .length = 24};
    const uint8_t peer[4] = {192, 0, 2, 1};
    const struct sender_alias alias = {mapped(100, 0, 0, 1), mapped(192, 0, 2, 1)};
    const uint8_t inside[4] = {10, 5, 1, 7};
    struct route_facts without, with;

    CHECK(endpoint_set(&route.endpoint, peer, sizeof(peer), 8285) == 0);
    CHECK(route_slot_init(&slot) == 0);
    CHECK(routes_publish(&slot, &route, 1, NULL, 0) == 0);
    routes_facts(&slot, &without);
    CHECK(routes_publish(&slot, &route, 1, &alias, 1) == 0);
    routes_facts(&slot, &with);
    CHECK(with.memory > without.memory && with.peers == 1);
    const struct route_table *table = routes_current(&slot);
    const struct peer_state *holder = routes_lookup(table, 4, inside)->peer;
    CHECK(may(routes_senders(table), alias.address, holder));
    CHECK(may(routes_senders(table), alias.of, holder));
    route_slot_destroy(&slot);
}
