/* SPDX-License-Identifier: Apache-2.0
 *
 * harness: a C test program is a number of TESTs, each a sentence of behaviour.
 *
 *     TEST(a_table_that_could_not_be_built_changes_nothing)
 *     {
 *         CHECK(publish(...) == -ENOMEM);
 *     }
 *
 * main (harness.c) runs them all and ends with "N passed, N failed"; a failed CHECK ends its test.
 */
#ifndef UDPOVERLAY_TESTS_HARNESS_H
#define UDPOVERLAY_TESTS_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};

void test_register(struct test *test);

/* Prints where and ends the test; in a thread that a test started, the program. */
_Noreturn void test_failed(const char *file, int line, const char *what);

#define TEST(title)                                                 \
    static void title(void);                                        \
    __attribute__((constructor)) static void register_##title(void) \
    {                                                               \
        static struct test test = {#title, title, NULL};            \
        test_register(&test);                                       \
    }                                                               \
    static void title(void)

#define CHECK(condition) ((condition) ? (void)0 : test_failed(__FILE__, __LINE__, #condition))

/* The `nth` allocation of this thread from now on (1: the next) and all after it fail; -1: none. */
void fail_allocation(long nth);

/* Whether one has failed since. */
bool allocation_failed(void);

/* The same sequence on every run and machine. */
uint32_t pseudo_random(void);
void pseudo_random_bytes(uint8_t *bytes, size_t length);

#endif
