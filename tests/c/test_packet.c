/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "packet/bytes.h"
#include "packet/checksum.h"
#include "harness.h"
#include "packet/packet.h"

static const uint8_t IPV4_UDP[28] = {0x45, 0, 0,  28, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1,
                                     0,    2, 10, 2,  0, 2, 0,    1, 0,  2,  0, 8, 0,  0};

static enum packet_check check_exact(const uint8_t *data, size_t length, struct packet *packet)
{
    uint8_t *exact = malloc(length ? length : 1);
    CHECK(exact != NULL);
    memcpy(exact, data, length);
    enum packet_check result = packet_check(exact, length, PACKET_IPV4 | PACKET_IPV6, packet);
    free(exact);
    return result;
}

TEST(the_check_never_reads_beyond_what_was_received)
{
    uint8_t data[80];
    struct packet packet;
    for (unsigned first = 0; first < 256; first++)
        for (size_t length = 0; length <= sizeof(data); length++) {
            pseudo_random_bytes(data, sizeof(data));
            data[0] = (uint8_t)first;
            if (check_exact(data, length, &packet) == PACKET_OK) {
                CHECK(packet.length <= length);
                CHECK(packet.header_length <= packet.length);
                CHECK(packet.version == first >> 4);
            }
        }
}

TEST(every_refusal_has_its_verdict_in_both_directions)
{
    for (int check = PACKET_OK + 1; check < PACKET_CHECK_COUNT; check++)
        for (int direction = 0; direction < DIRECTION_COUNT; direction++) {
            enum verdict verdict =
                packet_refusal((enum direction)direction, (enum packet_check)check);
            CHECK(verdict_facts[verdict].direction == (enum direction)direction);
            CHECK(verdict_facts[verdict].kind == VERDICT_KIND_DROP);
        }
}

TEST(verdicts_and_counters_have_distinct_names_and_a_help_text)
{
    for (int i = 0; i < VERDICT_COUNT; i++) {
        CHECK(verdict_facts[i].help[0] != '\0');
        CHECK(verdict_facts[i].direction != DIRECTION_NONE);
        for (int j = 0; j < i; j++)
            CHECK(strcmp(verdict_facts[i].name, verdict_facts[j].name) != 0);
    }
    for (int i = 0; i < COUNTER_COUNT; i++) {
        CHECK(counter_facts[i].help[0] != '\0');
        for (int j = 0; j < i; j++)
            CHECK(strcmp(counter_facts[i].name, counter_facts[j].name) != 0);
    }
}

TEST(a_valid_checksum_stays_valid_down_to_the_last_hop)
{
    uint8_t bytes[sizeof(IPV4_UDP)];
    struct packet packet;
    for (unsigned id = 0; id < 0x10000; id += 7) {
        memcpy(bytes, IPV4_UDP, sizeof(bytes));
        put16(bytes + IPV4_ID, (uint16_t)id);
        bytes[IPV4_TTL] = 255;
        uint16_t check = checksum_finish(checksum_add(0, bytes, IPV4_HEADER_MIN));
        memcpy(bytes + IPV4_CHECKSUM, &check, 2);
        CHECK(packet_check(bytes, sizeof(bytes), PACKET_IPV4, &packet) == PACKET_OK);
        for (unsigned ttl = 254; ttl >= 1; ttl--) {
            CHECK(packet_decrease_ttl(bytes, &packet) == 1);
            CHECK(bytes[IPV4_TTL] == ttl);
            CHECK(checksum_fold(checksum_add(0, bytes, IPV4_HEADER_MIN)) == 0xFFFF);
        }
        CHECK(packet_decrease_ttl(bytes, &packet) == 0);
        CHECK(bytes[IPV4_TTL] == 1);
    }
}

TEST(ttl_zero_does_not_wrap)
{
    uint8_t bytes[sizeof(IPV4_UDP)];
    struct packet packet;
    memcpy(bytes, IPV4_UDP, sizeof(bytes));
    bytes[IPV4_TTL] = 0;
    CHECK(packet_check(bytes, sizeof(bytes), PACKET_IPV4, &packet) == PACKET_OK);
    CHECK(packet_decrease_ttl(bytes, &packet) == 0);
    CHECK(bytes[IPV4_TTL] == 0 && bytes[IPV4_CHECKSUM] == 0 && bytes[IPV4_CHECKSUM + 1] == 0);
}
