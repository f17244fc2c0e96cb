/* SPDX-License-Identifier: Apache-2.0
 *
 * path: what is tried past the MTU that the kernel believes in, and what a report does to it.
 */
#include "harness.h"
#include "routes/path.h"

#define S 1000000000ULL

enum { SIZE = 1472, MTU = 1300 };

static uint64_t now;

static uint64_t read_clock(void)
{
    return now;
}

static struct path_mode run_of(struct path *path, uint32_t size)
{
    return path_mode(path, size, true, true, read_clock);
}

static uint64_t no_clock(void)
{
    CHECK(!"the clock is read though nothing is the matter");
    return 0;
}

/* Falls back because of the MTU at `now`, and waits until it is tried again. */
static void fall_back(struct path *path)
{
    path_refused(path, FALLBACK_MTU, SIZE, now);
    CHECK(!run_of(path, SIZE).segmented);
    now = path_look(path).segment.retry_at;
}

/* Tries it, and waits as long as a report may take. */
static void try_once(struct path *path)
{
    struct path_mode mode = run_of(path, SIZE);
    CHECK(mode.segmented && mode.past_mtu);
    path_worked(path, SIZE, true, now);
    CHECK(!run_of(path, SIZE).segmented); /* one message is at risk, no more */
    CHECK(!path_mode(path, SIZE, false, true, read_clock).past_mtu);
}

TEST(path_that_nothing_is_the_matter_with_reads_no_clock)
{
    struct path path = {0};
    struct path_mode mode = path_mode(&path, SIZE, true, true, no_clock);
    CHECK(mode.segmented && !mode.past_mtu);
    mode = path_mode(&path, SIZE, false, true, no_clock);
    CHECK(!mode.segmented && !mode.past_mtu);
    path_reported(&path, MTU, 1); /* the kernel's own business */
    CHECK(path_is_plain(&path));
    CHECK(path_look(&path).segment.count == 0);
}

TEST(report_that_no_router_repeats_is_ignored_for_ten_minutes)
{
    struct path path = {0};
    now = 1000 * S;
    fall_back(&path);
    CHECK(now == 1001 * S);
    try_once(&path);
    now += PATH_SETTLE_S * S;
    CHECK(run_of(&path, SIZE).segmented);
    path_worked(&path, SIZE, true, now);
    for (int second = 0; second < PATH_IGNORE_S; second += 100) {
        struct path_mode mode = run_of(&path, SIZE);
        CHECK(mode.segmented && mode.past_mtu);
        CHECK(path_mode(&path, SIZE, false, true, read_clock).past_mtu);
        now += 100 * S;
    }
    CHECK(run_of(&path, SIZE).segmented && !run_of(&path, SIZE).past_mtu);
    CHECK(path_is_plain(&path));
}

TEST(report_that_a_router_repeats_counts_and_the_pauses_double)
{
    struct path path = {0};
    now = 1000 * S;
    fall_back(&path);
    for (uint64_t pause = 1; pause < 128; pause *= 2) {
        CHECK(path_look(&path).segment.pause_s == pause);
        try_once(&path);
        now += S / 100;
        path_reported(&path, MTU, now);
        CHECK(!run_of(&path, SIZE).segmented);
        now = path_look(&path).segment.retry_at;
    }
}

TEST(path_that_narrows_later_falls_back_at_the_first_report)
{
    struct path path = {0};
    now = 1000 * S;
    fall_back(&path);
    try_once(&path);
    now += PATH_SETTLE_S * S;
    path_worked(&path, SIZE, true, now);
    now += 100 * S;
    path_reported(&path, SIZE + PATH_OVERHEAD, now); /* wide enough */
    CHECK(run_of(&path, SIZE).past_mtu);
    path_reported(&path, SIZE + PATH_OVERHEAD - 1, now);
    CHECK(!run_of(&path, SIZE).segmented && !run_of(&path, SIZE).past_mtu);
    CHECK(path_look(&path).segment.pause_s == 1); /* it has worked for long */
    CHECK(path_look(&path).segment.count == 2);
}

TEST(narrow_device_ends_the_try)
{
    struct path path = {0};
    now = 1000 * S;
    fall_back(&path);
    try_once(&path);
    now += PATH_SETTLE_S * S;
    path_worked(&path, SIZE, true, now);
    path_too_narrow(&path);
    CHECK(run_of(&path, SIZE).segmented && !run_of(&path, SIZE).past_mtu);
    path_refused(&path, FALLBACK_MTU, SIZE, now);
    CHECK(!run_of(&path, SIZE).segmented);
}

TEST(without_reports_only_the_kernels_view_is_tried)
{
    struct path path = {0};
    now = 1000 * S;
    path_refused(&path, FALLBACK_MTU, SIZE, now);
    now += S;
    struct path_mode mode = path_mode(&path, SIZE, true, false, read_clock);
    CHECK(mode.segmented && !mode.past_mtu);
    path_worked(&path, SIZE, false, now);
    CHECK(path_is_plain(&path));
}

TEST(device_that_cannot_segment_is_no_matter_of_the_mtu)
{
    struct path path = {0};
    now = 1000 * S;
    path_refused(&path, FALLBACK_DEVICE, 0, now);
    now += S;
    struct path_mode mode = run_of(&path, SIZE);
    CHECK(mode.segmented && !mode.past_mtu);
    path_worked(&path, SIZE, true, now);
    CHECK(path_is_plain(&path));
}

TEST(what_fits_the_narrow_path_is_segmented_all_the_time)
{
    struct path path = {0};
    now = 1000 * S;
    path_refused(&path, FALLBACK_MTU, SIZE, now);
    CHECK(run_of(&path, SIZE - 1).segmented && !run_of(&path, SIZE - 1).past_mtu);
    now += S;
    CHECK(!run_of(&path, SIZE - 1).past_mtu);
    path_worked(&path, SIZE - 1, true, now); /* proves nothing */
    CHECK(!fallback_in_use(&path.segment));
}
