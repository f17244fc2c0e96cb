/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

static struct test *tests, **last = &tests;
static jmp_buf leave;
static _Thread_local bool can_leave; /* false in threads that a test started */

void test_register(struct test *test)
{
    *last = test;
    last = &test->next;
}

_Noreturn void test_failed(const char *file, int line, const char *what)
{
    fail_allocation(-1);
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    if (!can_leave)
        abort();
    longjmp(leave, 1);
}

int main(void)
{
    volatile unsigned passed = 0, failed = 0;
    can_leave = true;
    for (struct test *volatile test = tests; test; test = test->next) {
        if (setjmp(leave) == 0) {
            test->run();
            passed++;
        } else {
            fprintf(stderr, "FAILED %s\n", test->name);
            failed++;
        }
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}

/* ---- allocations that fail: linked with --wrap --------------------------------------------- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);

static _Thread_local long allocations_left = -1;

void fail_allocation(long nth)
{
    allocations_left = nth < 0 ? -1 : nth;
}

bool allocation_failed(void)
{
    return allocations_left == 0;
}

static bool refuse(void)
{
    if (allocations_left > 0)
        allocations_left--;
    return allocations_left == 0;
}

void *__wrap_malloc(size_t size)
{
    return refuse() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refuse() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size)
{
    return refuse() ? NULL : __real_realloc(block, size);
}

/* ---- reproducible input -------------------------------------------------------------------- */

static _Thread_local uint64_t state = 0x9E3779B97F4A7C15U;

uint32_t pseudo_random(void)
{
    /* xorshift64*, Marsaglia and Vigna. */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)(state * 0x2545F4914F6CDD1DU >> 32);
}

void pseudo_random_bytes(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(pseudo_random() >> 24);
}
