/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "packet/checksum.h"
#include "harness.h"
#include "packet/icmp.h"

static const uint8_t TUN[4] = {10, 1, 0, 0};

TEST(an_error_quotes_only_what_the_offender_has)
{
    for (size_t payload = 0; payload < 12; payload++)
        for (unsigned words = 5; words <= 15; words++) {
            size_t length = words * 4 + payload;
            uint8_t *offender = malloc(length), out[ICMP_ERROR_MAX];
            struct packet packet;
            CHECK(offender != NULL);
            memset(offender, 1, length);
            offender[0] = (uint8_t)(0x40 | words);
            offender[2] = 0;
            offender[3] = (uint8_t)length;
            offender[IPV4_FRAGMENT] = offender[IPV4_FRAGMENT + 1] = 0;
            offender[IPV4_PROTOCOL] = 17;
            CHECK(packet_check(offender, length, PACKET_IPV4, &packet) == PACKET_OK);
            memset(out, 0xEE, sizeof(out)); /* what an earlier error left behind */
            size_t built = icmp_error_build(out, ICMP_ERROR_TIME_EXCEEDED, TUN, offender, &packet);
            CHECK(built == 28 + words * 4 + 8);
            CHECK(memcmp(out + 28, offender, length < words * 4 + 8 ? length : words * 4 + 8) == 0);
            for (size_t i = 28 + length; i < built; i++)
                CHECK(out[i] == 0);
            CHECK(checksum_fold(checksum_add(0, out, 20)) == 0xFFFF);
            CHECK(checksum_fold(checksum_add(0, out + 20, built - 20)) == 0xFFFF);
            free(offender);
        }
}

TEST(a_limit_out_of_range_is_refused)
{
    struct icmp_limiter limiter;
    CHECK(icmp_limiter_init(&limiter, 0, 1) == -EINVAL);
    CHECK(icmp_limiter_init(&limiter, 10001, 1) == -EINVAL);
    CHECK(icmp_limiter_init(&limiter, 1, 0) == -EINVAL);
    CHECK(icmp_limiter_init(&limiter, 1, 1001) == -EINVAL);
    CHECK(icmp_limiter_init(&limiter, 1, 1000) == 0);
}

TEST(the_limit_holds_across_the_wrap_of_its_clock)
{
    struct icmp_limiter limiter;
    const uint64_t wrap = (uint64_t)1 << (32 + 14), second = 1000000000, step = second / 5000;
    unsigned granted = 0;
    CHECK(icmp_limiter_init(&limiter, 1000, 50) == 0);
    for (uint64_t now = wrap - 20 * second; now < wrap + 20 * second; now += step)
        granted += (unsigned)icmp_limiter_take(&limiter, now);
    CHECK(granted >= 40 * 980 && granted <= 40 * 1000 + 50);
}

/* ---- one bucket, many workers -------------------------------------------------------------- */

enum { WORKERS = 4, TRIES = 20000 };

struct worker {
    struct icmp_limiter *limiter;
    pthread_barrier_t *start;
    unsigned granted;
};

static void *take_many(void *argument)
{
    struct worker *worker = argument;
    pthread_barrier_wait(worker->start);
    /* All clocks stand still: only the burst may pass, in any thread. */
    for (unsigned i = 0; i < TRIES; i++)
        worker->granted += (unsigned)icmp_limiter_take(worker->limiter, 5000000000U);
    return NULL;
}

TEST(workers_share_one_burst)
{
    struct icmp_limiter limiter;
    struct worker workers[WORKERS];
    pthread_t threads[WORKERS];
    pthread_barrier_t start;
    unsigned granted = 0;
    CHECK(icmp_limiter_init(&limiter, 1000, 777) == 0);
    CHECK(pthread_barrier_init(&start, NULL, WORKERS) == 0);
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){&limiter, &start, 0};
        CHECK(pthread_create(&threads[i], NULL, take_many, &workers[i]) == 0);
    }
    for (size_t i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        granted += workers[i].granted;
    }
    pthread_barrier_destroy(&start);
    CHECK(granted == 777);
}
