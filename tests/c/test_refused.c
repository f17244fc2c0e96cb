/* SPDX-License-Identifier: Apache-2.0
 *
 * The tables that one worker writes while others read: who was refused, and probes. Run under
 * ThreadSanitizer, too.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "worker/probes.h"
#include "worker/refused.h"

enum { WRITES = 200000, PROBES = 20000, FEW = 40 };

static struct refused_table table;
static struct probes probes;
static atomic_int done;

static struct refused sender(uint32_t number)
{
    struct refused refused = {.verdict = number, .seen_ns = number};
    const uint8_t bytes[4] = {10, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number};
    address_from_ipv4(&refused.address, bytes);
    memcpy(refused.inner_source, bytes, sizeof(bytes));
    memcpy(refused.inner_destination, bytes, sizeof(bytes));
    return refused;
}

static uint64_t total(void)
{
    uint64_t sum = 0;
    struct refused found;
    for (unsigned at = 0; at < REFUSED_MAX; at++)
        if (refused_read(&table, at, &found))
            sum += found.datagrams;
    return sum;
}

TEST(few_senders_are_all_counted_exactly)
{
    memset(&table, 0, sizeof(table));
    for (uint32_t round = 0; round < 100; round++)
        for (uint32_t number = 0; number < FEW; number++) {
            struct refused refused = sender(number);
            refused.seen_ns = round;
            refused_add(&table, &refused, 1 + number % 3);
        }
    struct refused found;
    unsigned seen = 0;
    for (unsigned at = 0; at < REFUSED_MAX; at++)
        if (refused_read(&table, at, &found)) {
            CHECK(found.datagrams == 100 * (1 + found.verdict % 3));
            CHECK(found.seen_ns == 99);
            CHECK(found.address.bytes[15] == found.inner_source[3]);
            seen++;
        }
    /* 40 in 64 sets of four: more than four in one set would be very odd. */
    CHECK(seen == FEW);
}

TEST(a_newcomer_takes_a_free_place_before_it_takes_anybodys)
{
    memset(&table, 0, sizeof(table));
    for (uint32_t number = 0; number < 30; number++) {
        struct refused refused = sender(number);
        refused_add(&table, &refused, 1);
    }
    CHECK(total() == 30);
}

TEST(steady_senders_outlast_a_flood)
{
    memset(&table, 0, sizeof(table));
    for (uint32_t number = 0; number < 500000; number++) {
        struct refused flood = sender(1000 + number);
        refused_add(&table, &flood, 1);
        if (number % 50 == 0) {
            struct refused steady = sender(7);
            refused_add(&table, &steady, 1);
        }
    }
    struct refused found;
    uint64_t datagrams = 0;
    for (unsigned at = 0; at < REFUSED_MAX; at++)
        if (refused_read(&table, at, &found) && found.inner_source[3] == 7 &&
            found.inner_source[2] == 0 && found.inner_source[1] == 0)
            datagrams = found.datagrams;
    CHECK(datagrams == 10000);
}

static void *reads(void *unused)
{
    struct refused found;
    (void)unused;
    while (!atomic_load(&done))
        for (unsigned at = 0; at < REFUSED_MAX; at++)
            if (refused_read(&table, at, &found)) { /* a whole one, of one moment */
                CHECK(memcmp(found.inner_source, found.inner_destination, 4) == 0);
                CHECK(memcmp(found.inner_source, found.address.bytes + 12, 4) == 0);
                CHECK(found.verdict == found.seen_ns);
            }
    return NULL;
}

TEST(a_reader_sees_whole_entries)
{
    pthread_t thread;
    memset(&table, 0, sizeof(table));
    atomic_store(&done, 0);
    CHECK(pthread_create(&thread, NULL, reads, NULL) == 0);
    for (uint32_t i = 0; i < WRITES; i++) {
        struct refused refused = sender(pseudo_random() % 3000);
        refused_add(&table, &refused, 1);
    }
    atomic_store(&done, 1);
    pthread_join(thread, NULL);
}

/* ---- probes */

static _Atomic uint64_t wanted; /* the nonce that is out, 0: none */

static struct address from_nonce(uint64_t nonce)
{
    struct address address = {{0}};
    memcpy(address.bytes, &nonce, sizeof(nonce));
    memcpy(address.bytes + 8, &nonce, sizeof(nonce));
    return address;
}

static void *answers(void *unused)
{
    (void)unused;
    while (!atomic_load(&done)) {
        const uint64_t nonce = atomic_load(&wanted);
        const struct address from = from_nonce(nonce), forged = from_nonce(~nonce);
        probes_match(&probes, nonce ^ 1, &forged);
        if (probes_match(&probes, nonce, &from)) {
            CHECK(!probes_match(&probes, nonce, &forged));
            probes_ring(&probes);
        }
    }
    return NULL;
}

TEST(an_answer_is_its_own_probes_and_whole)
{
    pthread_t thread;
    CHECK(probes_init(&probes, 100, 100) == 0);
    atomic_store(&done, 0);
    CHECK(pthread_create(&thread, NULL, answers, NULL) == 0);
    for (uint64_t nonce = 2; nonce < 2 * PROBES; nonce += 2) {
        const unsigned at = (unsigned)(nonce / 2 % PROBES_MAX);
        struct address from, expected = from_nonce(nonce);
        uint64_t rang;
        probes_open(&probes, at, nonce);
        probes_arm(&probes);
        atomic_store(&wanted, nonce);
        while (!probes_answer(&probes, at, nonce, &from))
            sched_yield();
        CHECK(memcmp(&from, &expected, sizeof(from)) == 0);
        CHECK(!probes_answer(&probes, at, nonce + 1, &from));
        while (read(probes.alarm_fd, &rang, sizeof(rang)) != sizeof(rang))
            sched_yield();
        CHECK(rang == 1);
    }
    atomic_store(&done, 1);
    pthread_join(thread, NULL);
    probes_destroy(&probes);
}

TEST(nothing_is_awaited_at_first_and_after_close)
{
    const struct address from = from_nonce(5);
    CHECK(probes_init(&probes, 100, 100) == 0);
    CHECK(!probes_match(&probes, 0, &from));
    CHECK(!probes_match(&probes, 5, &from));
    probes_open(&probes, PROBES_MAX - 1, 5);
    probes_close(&probes, PROBES_MAX - 1);
    CHECK(!probes_match(&probes, 5, &from));
    CHECK(!probes_answer(&probes, PROBES_MAX - 1, 5, &(struct address){{0}}));
    probes_destroy(&probes);
}
