/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "harness.h"
#include "routes/routes.h"

static int publish(struct route_slot *slot, uint32_t number)
{
    struct route route = {.address = {10, 5, 1}, .version = 4, .length = 24};
    const uint8_t peer[4] = {127, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number};
    CHECK(endpoint_set(&route.endpoint, peer, sizeof(peer), 8285) == 0);
    return routes_publish(slot, &route, 1, NULL, 0);
}

static uint16_t slot_of_the_peer(struct route_slot *slot)
{
    const uint8_t inside[4] = {10, 5, 1, 7};
    struct nexthop hop;
    CHECK(routes_find(slot, 4, inside, &hop) == 1);
    return hop.slot;
}

static uint64_t sent(struct route_slot *slot)
{
    struct peer_traffic found;
    CHECK(routes_traffic(slot, &found, 1) == 1);
    return found.sum.verdicts[VERDICT_OUTBOUND_SENT];
}

TEST(slots_run_out_one_by_one_and_rest_before_they_come_again)
{
    struct peer_slots *slots = calloc(1, sizeof(*slots));
    int again;

    for (unsigned i = 1; i < PEER_SLOTS; i++)
        CHECK(peer_slots_take(slots, &again) == i && !again);
    CHECK(peer_slots_take(slots, &again) == PEER_UNKNOWN);
    peer_slots_free(slots, PEER_UNKNOWN);
    CHECK(peer_slots_take(slots, &again) == PEER_UNKNOWN);
    for (uint16_t i = PEER_SLOTS - 1; i > 0; i--)
        peer_slots_free(slots, i);
    for (unsigned i = PEER_SLOTS - 1; i > 0; i--)
        CHECK(peer_slots_take(slots, &again) == i && again);
    CHECK(peer_slots_take(slots, &again) == PEER_UNKNOWN);
    free(slots);
}

TEST(a_slot_given_up_is_not_the_next_one_taken)
{
    struct peer_slots *slots = calloc(1, sizeof(*slots));
    int again;

    for (unsigned i = 1; i <= PEER_SLOTS_RESTING + 1; i++) {
        CHECK(peer_slots_take(slots, &again) == i && !again);
        peer_slots_free(slots, (uint16_t)i);
    }
    CHECK(peer_slots_take(slots, &again) == 1 && again); /* the one that rested longest */
    free(slots);
}

TEST(a_sum_is_what_all_workers_counted_since_the_peer_came)
{
    struct route_slot slot;
    struct peer_counts *one = calloc(PEER_SLOTS, sizeof(*one)),
                       *two = calloc(PEER_SLOTS, sizeof(*two));
    struct peer_rows rows[2] = {{.rows = one}, {.rows = two}};

    CHECK(route_slot_init(&slot) == 0);
    routes_rows_add(&slot, &rows[0]);
    routes_rows_add(&slot, &rows[1]);
    uint32_t number = 0;
    do { /* until a slot comes again */
        CHECK(publish(&slot, ++number) == 0);
        one[slot_of_the_peer(&slot)].verdicts[VERDICT_OUTBOUND_SENT] += 3;
        two[slot_of_the_peer(&slot)].verdicts[VERDICT_OUTBOUND_SENT] += 4;
        two[slot_of_the_peer(&slot)].heard_ns = number;
        CHECK(sent(&slot) == 7);
        CHECK(routes_heard(&slot, number) == 1 && routes_heard(&slot, number + 1) == 0);
    } while (number < PEER_SLOTS_RESTING + 3);
    CHECK(publish(&slot, 0) == 0);
    CHECK(one[slot_of_the_peer(&slot)].verdicts[VERDICT_OUTBOUND_SENT] == 3); /* another peer's */
    CHECK(sent(&slot) == 0 && routes_heard(&slot, 1) == 0);
    one[slot_of_the_peer(&slot)].verdicts[VERDICT_OUTBOUND_SENT] += 5;
    CHECK(sent(&slot) == 5);
    routes_rows_remove(&slot, &rows[1]);
    routes_rows_remove(&slot, &rows[0]);
    CHECK(sent(&slot) == 0);
    route_slot_destroy(&slot);
    free(one);
    free(two);
}

TEST(without_memory_no_slot_is_lost)
{
    struct route_slot slot;
    struct peer_counts *rows_of = calloc(PEER_SLOTS, sizeof(*rows_of));
    struct peer_rows rows = {.rows = rows_of};
    const struct route_table *table;
    long fail = 1;

    CHECK(route_slot_init(&slot) == 0);
    routes_rows_add(&slot, &rows);
    for (uint32_t number = 1; number < PEER_SLOTS_RESTING + 3; number++)
        CHECK(publish(&slot, number) == 0);
    const unsigned waiting = slot.peers.slots.waiting;
    table = routes_current(&slot);
    for (int rc = -ENOMEM; rc != 0; fail++) {
        fail_allocation(fail);
        rc = publish(&slot, 0xC80000U);
        fail_allocation(-1);
        CHECK(rc == 0 || rc == -ENOMEM);
        CHECK((rc == 0) == (routes_current(&slot) != table));
        CHECK(rc == 0 || slot.peers.slots.waiting == waiting);
    }
    CHECK(fail > 4); /* among them what stood in the slot's rows */
    CHECK(slot_of_the_peer(&slot) != PEER_UNKNOWN);
    route_slot_destroy(&slot);
    free(rows_of);
}
