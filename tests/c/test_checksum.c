/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "packet/checksum.h"
#include "harness.h"

enum { LONGEST = 70000 };

/* RFC 1071 in the machine's own order, one word at a time. */
static uint16_t slow_coalesce(const uint8_t *data, size_t length)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < length; i += 2) {
        uint8_t pair[2] = {data[i], i + 1 < length ? data[i + 1] : 0};
        uint16_t word;
        memcpy(&word, pair, 2);
        sum += word;
    }
    while (sum > 0xFFFF)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)sum;
}

/* A block that ends where the data ends, so that reading on is seen. */
static void agree(const struct checksum_implementation *each, const uint8_t *data, size_t offset,
                  size_t length)
{
    uint8_t *block = malloc(offset + length + 1);
    CHECK(block != NULL);
    uint8_t *exact = realloc(block, offset + length ? offset + length : 1);
    CHECK(exact != NULL);
    memcpy(exact + offset, data, length);
    uint16_t fast = checksum_fold(each->add(0, exact + offset, length));
    uint16_t slow = slow_coalesce(exact + offset, length);
    free(exact);
    CHECK(fast == slow);
}

TEST(every_implementation_adds_any_length_at_any_alignment)
{
    static uint8_t data[LONGEST];
    pseudo_random_bytes(data, sizeof(data));
    for (const struct checksum_implementation *each = checksum_implementations(); each->name;
         each++) {
        for (size_t offset = 0; offset < 9; offset++)
            for (size_t length = 0; length < 270; length++)
                agree(each, data, offset, length);
        agree(each, data, 3, 65535);
        agree(each, data, 1, LONGEST);
    }
}

TEST(no_carry_is_lost)
{
    static uint8_t ones[LONGEST];
    memset(ones, 0xFF, sizeof(ones));
    for (const struct checksum_implementation *each = checksum_implementations(); each->name;
         each++)
        for (size_t length = 1; length < LONGEST; length = length * 5 / 4 + 1)
            agree(each, ones, 1, length);
}

TEST(a_sum_may_go_on_where_another_ended)
{
    uint8_t data[200];
    pseudo_random_bytes(data, sizeof(data));
    for (const struct checksum_implementation *each = checksum_implementations(); each->name;
         each++)
        for (size_t cut = 0; cut <= sizeof(data); cut += 2) {
            uint32_t sum = each->add(0, data, cut);
            sum = each->add(sum, data + cut, sizeof(data) - cut);
            CHECK(checksum_fold(sum) == slow_coalesce(data, sizeof(data)));
        }
    CHECK(checksum_fold(checksum_add(0xFFFFFFFFU, data, 0)) == 0xFFFF);
}

TEST(the_finished_sum_is_ready_to_be_stored)
{
    const uint8_t data[4] = {0x12, 0x34, 0x00, 0x01};
    uint16_t check = checksum_finish(checksum_add(0, data, sizeof(data)));
    uint8_t stored[2];
    memcpy(stored, &check, 2);
    CHECK(stored[0] == 0xED && stored[1] == 0xCA);
}

TEST(a_pseudo_header_is_summed_where_its_addresses_stand)
{
    uint8_t addresses[32], pseudo[40];
    pseudo_random_bytes(addresses, sizeof(addresses));
    memcpy(pseudo, addresses, 32);
    const uint8_t rest[8] = {0, 1, 0x86, 0xA0, 0, 0, 0, 17};
    memcpy(pseudo + 32, rest, sizeof(rest));
    CHECK(checksum_fold(checksum_pseudo(addresses, 32, 17, 100000)) == slow_coalesce(pseudo, 40));
    memcpy(pseudo + 8, rest, sizeof(rest));
    CHECK(checksum_fold(checksum_pseudo(addresses, 8, 17, 100000)) == slow_coalesce(pseudo, 16));
}
