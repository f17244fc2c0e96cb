/* SPDX-License-Identifier: Apache-2.0
 *
 * Impairments: the order of the queue, the numbers that are drawn, the hand-over of memory
 * between control and a worker that moves packets all the while. Under ThreadSanitizer, too.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "worker/clock.h"
#include "worker/impair.h"
#include "worker/impair_queue.h"

enum { PACKETS = 1000, CYCLES = 300, LENGTH = 100 };

static struct stats stats;
static struct impair_rule rules[IMPAIR_PLACES];
static struct nexthop hop;
static struct impair *impair;
static atomic_int done;

static const struct impair_settings everything = {
    .seed = 1,
    .loss = 100000,
    .duplicate = 100000,
    .corrupt = 100000,
    .reorder = 100000,
    .behind_us = 50,
    .delay_us = 100,
    .jitter_us = 100,
    .rate = 1000000000,
};

static void open_rig(void)
{
    const uint8_t address[4] = {192, 0, 2, 1};

    memset(&stats, 0, sizeof(stats));
    memset(rules, 0, sizeof(rules));
    stats.peers = calloc(PEER_SLOTS, sizeof(*stats.peers));
    CHECK(stats.peers != NULL);
    CHECK(endpoint_set(&hop.endpoint, address, sizeof(address), 8285) == 0);
    hop.slot = 1;
    impair = impair_create(&stats, rules);
    CHECK(impair != NULL);
}

static void close_rig(void)
{
    impair_destroy(impair);
    free(stats.peers);
}

static int set(unsigned place, const struct impair_settings *settings)
{
    struct impair_settings to = *settings;
    const uint64_t now = clock_ns();

    address_from_ipv4(&to.peer, &hop.endpoint.address.v4.sin_addr);
    return impair_rule_set(&rules[place], &to, now + UINT64_C(60000000000), now);
}

/* One turn of a worker with one packet; how many went out. */
static unsigned turn(void)
{
    struct impair_due due;
    unsigned sent = 0;

    if (!impair_begin(impair))
        return 0;
    struct impair_lane *lane = impair_lane(impair, &hop.endpoint);
    if (lane) {
        size_t room;
        uint8_t *bytes = impair_room(lane, &room);
        CHECK(room >= LENGTH);
        memset(bytes, 0xA5, LENGTH);
        impair_add(impair, lane, &hop, LENGTH, 20);
    }
    while (impair_take(impair, false, &due)) {
        CHECK(due.length == LENGTH && due.hop.slot == 1 && due.hop.peer == NULL);
        CHECK(due.datagram[0] == 0xA5);
        sent++;
    }
    return sent;
}

TEST(the_queue_gives_the_earliest_first_and_equal_ones_as_they_came)
{
    struct impair_queue *queue = impair_queue_create(LENGTH);
    CHECK(queue != NULL);
    for (uint32_t i = 0; i < PACKETS; i++) {
        impair_queue_next(queue)->length = i;
        impair_queue_push(queue, pseudo_random() % 20);
    }
    uint64_t due = 0, before = 0;
    for (uint32_t i = 0; i < PACKETS; i++) {
        const uint64_t next = queue->heap[0].due_ns;
        const uint32_t slot = impair_queue_pop(queue);
        const uint32_t number = impair_queue_slot(queue, slot)->length;
        CHECK(next >= due);
        CHECK(i == 0 || next > due || number > before);
        due = next;
        before = number;
        impair_queue_free(queue, slot);
    }
    CHECK(queue->count == 0);
    impair_queue_destroy(queue);
}

TEST(a_queue_of_long_datagrams_has_no_more_memory)
{
    struct impair_queue *queue = impair_queue_create(65507);
    CHECK(queue != NULL);
    CHECK(queue->mapped <= sizeof(*queue) + IMPAIR_MEMORY + 2 * 65600);
    uint32_t count = 0;
    for (; !impair_queue_full(queue); count++) {
        memset(impair_queue_next(queue)->bytes, 1, 65507);
        impair_queue_push(queue, 0);
    }
    CHECK(count > 200);
    memset(impair_queue_next(queue)->bytes, 1, 65507); /* there is always one to write to */
    impair_queue_destroy(queue);
}

/* The first numbers of the sequence that begins with 1234567, as published with its reference. */
TEST(numbers_are_those_of_splitmix64)
{
    static const uint64_t known[5] = {6457827717110365317U, 3203168211198807973U,
                                      9817491932198370423U, 4593380528125082431U,
                                      16408922859458223821U};
    struct impair_rule rule = {.settings.seed = 1234567};
    for (unsigned i = 0; i < 5; i++)
        CHECK(impair_draw(&rule, 0, (enum impair_draw)i, UINT64_C(1) << 32) == known[i] >> 32);
}

TEST(a_limited_rate_lets_packets_pass_one_after_the_other_and_no_backlog_grow)
{
    struct impair_rule rule = {.settings.rate = 8000000};
    const uint64_t now = 1000;
    for (uint64_t i = 1; i <= 201; i++)
        CHECK(impair_pass_rate(&rule, now, 1000) == now + i * 1000000);
    CHECK(impair_pass_rate(&rule, now, 1000) == 0);
    CHECK(impair_pass_rate(&rule, now + 2000000, 1000) == now + 202 * 1000000);
}

static void *work(void *argument)
{
    uint64_t *sent = argument;
    while (!atomic_load(&done))
        *sent += turn();
    return NULL;
}

TEST(control_hands_memory_over_and_takes_it_back_while_a_worker_moves_packets)
{
    pthread_t worker;
    uint64_t sent = 0;

    open_rig();
    atomic_store(&done, 0);
    CHECK(pthread_create(&worker, NULL, work, &sent) == 0);
    for (unsigned i = 0; i < CYCLES; i++) {
        const unsigned place = i % IMPAIR_PLACES;
        CHECK(set(place, &everything) == 0);
        CHECK(impair_offer(impair, place, LENGTH) == 0);
        if (i % 3 != 0) /* else often before the worker looks */
            while (impair_counts(impair, place).packets < 20)
                ;
        impair_rule_end(&rules[place]);
        while (!impair_reclaim(impair, place))
            ;
        CHECK(impair_counts(impair, place).waiting == 0);
    }
    atomic_store(&done, 1);
    CHECK(pthread_join(worker, NULL) == 0);
    CHECK(sent > 0);
    close_rig();
}

TEST(a_worker_that_ends_gives_all_of_it_back)
{
    struct impair_due due;
    struct impair_settings slow = everything;
    unsigned sent = 0;

    open_rig();
    slow.delay_us = slow.jitter_us = IMPAIR_DELAY_US_MAX;
    slow.loss = 0;
    CHECK(set(0, &slow) == 0);
    CHECK(impair_offer(impair, 0, LENGTH) == 0);
    for (unsigned i = 0; i < 100; i++)
        turn();
    CHECK(impair_begin(impair));
    while (impair_take(impair, true, &due))
        sent++;
    CHECK(sent == IMPAIR_SENT_MAX);
    CHECK(impair_counts(impair, 0).waiting > 0);
    close_rig(); /* what waits is freed with it */
}

TEST(a_lane_in_use_is_not_offered_again)
{
    open_rig();
    CHECK(set(0, &everything) == 0);
    CHECK(impair_offer(impair, 0, LENGTH) == 0);
    CHECK(impair_offer(impair, 0, LENGTH) == -EBUSY);
    turn();
    CHECK(impair_offer(impair, 0, LENGTH) == -EBUSY);
    CHECK(!impair_reclaim(impair, 0));
    close_rig();
}
