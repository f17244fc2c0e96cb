/* SPDX-License-Identifier: Apache-2.0
 *
 * probes: those that are out, and from where they were answered (packet/probe.h).
 *
 * Owns: the numbers that are awaited. The control side opens a place with a random
 * number, sends the probe itself, and reads the place until an answer is there or it gives up; a
 * worker only compares. Each place is written by one side at a time, so nothing here waits.
 */
#ifndef UDPOVERLAY_PROBES_H
#define UDPOVERLAY_PROBES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "packet/address.h"
#include "packet/icmp.h"

enum {
    PROBES_MAX = 16,
    /* Answers a second, and at once: who moves behind another address is probed by every host. */
    PROBE_RATE_DEFAULT = 100,
    PROBE_BURST_DEFAULT = 100,
};

struct probe_place {
    _Atomic uint64_t awaited;  /* 0: nothing */
    _Atomic uint64_t answered; /* what was awaited when it was answered */
    _Atomic uint64_t from[2];  /* and from which address that was */
};

struct probes {
    struct probe_place places[PROBES_MAX];
    struct icmp_limiter limiter; /* of our answers to the probes of others */
    /* An eventfd, written when something was refused or answered and `alarm` is set, which that
     * clears: at most one system call each time that the control side looks. */
    int alarm_fd;
    atomic_bool alarm;
};

/* `rate` and `burst` limit our answers, as icmp_limiter_init wants them. 0 or -errno. */
int probes_init(struct probes *probes, uint32_t rate, uint32_t burst);

/* No worker may be left. */
void probes_destroy(struct probes *probes);

/* Awaits `nonce` (not 0) at place `at`; what was awaited there before no longer is. */
void probes_open(struct probes *probes, unsigned at, uint64_t nonce);

/* Where the answer with `nonce` came from. False: not yet. */
bool probes_answer(struct probes *probes, unsigned at, uint64_t nonce, struct address *from);

void probes_close(struct probes *probes, unsigned at);

/* The control side wants to be woken once. */
void probes_arm(struct probes *probes);

/* ---- for workers */

/* An answer with `nonce` came from an address. False: it is not awaited. */
bool probes_match(struct probes *probes, uint64_t nonce, const struct address *from);

void probes_ring(struct probes *probes);

#endif
