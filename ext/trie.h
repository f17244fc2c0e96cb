/* SPDX-License-Identifier: Apache-2.0
 *
 * trie: longest-prefix match from addresses of one length to small numbers.
 *
 * Owns: the structure and its bounds. Must not know: what the numbers mean.
 *
 * The bytes that all prefixes share are compared once and skipped. The next 16 bits index the root,
 * every further 8 bits one node. Shorter prefixes are pushed down into the entries below them, so a
 * lookup is one load per level and never goes back: its cost depends on how long the prefixes are,
 * not on how many there are.
 *
 *     entry:  0 no prefix · a value · TRIE_NODE | the node's number, counted in 256 entries
 *     entries[0..65535] the root (nodes 0..255), then the nodes
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
#define TRIE_NODE 0x80000000U
#define TRIE_VALUE_MAX (TRIE_NODE - 1)

struct trie {
    uint32_t *entries; /* NULL: empty */
    size_t nodes, room; /* in units of 256 entries, the root among them */
    uint8_t skip;       /* bytes shared by all prefixes */
    uint8_t width;      /* bytes of an address: 4 or 16 */
    uint64_t shared[2], mask[2]; /* the shared bytes as they lie in memory, and which they are */
};

struct trie_prefix {
    uint8_t address[16]; /* network order; bits beyond `length` are ignored */
    uint32_t value;      /* 1..TRIE_VALUE_MAX */
    uint8_t length;      /* bits, at most 8 * width */
};

/* Builds from prefixes sorted by length, shortest first (of equal ones the last counts), in at most
 * `memory_max` bytes. 0, -ENOMEM or -E2BIG; on an error the trie is empty. */
int trie_build(struct trie *trie, unsigned width, const struct trie_prefix *prefixes, size_t count,
               size_t memory_max);

void trie_free(struct trie *trie);

/* Bytes in use. */
size_t trie_memory(const struct trie *trie);

/* The value of the longest prefix that holds `address`, 0 when there is none. */
static inline uint32_t trie_lookup(const struct trie *trie, const uint8_t *address)
{
    if (!trie->entries)
        return 0;
    if (trie->width == 4) {
        uint32_t word;
        memcpy(&word, address, 4);
        if ((word ^ (uint32_t)trie->shared[0]) & (uint32_t)trie->mask[0])
            return 0;
    } else {
        uint64_t words[2];
        memcpy(words, address, 16);
        if (((words[0] ^ trie->shared[0]) & trie->mask[0]) |
            ((words[1] ^ trie->shared[1]) & trie->mask[1]))
            return 0;
    }
    address += trie->skip;
    uint32_t entry = trie->entries[(size_t)address[0] << 8 | address[1]];
    for (address += 2; entry & TRIE_NODE; address++)
        entry = trie->entries[(size_t)(entry & TRIE_VALUE_MAX) * TRIE_FANOUT + *address];
    return entry;
}

#endif
