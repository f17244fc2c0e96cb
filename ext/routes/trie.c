/* SPDX-License-Identifier: Apache-2.0 */
#include "routes/trie.h"

#include <errno.h>
#include <stdlib.h>

enum { NODE_BYTES = TRIE_FANOUT * sizeof(uint32_t), ROOT_NODES = TRIE_ROOT / TRIE_FANOUT };

/* The first `length` bits of `address`, ready to be compared. */
static struct trie_bits bits_of(const uint8_t *address, unsigned width, unsigned length)
{
    uint8_t bytes[16] = {0}, mask[16] = {0};
    memset(mask, 0xFF, length / 8);
    if (length % 8)
        mask[length / 8] = (uint8_t)(0xFF00U >> length % 8);
    for (unsigned i = 0; i < width; i++)
        bytes[i] = address[i] & mask[i];

    struct trie_bits bits = {{0, 0}, {0, 0}};
    if (width == 4) {
        uint32_t word;
        memcpy(&word, bytes, 4);
        bits.bits[0] = word;
        memcpy(&word, mask, 4);
        bits.mask[0] = word;
    } else {
        memcpy(bits.bits, bytes, 16);
        memcpy(bits.mask, mask, 16);
    }
    return bits;
}

/* Byte `at` of a lone prefix: the inverse of bits_of. */
static uint8_t byte_of(const struct trie_lone *lone, unsigned width, unsigned at)
{
    uint8_t bytes[16];
    if (width == 4) {
        uint32_t word = (uint32_t)lone->prefix.bits[0];
        memcpy(bytes, &word, 4);
    } else {
        memcpy(bytes, lone->prefix.bits, 16);
    }
    return bytes[at];
}

static void find_shared(struct trie *trie, const struct trie_prefix *prefixes, size_t count)
{
    /* Two bytes must be left for the root; the first prefix is the shortest. */
    unsigned skip = trie->width - 2;
    if (prefixes[0].length / 8U < skip)
        skip = prefixes[0].length / 8U;
    for (size_t i = 1; i < count && skip > 0; i++)
        while (skip > 0 && memcmp(prefixes[0].address, prefixes[i].address, skip) != 0)
            skip--;
    trie->skip = skip;
    trie->shared = bits_of(prefixes[0].address, trie->width, 8 * skip);
}

size_t trie_memory(const struct trie *trie)
{
    return trie->node_room * NODE_BYTES + trie->lone_room * sizeof(struct trie_lone);
}

/* Makes room for one more element of `size` bytes: by half as much again, within memory_max. */
static int reserve(const struct trie *trie, void **array, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return 0;
    size_t more = *room / 2 + 16, left = (trie->memory_max - trie_memory(trie)) / size;
    if (more > left)
        more = left;
    if (more == 0 || count >= TRIE_NUMBER_MAX)
        return -E2BIG;
    void *grown = realloc(*array, (*room + more) * size);
    if (!grown)
        return -ENOMEM;
    *array = grown;
    *room += more;
    return 0;
}

/* Sets `count` entries. Building a table is mostly this loop; by eights, because one store a turn
 * takes twice the time or not by the luck of where the linker puts it. */
static void fill(uint32_t *entries, size_t count, uint32_t value)
{
    const uint32_t values[8] = {value, value, value, value, value, value, value, value};

    for (; count >= 8; count -= 8, entries += 8)
        memcpy(entries, values, sizeof(values));
    for (size_t i = 0; i < count; i++)
        entries[i] = value;
}

/* Stands `prefix` alone where `*at` was; offsets, because the entries may move. */
static int add_lone(struct trie *trie, size_t at, const struct trie_prefix *prefix)
{
    void *lones = trie->lones;
    int rc = reserve(trie, &lones, trie->lone_count, &trie->lone_room, sizeof(*trie->lones));
    if (rc < 0)
        return rc;
    trie->lones = lones;
    struct trie_lone *lone = &trie->lones[trie->lone_count];
    lone->prefix = bits_of(prefix->address, trie->width, prefix->length);
    lone->length = prefix->length;
    lone->value = prefix->value;
    lone->otherwise = trie->entries[at];
    trie->entries[at] = TRIE_LONE | (uint32_t)trie->lone_count++;
    return 0;
}

/* Replaces the lone prefix at `at` by a node for the address byte `byte` that has it one level
 * further down. */
static int split(struct trie *trie, size_t at, unsigned byte)
{
    void *entries = trie->entries;
    int rc = reserve(trie, &entries, trie->nodes, &trie->node_room, NODE_BYTES);
    if (rc < 0)
        return rc;
    trie->entries = entries;
    uint32_t entry = trie->entries[at];
    const struct trie_lone *lone = &trie->lones[entry & TRIE_NUMBER_MAX];
    uint32_t *node = trie->entries + trie->nodes * TRIE_FANOUT;
    fill(node, TRIE_FANOUT, lone->otherwise);
    size_t index = byte_of(lone, trie->width, byte);
    if (lone->length > 8 * (byte + 1))
        node[index] = entry;
    else
        fill(node + index, (size_t)1 << (8 * (byte + 1) - lone->length), lone->value);
    trie->entries[at] = TRIE_NODE | (uint32_t)trie->nodes++;
    return 0;
}

static int insert(struct trie *trie, const struct trie_prefix *prefix)
{
    const uint8_t *address = prefix->address;
    unsigned byte = trie->skip + 2; /* the address bytes up to here lead to `at` */
    size_t at = (size_t)address[trie->skip] << 8 | address[trie->skip + 1];

    for (;;) {
        if (prefix->length <= 8 * byte) {
            /* Nothing lies below these entries yet: that would be longer prefixes. */
            size_t span = (size_t)1 << (8 * byte - prefix->length);
            fill(trie->entries + (at & ~(span - 1)), span, prefix->value);
            return 0;
        }
        uint32_t entry = trie->entries[at];
        if (!(entry & (TRIE_NODE | TRIE_LONE)))
            return add_lone(trie, at, prefix);
        if (entry & TRIE_LONE) {
            struct trie_lone *lone = &trie->lones[entry & TRIE_NUMBER_MAX];
            if (lone->length == prefix->length && trie_holds(&lone->prefix, trie->width, address)) {
                lone->value = prefix->value;
                return 0;
            }
            int rc = split(trie, at, byte);
            if (rc < 0)
                return rc;
        }
        at = (size_t)(trie->entries[at] & TRIE_NUMBER_MAX) * TRIE_FANOUT + address[byte];
        byte++;
    }
}

/* Gives back what growing left over; where that fails the larger block serves as well. */
static void trim(void **array, size_t count, size_t *room, size_t size)
{
    void *less = count ? realloc(*array, count * size) : NULL;
    if (less) {
        *array = less;
        *room = count;
    }
}

int trie_build(struct trie *trie, unsigned width, const struct trie_prefix *prefixes, size_t count,
               size_t memory_max)
{
    int rc = -E2BIG;
    memset(trie, 0, sizeof(*trie));
    trie->width = width;
    trie->memory_max = memory_max;
    if (count == 0)
        return 0;
    find_shared(trie, prefixes, count);
    if (memory_max < ROOT_NODES * (size_t)NODE_BYTES)
        goto cleanup;
    rc = -ENOMEM;
    trie->entries = calloc(ROOT_NODES, NODE_BYTES);
    if (!trie->entries)
        goto cleanup;
    trie->nodes = trie->node_room = ROOT_NODES;
    for (size_t i = 0; i < count; i++) {
        rc = insert(trie, &prefixes[i]);
        if (rc < 0)
            goto cleanup;
    }
    void *entries = trie->entries, *lones = trie->lones;
    trim(&entries, trie->nodes, &trie->node_room, NODE_BYTES);
    trim(&lones, trie->lone_count, &trie->lone_room, sizeof(*trie->lones));
    trie->entries = entries;
    trie->lones = lones;
    return 0;
cleanup:
    trie_free(trie);
    return rc;
}

void trie_free(struct trie *trie)
{
    free(trie->entries);
    free(trie->lones);
    memset(trie, 0, sizeof(*trie));
}
