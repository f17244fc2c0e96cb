/* SPDX-License-Identifier: Apache-2.0 */
#include "trie.h"

#include <errno.h>
#include <stdlib.h>

enum { NODE_BYTES = TRIE_FANOUT * sizeof(uint32_t), ROOT_NODES = TRIE_ROOT / TRIE_FANOUT };

static void find_shared(struct trie *trie, const struct trie_prefix *prefixes, size_t count)
{
    /* Two bytes must be left for the root; the first prefix is the shortest. */
    unsigned skip = trie->width - 2U;
    if (prefixes[0].length / 8U < skip)
        skip = prefixes[0].length / 8U;
    for (size_t i = 1; i < count && skip > 0; i++)
        while (skip > 0 && memcmp(prefixes[0].address, prefixes[i].address, skip) != 0)
            skip--;

    uint8_t bytes[16] = {0}, mask[16] = {0};
    memcpy(bytes, prefixes[0].address, skip);
    memset(mask, 0xFF, skip);
    if (trie->width == 4) {
        uint32_t word;
        memcpy(&word, bytes, 4);
        trie->shared[0] = word;
        memcpy(&word, mask, 4);
        trie->mask[0] = word;
    } else {
        memcpy(trie->shared, bytes, 16);
        memcpy(trie->mask, mask, 16);
    }
    trie->skip = (uint8_t)skip;
}

static int reserve(struct trie *trie, size_t memory_max)
{
    if (trie->nodes < trie->room)
        return 0;
    size_t most = memory_max / NODE_BYTES;
    if (trie->nodes >= most)
        return -E2BIG;
    size_t room = trie->room + trie->room / 2;
    if (room > most)
        room = most;
    uint32_t *entries = realloc(trie->entries, room * NODE_BYTES);
    if (!entries)
        return -ENOMEM;
    trie->entries = entries;
    trie->room = room;
    return 0;
}

static int insert(struct trie *trie, const struct trie_prefix *prefix, size_t memory_max)
{
    const uint8_t *address = prefix->address + trie->skip;
    unsigned bits = prefix->length - 8U * trie->skip, stride = 16;
    size_t base = 0;

    for (;;) {
        size_t index = stride == 16 ? (size_t)address[0] << 8 | address[1] : address[0];
        if (bits <= stride) {
            /* No node lies below these entries yet: those belong to longer prefixes. */
            size_t span = (size_t)1 << (stride - bits);
            uint32_t *entry = trie->entries + base + (index & ~(span - 1));
            for (size_t i = 0; i < span; i++)
                entry[i] = prefix->value;
            return 0;
        }
        uint32_t entry = trie->entries[base + index];
        if (!(entry & TRIE_NODE)) {
            int rc = reserve(trie, memory_max);
            if (rc < 0)
                return rc;
            uint32_t *node = trie->entries + trie->nodes * TRIE_FANOUT;
            for (size_t i = 0; i < TRIE_FANOUT; i++)
                node[i] = entry;
            entry = TRIE_NODE | (uint32_t)trie->nodes++;
            trie->entries[base + index] = entry;
        }
        base = (size_t)(entry & TRIE_VALUE_MAX) * TRIE_FANOUT;
        address += stride / 8;
        bits -= stride;
        stride = 8;
    }
}

int trie_build(struct trie *trie, unsigned width, const struct trie_prefix *prefixes, size_t count,
               size_t memory_max)
{
    int rc = -E2BIG;
    memset(trie, 0, sizeof(*trie));
    trie->width = (uint8_t)width;
    if (count == 0)
        return 0;
    find_shared(trie, prefixes, count);
    if (memory_max < ROOT_NODES * (size_t)NODE_BYTES)
        goto cleanup;
    rc = -ENOMEM;
    trie->entries = calloc(ROOT_NODES, NODE_BYTES);
    if (!trie->entries)
        goto cleanup;
    trie->nodes = trie->room = ROOT_NODES;
    for (size_t i = 0; i < count; i++) {
        rc = insert(trie, &prefixes[i], memory_max);
        if (rc < 0)
            goto cleanup;
    }
    /* Give back what growing left over; when that fails the larger block serves as well. */
    uint32_t *entries = realloc(trie->entries, trie->nodes * NODE_BYTES);
    if (entries) {
        trie->entries = entries;
        trie->room = trie->nodes;
    }
    return 0;
cleanup:
    trie_free(trie);
    return rc;
}

void trie_free(struct trie *trie)
{
    free(trie->entries);
    trie->entries = NULL;
    trie->nodes = trie->room = 0;
}

size_t trie_memory(const struct trie *trie)
{
    return trie->room * NODE_BYTES;
}
