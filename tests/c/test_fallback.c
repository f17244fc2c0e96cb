/* SPDX-License-Identifier: Apache-2.0
 *
 * fallback: pauses, sizes, and how an offload comes back.
 */
#include "harness.h"
#include "offload/fallback.h"

#define S 1000000000ULL

static const uint64_t start = 1000 * S;

TEST(what_was_never_refused_is_in_use)
{
    struct fallback fallback = {0};
    CHECK(fallback_in_use(&fallback));
    CHECK(fallback_tries(&fallback, 0, 0));
    fallback_worked(&fallback, 0, start);
    CHECK(fallback_look(&fallback).count == 0);
}

TEST(pauses_double_up_to_two_minutes)
{
    struct fallback fallback = {0};
    uint64_t now = start;
    for (uint64_t pause = 1, round = 1; round < 12; round++) {
        fallback_refused(&fallback, FALLBACK_DEVICE, 0, now);
        CHECK(!fallback_in_use(&fallback));
        CHECK(!fallback_tries(&fallback, 0, now + pause * S - 1));
        CHECK(fallback_tries(&fallback, 0, now + pause * S));
        CHECK(fallback_look(&fallback).count == round);
        CHECK(fallback_look(&fallback).retry_at == now + pause * S);
        now += pause * S;
        pause = pause == 128 ? 128 : 2 * pause;
    }
}

TEST(further_refusals_within_a_pause_are_the_same_one)
{
    struct fallback fallback = {0};
    fallback_refused(&fallback, FALLBACK_DEVICE, 0, start);
    for (int i = 0; i < 50; i++)
        fallback_refused(&fallback, FALLBACK_DEVICE, 0, start + i);
    CHECK(fallback_look(&fallback).count == 1);
    CHECK(fallback_look(&fallback).retry_at == start + S);
}

TEST(one_that_works_again_is_in_use_at_once)
{
    struct fallback fallback = {0};
    fallback_refused(&fallback, FALLBACK_DEVICE, 0, start);
    fallback_worked(&fallback, 0, start + S - 1); /* sent before the refusal was known */
    CHECK(!fallback_in_use(&fallback));
    fallback_worked(&fallback, 0, start + S);
    CHECK(fallback_in_use(&fallback));
    CHECK(fallback_look(&fallback).count == 1);
}

TEST(one_that_comes_and_goes_waits_longer_each_time)
{
    struct fallback fallback = {0};
    uint64_t now = start;
    for (uint64_t pause = 1; pause <= 64; pause *= 2) {
        fallback_refused(&fallback, FALLBACK_MTU, 1472, now);
        CHECK(fallback_look(&fallback).pause_s == pause);
        now += pause * S;
        fallback_worked(&fallback, 1472, now);
        now += pause * S - 1;
    }
}

TEST(one_that_worked_as_long_as_it_was_away_starts_over)
{
    struct fallback fallback = {0};
    for (int i = 0; i < 3; i++)
        fallback_refused(&fallback, FALLBACK_MTU, 1472, start + (uint64_t)i * 10 * S);
    CHECK(fallback_look(&fallback).pause_s == 4);
    fallback_worked(&fallback, 1472, start + 30 * S);
    fallback_refused(&fallback, FALLBACK_MTU, 1472, start + 34 * S);
    CHECK(fallback_look(&fallback).pause_s == 1);
}

TEST(only_what_is_as_long_as_what_was_refused_falls_back)
{
    struct fallback fallback = {0};
    fallback_refused(&fallback, FALLBACK_MTU, 1472, start);
    CHECK(!fallback_tries(&fallback, 1472, start));
    CHECK(fallback_tries(&fallback, 1471, start));
    fallback_refused(&fallback, FALLBACK_MTU, 1000, start + 1); /* too long as well */
    CHECK(!fallback_tries(&fallback, 1000, start + 2));
    CHECK(fallback_look(&fallback).count == 1);
    fallback_worked(&fallback, 999, start + 2 * S); /* proves nothing */
    CHECK(!fallback_in_use(&fallback));
    fallback_worked(&fallback, 1000, start + 2 * S);
    CHECK(fallback_in_use(&fallback));
}
