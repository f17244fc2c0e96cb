/* SPDX-License-Identifier: Apache-2.0
 *
 * fallback: an offload that the kernel refused, and when it is tried again.
 *
 * Owns: the back-off, and what is known of it: cause, size, count. Must not know: which offload it
 * is, what a refusal looks like, where the time comes from (nanoseconds of the monotonic clock).
 *
 *     in use --refused--> falls back for 1 s --tried again--> in use
 *                            ^                      |
 *                            +--refused: 2 s, 4 s, ... 128 s
 *
 * A refusal soon after the offload came back doubles the pause, too; one after it has worked for as
 * long as the last pause begins with 1 s. So a cause that passes costs seconds, one that stays costs
 * a refused system call in two minutes, and one that comes and goes is in between.
 *
 * Any thread may call anything at any time: each field is a true value of some recent moment, and
 * the worst that a race costs is one refusal more or a pause of half the length.
 */
#ifndef UDPOVERLAY_FALLBACK_H
#define UDPOVERLAY_FALLBACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* X(name, help): why an offload was refused. */
#define FALLBACK_CAUSE_LIST(X)                                           \
    X(NONE, "")                                                          \
    X(MTU, "datagrams longer than the MTU of the device or of the path") \
    X(DEVICE, "the underlay's device or an IPsec policy cannot take it") \
    X(KERNEL, "the kernel does not take it")

enum fallback_cause {
#define X(name, help) FALLBACK_##name,
    FALLBACK_CAUSE_LIST(X)
#undef X
        FALLBACK_CAUSE_COUNT
};

extern const char *const fallback_cause_help[FALLBACK_CAUSE_COUNT];

enum {
    FALLBACK_FIRST_S = 1,
    FALLBACK_LONGEST_S = 128,
};

/* Starts as zeros: in use, never refused. */
struct fallback {
    _Atomic uint64_t retry_at;  /* when it is tried again; 0: in use */
    _Atomic uint64_t worked_at; /* when it came back */
    _Atomic uint32_t pause_s;   /* the last pause */
    _Atomic uint32_t size;  /* only what is at least so long was refused, bytes; 0: everything */
    _Atomic uint32_t cause; /* enum fallback_cause of the last refusal */
    _Atomic uint32_t count; /* how often it fell back */
};

/* A copy for those who look on. */
struct fallback_state {
    uint64_t retry_at;
    uint32_t pause_s, size, cause, count;
};

/* Whether the offload may be used now for something `size` bytes long. Ask fallback_in_use first:
 * it spares the clock. */
bool fallback_tries(const struct fallback *fallback, uint32_t size, uint64_t now);

static inline bool fallback_in_use(const struct fallback *fallback)
{
    return atomic_load_explicit(&fallback->retry_at, memory_order_relaxed) == 0;
}

/* It was refused for something of `size` bytes; 0 where the size does not matter. */
void fallback_refused(struct fallback *fallback, enum fallback_cause cause, uint32_t size,
                      uint64_t now);

/* It was taken for something of `size` bytes. */
void fallback_worked(struct fallback *fallback, uint32_t size, uint64_t now);

struct fallback_state fallback_look(const struct fallback *fallback);

#endif
