/* SPDX-License-Identifier: Apache-2.0
 *
 * packet: is it an IP packet that we may forward, where does it end, and one hop less for it.
 *
 * Owns: the header rules of RFC 791 and RFC 8200 that a forwarder must check, and the TTL rule.
 * Must not know: routes, sockets, counters. The IPv4 header checksum is not verified: the next
 * kernel that takes the packet does so (flannel pkg/backend/udp/proxy_amd64.c does not either).
 *
 *  0                   1                   2                   3
 *  |version|  IHL  |      TOS      |          total length         |   0
 *  |         identification        |flags|     fragment offset     |   4
 *  |      TTL      |    protocol   |        header checksum        |   8
 *  |                        source address                         |  12
 *  |                      destination address                      |  16
 *
 *  |version| traffic class |              flow label               |   0
 *  |         payload length        |  next header  |   hop limit   |   4
 *  |                  source address, 16 bytes                     |   8
 *  |                destination address, 16 bytes                  |  24
 */
#ifndef UDPOVERLAY_PACKET_H
#define UDPOVERLAY_PACKET_H

#include <stddef.h>
#include <stdint.h>

#include "verdict.h"

enum {
    IPV4_HEADER_MIN = 20,
    IPV4_HEADER_MAX = 60,
    IPV4_TOS = 1,
    IPV4_TOTAL_LENGTH = 2,
    IPV4_ID = 4,
    IPV4_FRAGMENT = 6, /* 3 bits of flags, 13 bits of offset */
    IPV4_TTL = 8,
    IPV4_PROTOCOL = 9,
    IPV4_CHECKSUM = 10,
    IPV4_SOURCE = 12,
    IPV4_DESTINATION = 16,
    IPV6_HEADER = 40,
    IPV6_PAYLOAD_LENGTH = 4,
    IPV6_NEXT_HEADER = 6,
    IPV6_HOP_LIMIT = 7,
    IPV6_SOURCE = 8,
    IPV6_DESTINATION = 24,
};

/* Which IP versions the tunnel carries: a mask. */
enum { PACKET_IPV4 = 1U << 0, PACKET_IPV6 = 1U << 1 };

enum packet_check {
    PACKET_OK,
    PACKET_TOO_SHORT,
    PACKET_WRONG_VERSION,
    PACKET_BAD_HEADER,
    PACKET_BAD_LENGTH,
    PACKET_CHECK_COUNT
};

/* What the check found out; set only when it returned PACKET_OK. */
struct packet {
    uint32_t length;       /* bytes to forward, from the version on; what was received after it
                               is trailing rubbish and must not be forwarded */
    uint8_t header_length; /* bytes, with IPv4 options; IPv6 extension headers not counted */
    uint8_t version;       /* 4 or 6 */
    uint8_t protocol;      /* IPv4 protocol, IPv6 next header */
};

/* Checks the `received` bytes; never reads beyond them. `families` is the mask above. */
enum packet_check packet_check(const uint8_t *bytes, size_t received, unsigned families,
                               struct packet *packet);

/* The verdict for a packet that failed its check; must not be called with PACKET_OK. */
enum verdict packet_refusal(enum direction direction, enum packet_check check);

/* The destination address of a checked packet: 4 or 16 bytes. */
static inline const uint8_t *packet_destination(const uint8_t *bytes, const struct packet *packet)
{
    return bytes + (packet->version == 4 ? IPV4_DESTINATION : IPV6_DESTINATION);
}

/* Takes one hop from a checked packet. Returns 1; or 0 and leaves the packet as it is when it has
 * none to spare (TTL 0 or 1). The IPv4 checksum is patched (RFC 1624), byte for byte as Linux'
 * ip_decrease_ttl (include/net/ip.h) does. */
int packet_decrease_ttl(uint8_t *bytes, const struct packet *packet);

#endif
