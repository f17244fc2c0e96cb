/* SPDX-License-Identifier: Apache-2.0 */
#include "packet/probe.h"

#include <string.h>

#include "packet/bytes.h"
#include "packet/checksum.h"
#include "packet/packet.h"

enum {
    PROTOCOL_ICMP = 1,
    ECHO_REPLY = 0,
    ECHO_REQUEST = 8,
    PROBE_TTL = 64,
    /* Offsets in the packet. */
    ICMP = 20,
    ICMP_CHECKSUM = ICMP + 2,
    ICMP_IDENTIFIER = ICMP + 4,
    MAGIC = ICMP + 8,
    NONCE = MAGIC + 8,
};

static const uint8_t identifier[4] = {'u', 'o', 'v', 'l'};
static const uint8_t magic[8] = {'u', 'd', 'p', 'o', 'v', 'r', 'l', 'y'};

static void set_checksum(uint8_t *field, const uint8_t *bytes, size_t length)
{
    memset(field, 0, 2);
    const uint16_t check = checksum_finish(checksum_add(0, bytes, length));
    memcpy(field, &check, sizeof(check));
}

static void set_checksums(uint8_t *packet)
{
    set_checksum(packet + IPV4_CHECKSUM, packet, IPV4_HEADER_MIN);
    set_checksum(packet + ICMP_CHECKSUM, packet + ICMP, PROBE_LENGTH - ICMP);
}

void probe_build(uint8_t out[static PROBE_LENGTH], const uint8_t source[static 4],
                 const uint8_t destination[static 4], uint64_t nonce)
{
    memset(out, 0, PROBE_LENGTH);
    out[0] = 0x45;
    put16(out + IPV4_TOTAL_LENGTH, PROBE_LENGTH);
    out[IPV4_TTL] = PROBE_TTL;
    out[IPV4_PROTOCOL] = PROTOCOL_ICMP;
    memcpy(out + IPV4_SOURCE, source, 4);
    memcpy(out + IPV4_DESTINATION, destination, 4);
    out[ICMP] = ECHO_REQUEST;
    memcpy(out + ICMP_IDENTIFIER, identifier, sizeof(identifier));
    memcpy(out + MAGIC, magic, sizeof(magic));
    memcpy(out + NONCE, &nonce, sizeof(nonce));
    set_checksums(out);
}

enum probe_kind probe_read(const uint8_t *packet, size_t length, uint64_t *nonce)
{
    /* The other bits of the fragment word: don't fragment, which a kernel may set. */
    if (length != PROBE_LENGTH || packet[0] != 0x45 || packet[IPV4_PROTOCOL] != PROTOCOL_ICMP ||
        (get16(packet + IPV4_FRAGMENT) & 0x3FFF) != 0 ||
        get16(packet + IPV4_TOTAL_LENGTH) != PROBE_LENGTH)
        return PROBE_NONE;
    if (packet[ICMP + 1] != 0 || memcmp(packet + MAGIC, magic, sizeof(magic)) != 0 ||
        memcmp(packet + ICMP_IDENTIFIER, identifier, sizeof(identifier)) != 0)
        return PROBE_NONE;
    memcpy(nonce, packet + NONCE, sizeof(*nonce));
    if (packet[ICMP] == ECHO_REQUEST)
        return PROBE_REQUEST;
    return packet[ICMP] == ECHO_REPLY ? PROBE_REPLY : PROBE_NONE;
}

void probe_answer(uint8_t packet[static PROBE_LENGTH])
{
    uint8_t source[4];

    memcpy(source, packet + IPV4_SOURCE, 4);
    memcpy(packet + IPV4_SOURCE, packet + IPV4_DESTINATION, 4);
    memcpy(packet + IPV4_DESTINATION, source, 4);
    packet[IPV4_TTL] = PROBE_TTL;
    packet[ICMP] = ECHO_REPLY;
    set_checksums(packet);
}
