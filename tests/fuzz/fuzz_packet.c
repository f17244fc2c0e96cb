/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a packet: check, TTL, the ICMP errors about it, and whether it is a probe. First
 * byte: the IP versions that are carried.
 */
#include <stdlib.h>
#include <string.h>

#include "packet/checksum.h"
#include "packet/icmp.h"
#include "packet/packet.h"
#include "packet/probe.h"

#define MUST(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(enum icmp_error error, const uint8_t *bytes, const struct packet *packet)
{
    const uint8_t source[4] = {10, 1, 0, 0};
    uint8_t out[ICMP_ERROR_MAX];
    struct packet built;
    size_t length = icmp_error_build(out, error, source, bytes, packet);
    if (length == 0)
        return;
    MUST(length == 28U + packet->header_length + 8U);
    MUST(packet_check(out, length, PACKET_IPV4, &built) == PACKET_OK && built.length == length);
    MUST(checksum_fold(checksum_add(0, out, 20)) == 0xFFFF);
    MUST(checksum_fold(checksum_add(0, out + 20, length - 20)) == 0xFFFF);
    /* Nothing is ever sent about what we sent. */
    MUST(icmp_error_build(out, error, source, out, &built) == 0);
}

static void check_probe(uint8_t *bytes, size_t size)
{
    uint64_t nonce, echoed;
    if (probe_read(bytes, size, &nonce) != PROBE_REQUEST)
        return;
    probe_answer(bytes);
    MUST(probe_read(bytes, size, &echoed) == PROBE_REPLY && echoed == nonce);
    MUST(checksum_fold(checksum_add(0, bytes, 20)) == 0xFFFF);
    MUST(checksum_fold(checksum_add(0, bytes + 20, size - 20)) == 0xFFFF);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    unsigned families = data[0] & 3;
    size--;
    uint8_t *bytes = malloc(size ? size : 1); /* exact, so that reading on is seen */
    MUST(bytes != NULL);
    memcpy(bytes, data + 1, size);

    struct packet packet;
    enum packet_check check = packet_check(bytes, size, families, &packet);
    if (check != PACKET_OK) {
        packet_refusal(DIRECTION_INBOUND, check);
    } else {
        MUST(packet.length <= size && packet.header_length <= packet.length);
        MUST((packet.version == 4 && (families & PACKET_IPV4)) ||
             (packet.version == 6 && (families & PACKET_IPV6)));
        MUST(packet_destination(bytes, &packet) + (packet.version == 4 ? 4 : 16) <= bytes + size);
        check_error(ICMP_ERROR_NET_UNREACHABLE, bytes, &packet);
        check_error(ICMP_ERROR_TIME_EXCEEDED, bytes, &packet);
        int valid = packet.version == 4 &&
                    checksum_fold(checksum_add(0, bytes, packet.header_length)) == 0xFFFF;
        uint8_t before = bytes[packet.version == 4 ? IPV4_TTL : IPV6_HOP_LIMIT];
        int hops = 0;
        while (packet_decrease_ttl(bytes, &packet))
            hops++;
        MUST(hops == (before ? before - 1 : 0));
        MUST(!valid || checksum_fold(checksum_add(0, bytes, packet.header_length)) == 0xFFFF);
    }
    check_probe(bytes, size);
    free(bytes);
    return 0;
}
