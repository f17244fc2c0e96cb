/* SPDX-License-Identifier: Apache-2.0
 *
 * impair_rule: what is to happen to a peer's packets, and until when (impair.h).
 *
 * The pattern is a function of the seed and of a packet's number in its rule: the n-th packet uses
 * the numbers IMPAIR_DRAWS * n ... of the SplitMix64 sequence (Steele, Lea, Flood 2014), one for
 * each kind, so that a kind's pattern is the same with and without the others.
 *
 * Owns: settings and their limits, chance, the limited rate. Must not know: packets, workers.
 */
#ifndef UDPOVERLAY_IMPAIR_RULE_H
#define UDPOVERLAY_IMPAIR_RULE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "packet/address.h"

enum {
    IMPAIR_MILLION = 1000000,      /* chances are parts of it */
    IMPAIR_SECONDS_MAX = 3600,     /* of a rule */
    IMPAIR_DELAY_US_MAX = 5000000, /* of `delay_us`, `behind_us` */
    IMPAIR_RATE_MIN = 8000,        /* bits a second */
    IMPAIR_BACKLOG_MS = 200,       /* of a limited rate: what would wait longer is dropped */
};

/* Chances are parts of IMPAIR_MILLION; 0 anywhere: not at all. */
struct impair_settings {
    struct address peer;
    uint64_t seed;
    uint64_t rate; /* bits a second, of inner packets */
    uint32_t loss;
    uint32_t duplicate;
    uint32_t corrupt;
    uint32_t reorder;
    uint32_t behind_us; /* so long a reordered packet is held back: later ones overtake it */
    uint32_t delay_us;
    uint32_t jitter_us; /* up to so much more or less than `delay_us`, which is not smaller */
};

struct impair_rule {
    struct impair_settings settings; /* written while all lanes are EMPTY */
    _Atomic uint64_t until_ns;       /* on the monotonic clock */
    _Atomic uint64_t packets;        /* numbered so far */
    _Atomic uint64_t rate_free_ns;   /* when the limited rate has room again */
};

/* Control. -EINVAL: a value is out of range. The place's lanes must be EMPTY in all workers. */
int impair_rule_set(struct impair_rule *rule, const struct impair_settings *settings,
                    uint64_t until_ns, uint64_t now_ns);

/* Control: over, as soon as the workers look. */
static inline void impair_rule_end(struct impair_rule *rule)
{
    atomic_store_explicit(&rule->until_ns, 0, memory_order_release);
}

/* What is drawn for each packet. */
enum impair_draw {
    DRAW_LOSS,
    DRAW_CORRUPT,
    DRAW_BIT,
    DRAW_DUPLICATE,
    DRAW_REORDER,
    DRAW_JITTER,
    IMPAIR_DRAWS = 8
};

/* Evenly from 0 ... range - 1 for that packet; `range` up to 2^32. */
uint64_t impair_draw(const struct impair_rule *rule, uint64_t packet, enum impair_draw kind,
                     uint64_t range);

/* Whether what has that chance happens to the packet. */
static inline bool impair_happens(const struct impair_rule *rule, uint64_t packet,
                                  enum impair_draw kind, uint32_t chance)
{
    return impair_draw(rule, packet, kind, IMPAIR_MILLION) < chance;
}

/* When a packet of so many bytes has passed at the limited rate; 0: the backlog is too long. From
 * any worker. */
uint64_t impair_pass_rate(struct impair_rule *rule, uint64_t now_ns, uint32_t bytes);

#endif
