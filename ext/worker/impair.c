/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/impair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker/clock.h"
#include "worker/impair_queue.h"

_Static_assert(offsetof(struct impair_slot, bytes) == sizeof(struct impair_slot), "copied as one");

enum lane_state { LANE_EMPTY, LANE_OFFERED, LANE_TAKEN, LANE_DONE };

struct impair_lane {
    _Atomic unsigned state; /* enum lane_state */
    struct impair_rule *rule;
    struct impair_queue *queue;
    bool over;
    struct {
        _Atomic uint64_t packets, lost, corrupted, duplicated, reordered, overflowed, waiting;
    } counts;
};

struct impair {
    struct stats *stats;
    _Atomic unsigned offers; /* how often control has offered */
    /* The worker's own. */
    unsigned offers_seen;
    unsigned taken; /* lanes, a bit each */
    unsigned ready;
    uint64_t now_ns; /* of this batch */
    struct {
        struct impair_queue *queue;
        uint32_t slot;
    } sent[IMPAIR_SENT_MAX]; /* free again when the batch is out */
    unsigned sent_count;
    struct impair_lane lanes[IMPAIR_PLACES];
};

/* ---- memory: control ------------------------------------------------------------------------ */

struct impair *impair_create(struct stats *stats, struct impair_rule *rules)
{
    struct impair *impair = calloc(1, sizeof(*impair));

    if (impair == NULL)
        return NULL;
    impair->stats = stats;
    for (unsigned i = 0; i < IMPAIR_PLACES; i++)
        impair->lanes[i].rule = &rules[i];
    return impair;
}

static void empty(struct impair_lane *lane)
{
    impair_queue_destroy(lane->queue);
    lane->queue = NULL;
    atomic_store_explicit(&lane->state, LANE_EMPTY, memory_order_relaxed);
}

void impair_destroy(struct impair *impair)
{
    if (impair == NULL)
        return;
    for (unsigned i = 0; i < IMPAIR_PLACES; i++)
        if (impair->lanes[i].queue)
            empty(&impair->lanes[i]);
    free(impair);
}

int impair_offer(struct impair *impair, unsigned place, uint32_t datagram_max)
{
    struct impair_lane *lane = &impair->lanes[place];

    if (atomic_load_explicit(&lane->state, memory_order_acquire) != LANE_EMPTY)
        return -EBUSY;
    lane->queue = impair_queue_create(datagram_max);
    if (lane->queue == NULL)
        return -ENOMEM;
    lane->over = false;
    memset(&lane->counts, 0, sizeof(lane->counts));
    atomic_store_explicit(&lane->state, LANE_OFFERED, memory_order_release);
    atomic_fetch_add_explicit(&impair->offers, 1, memory_order_release);
    return 0;
}

bool impair_reclaim(struct impair *impair, unsigned place)
{
    struct impair_lane *lane = &impair->lanes[place];
    unsigned offered = LANE_OFFERED;

    if (atomic_load_explicit(&lane->state, memory_order_acquire) == LANE_DONE ||
        atomic_compare_exchange_strong_explicit(&lane->state, &offered, LANE_DONE,
                                                memory_order_acquire, memory_order_acquire))
        empty(lane);
    return atomic_load_explicit(&lane->state, memory_order_relaxed) == LANE_EMPTY;
}

static uint64_t read_count(const _Atomic uint64_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

struct impair_counts impair_counts(const struct impair *impair, unsigned place)
{
    const struct impair_lane *lane = &impair->lanes[place];

    return (struct impair_counts){
        .packets = read_count(&lane->counts.packets),
        .lost = read_count(&lane->counts.lost),
        .corrupted = read_count(&lane->counts.corrupted),
        .duplicated = read_count(&lane->counts.duplicated),
        .reordered = read_count(&lane->counts.reordered),
        .overflowed = read_count(&lane->counts.overflowed),
        .waiting = read_count(&lane->counts.waiting),
    };
}

/* ---- a batch: the worker -------------------------------------------------------------------- */

/* What the batch before sent is out. */
static void free_sent(struct impair *impair)
{
    while (impair->sent_count > 0) {
        impair->sent_count--;
        impair_queue_free(impair->sent[impair->sent_count].queue,
                          impair->sent[impair->sent_count].slot);
    }
}

static void take_offers(struct impair *impair)
{
    const unsigned offers = atomic_load_explicit(&impair->offers, memory_order_acquire);

    if (offers == impair->offers_seen)
        return;
    impair->offers_seen = offers;
    for (unsigned i = 0; i < IMPAIR_PLACES; i++) {
        unsigned offered = LANE_OFFERED;
        if (atomic_compare_exchange_strong_explicit(&impair->lanes[i].state, &offered, LANE_TAKEN,
                                                    memory_order_acquire, memory_order_relaxed))
            impair->taken |= 1U << i;
    }
}

bool impair_begin(struct impair *impair)
{
    take_offers(impair);
    if (impair->taken == 0)
        return false;
    free_sent(impair);
    impair->now_ns = clock_ns();
    impair->ready = 0;
    for (unsigned i = 0; i < IMPAIR_PLACES; i++) {
        struct impair_lane *lane = &impair->lanes[i];
        if (!(impair->taken & 1U << i))
            continue;
        lane->over =
            impair->now_ns >= atomic_load_explicit(&lane->rule->until_ns, memory_order_acquire);
        if (lane->over && lane->queue->count == 0) {
            impair->taken &= ~(1U << i);
            atomic_store_explicit(&lane->state, LANE_DONE, memory_order_release);
        }
    }
    return impair->taken != 0;
}

struct impair_lane *impair_lane(struct impair *impair, const struct endpoint *endpoint)
{
    struct address peer;

    if (endpoint->address.any.sa_family == AF_INET)
        address_from_ipv4(&peer, &endpoint->address.v4.sin_addr);
    else
        memcpy(peer.bytes, &endpoint->address.v6.sin6_addr, sizeof(peer.bytes));
    for (unsigned i = 0; i < IMPAIR_PLACES; i++) {
        struct impair_lane *lane = &impair->lanes[i];
        if (impair->taken & 1U << i && !lane->over &&
            memcmp(&lane->rule->settings.peer, &peer, sizeof(peer)) == 0)
            return lane;
    }
    return NULL;
}

uint8_t *impair_room(struct impair_lane *lane, size_t *room)
{
    *room = lane->queue->slot_bytes - sizeof(struct impair_slot);
    return impair_queue_next(lane->queue)->bytes;
}

/* Counted, and nothing is left of it. */
static void drop(struct impair *impair, const struct nexthop *hop, uint8_t *bytes, uint32_t length,
                 enum verdict verdict)
{
    const struct iovec all = {.iov_base = bytes, .iov_len = length};

    packet_event(impair->stats, (struct packet_event){.verdict = verdict,
                                                      .point = POINT_TUN_IN,
                                                      .peer = hop->slot,
                                                      .header = hop->header.length,
                                                      .count = 1,
                                                      .pieces = &all,
                                                      .run = 1});
}

/* Flips one bit behind the IP header: the packet still finds its way, to a wrong checksum. */
static void corrupt(const struct impair_rule *rule, uint64_t number, uint8_t *bytes, uint32_t from,
                    uint32_t length)
{
    if (from >= length)
        return;
    const uint64_t bit = impair_draw(rule, number, DRAW_BIT, (uint64_t)(length - from) * 8);
    bytes[from + bit / 8] ^= (uint8_t)(1U << bit % 8);
}

/* Without the limited rate's part. */
static uint64_t hold_back(struct impair_lane *lane, uint64_t number)
{
    const struct impair_settings *settings = &lane->rule->settings;
    uint64_t held = settings->delay_us;

    if (settings->jitter_us) {
        held -= settings->jitter_us;
        held += impair_draw(lane->rule, number, DRAW_JITTER, 2 * (uint64_t)settings->jitter_us + 1);
    }
    if (impair_happens(lane->rule, number, DRAW_REORDER, settings->reorder)) {
        counter_add(&lane->counts.reordered, 1);
        held += settings->behind_us;
    }
    return held * 1000;
}

/* Puts the datagram that is written in the next free slot into the queue; false: no room. */
static bool enqueue(struct impair *impair, struct impair_lane *lane, uint32_t bytes,
                    uint64_t held_ns)
{
    struct impair_queue *queue = lane->queue;
    uint64_t due = impair->now_ns;

    if (impair_queue_full(queue))
        return false;
    if (lane->rule->settings.rate) {
        due = impair_pass_rate(lane->rule, due, bytes);
        if (due == 0)
            return false;
    }
    due += held_ns;
    impair_queue_push(queue, due);
    counter_add(&lane->counts.waiting, 1);
    impair->ready += due <= impair->now_ns;
    return true;
}

void impair_add(struct impair *impair, struct impair_lane *lane, const struct nexthop *hop,
                uint32_t length, uint32_t ip_header)
{
    struct impair_rule *rule = lane->rule;
    struct impair_slot *slot = impair_queue_next(lane->queue);
    uint8_t *bytes = slot->bytes;
    const uint64_t number = atomic_fetch_add_explicit(&rule->packets, 1, memory_order_relaxed);
    const uint32_t inner = length - hop->header.length;

    counter_add(&lane->counts.packets, 1);
    if (impair_happens(rule, number, DRAW_LOSS, rule->settings.loss)) {
        counter_add(&lane->counts.lost, 1);
        drop(impair, hop, bytes, length, VERDICT_OUTBOUND_IMPAIRED);
        return;
    }
    if (impair_happens(rule, number, DRAW_CORRUPT, rule->settings.corrupt)) {
        counter_add(&lane->counts.corrupted, 1);
        corrupt(rule, number, bytes, hop->header.length + ip_header, length);
    }
    slot->endpoint = hop->endpoint;
    slot->length = length;
    slot->peer = hop->slot;
    slot->header = hop->header.length;
    const uint64_t held = hold_back(lane, number);
    if (!enqueue(impair, lane, inner, held)) {
        counter_add(&lane->counts.overflowed, 1);
        drop(impair, hop, bytes, length, VERDICT_OUTBOUND_IMPAIR_FULL);
        return;
    }
    if (!impair_happens(rule, number, DRAW_DUPLICATE, rule->settings.duplicate))
        return;
    memcpy(impair_queue_next(lane->queue), slot, sizeof(*slot) + length);
    if (enqueue(impair, lane, inner, held)) { /* else the copy was never there */
        counter_add(&lane->counts.duplicated, 1);
        stats_count(impair->stats, COUNTER_OUTBOUND_DUPLICATES, 1);
    }
}

unsigned impair_ready(const struct impair *impair)
{
    return impair->ready;
}

/* The lane whose first packet leaves before the other lanes'; NULL: no packet waits. */
static struct impair_lane *first(struct impair *impair, bool all)
{
    struct impair_lane *found = NULL;

    for (unsigned i = 0; i < IMPAIR_PLACES; i++) {
        struct impair_lane *lane = &impair->lanes[i];
        if (!(impair->taken & 1U << i) || lane->queue->count == 0)
            continue;
        if (lane->over || all)
            return lane;
        if (lane->queue->heap[0].due_ns <= impair->now_ns &&
            (found == NULL || impair_before(lane->queue->heap, found->queue->heap)))
            found = lane;
    }
    return found;
}

bool impair_take(struct impair *impair, bool all, struct impair_due *due)
{
    struct impair_lane *lane = impair->sent_count < IMPAIR_SENT_MAX ? first(impair, all) : NULL;

    if (lane == NULL)
        return false;
    const uint32_t number = impair_queue_pop(lane->queue);
    struct impair_slot *slot = impair_queue_slot(lane->queue, number);
    impair->sent[impair->sent_count].queue = lane->queue;
    impair->sent[impair->sent_count++].slot = number;
    atomic_store_explicit(&lane->counts.waiting, lane->queue->count, memory_order_relaxed);
    *due = (struct impair_due){
        .hop = {.endpoint = slot->endpoint, .slot = slot->peer, .header.length = slot->header},
        .datagram = slot->bytes,
        .length = slot->length,
    };
    return true;
}

int impair_sleep_ms(const struct impair *impair)
{
    uint64_t now, wait = IMPAIR_LOOK_MS * UINT64_C(1000000);

    if (impair->taken == 0)
        return -1;
    now = clock_ns();
    for (unsigned i = 0; i < IMPAIR_PLACES; i++) {
        const struct impair_lane *lane = &impair->lanes[i];
        if (!(impair->taken & 1U << i))
            continue;
        uint64_t next = atomic_load_explicit(&lane->rule->until_ns, memory_order_relaxed);
        if (lane->queue->count > 0 && lane->queue->heap[0].due_ns < next)
            next = lane->queue->heap[0].due_ns;
        next = next > now ? next - now : 0;
        wait = next < wait ? next : wait;
    }
    return (int)((wait + 999999) / 1000000);
}
