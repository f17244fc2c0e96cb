/* SPDX-License-Identifier: Apache-2.0
 *
 * trie: longest-prefix match from addresses of one length to small numbers.
 *
 * Owns: the structure and its bounds. Must not know: what the numbers mean.
 *
 * The bytes that all prefixes share are compared once and skipped. The next 16 bits index the root,
 * every further 8 bits one node. Shorter prefixes are pushed down into the entries below them, so a
 * lookup is one load per level and never goes back: its cost depends on how the prefixes differ,
 * not on how many there are. Where only one prefix lies below an entry, no nodes are spent on it:
 * it stands alone and is compared whole.
 *
 *     entry:  0 no prefix · a value · TRIE_NODE | number · TRIE_LONE | index
 *     entries[0..65535] the root, then the nodes; a node's number is its place in units of 256
 */
#ifndef UDPOVERLAY_TRIE_H
#define UDPOVERLAY_TRIE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    TRIE_FANOUT = 256, /* entries of a node */
    TRIE_ROOT = 65536, /* entries of the root */
};
#define TRIE_NODE       0x80000000U
#define TRIE_LONE       0x40000000U
#define TRIE_NUMBER_MAX (TRIE_LONE - 1)

/* Some bits of an address, as they lie in memory; IPv4 uses the first half of the first word. */
struct trie_bits {
    uint64_t bits[2], mask[2];
};

struct trie_lone {
    struct trie_bits prefix;
    uint32_t value;     /* of that prefix */
    uint32_t otherwise; /* of addresses that it does not hold: 0 or a value */
    unsigned length;    /* of the prefix */
};

struct trie {
    uint32_t *entries; /* NULL: empty */
    struct trie_lone *lones;
    size_t nodes, node_room; /* in units of 256 entries, the root among them */
    size_t lone_count, lone_room;
    size_t memory_max;       /* bytes that building may take */
    unsigned width;          /* bytes of an address: 4 or 16 */
    unsigned skip;           /* bytes shared by all prefixes, */
    struct trie_bits shared; /* and which */
};

struct trie_prefix {
    uint8_t address[16]; /* network order; bits beyond `length` are ignored */
    uint32_t value;      /* 1..TRIE_NUMBER_MAX */
    uint8_t length;      /* bits, at most 8 * width */
};

/* Builds from prefixes sorted by length, shortest first (of equal ones the last counts), in at most
 * `memory_max` bytes. 0, -ENOMEM or -E2BIG; on an error the trie is empty. */
int trie_build(struct trie *trie, unsigned width, const struct trie_prefix *prefixes, size_t count,
               size_t memory_max);

void trie_free(struct trie *trie);

/* Bytes in use. */
size_t trie_memory(const struct trie *trie);

static inline int trie_holds(const struct trie_bits *bits, unsigned width, const uint8_t *address)
{
    if (width == 4) {
        uint32_t word;
        memcpy(&word, address, 4);
        return ((word ^ (uint32_t)bits->bits[0]) & (uint32_t)bits->mask[0]) == 0;
    }
    uint64_t words[2];
    memcpy(words, address, 16);
    return (((words[0] ^ bits->bits[0]) & bits->mask[0]) |
            ((words[1] ^ bits->bits[1]) & bits->mask[1])) == 0;
}

/* The value of the longest prefix that holds `address`, 0 when there is none. */
static inline uint32_t trie_lookup(const struct trie *trie, const uint8_t *address)
{
    if (!trie->entries || !trie_holds(&trie->shared, trie->width, address))
        return 0;
    const uint8_t *at = address + trie->skip;
    uint32_t entry = trie->entries[(size_t)at[0] << 8 | at[1]];
    for (at += 2; entry & TRIE_NODE; at++)
        entry = trie->entries[(size_t)(entry & TRIE_NUMBER_MAX) * TRIE_FANOUT + *at];
    if (entry & TRIE_LONE) {
        const struct trie_lone *lone = &trie->lones[entry & TRIE_NUMBER_MAX];
        return trie_holds(&lone->prefix, trie->width, address) ? lone->value : lone->otherwise;
    }
    return entry;
}

#endif
