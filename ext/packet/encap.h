/* SPDX-License-Identifier: Apache-2.0
 *
 * encap: what stands between the UDP header and the inner packet.
 *
 * Owns: the kinds of encapsulation. Each is two things: a header that is the same for every
 * datagram to one peer (a template, filled in when routes are published and sent as it is), and a
 * check of that header on receive. Must not know: sockets, offloads, counters.
 *
 * flannel's udp has neither: a datagram is the bare IP packet (pkg/backend/udp/proxy_amd64.c).
 */
#ifndef UDPOVERLAY_ENCAP_H
#define UDPOVERLAY_ENCAP_H

#include <stddef.h>
#include <stdint.h>

#include "verdict.h"

/* Room for the longest header: 14 bytes of Ethernet and 8 of VXLAN, with padding to a word. */
enum { ENCAP_HEADER_MAX = 24 };

/* The bytes in front of the inner packet in each datagram to one peer. */
struct encap_header {
    uint8_t length; /* 0: nothing is in front */
    uint8_t bytes[ENCAP_HEADER_MAX];
};

/* Looks at the header of a datagram: the refusal, or VERDICT_INBOUND_DELIVERED to go on. */
typedef enum verdict encap_check(const uint8_t *datagram, size_t length);

struct encap {
    const char *name;
    uint8_t header_length; /* bytes before the inner packet, the same on send and receive */
    encap_check *check;    /* NULL: nothing to check */
};

extern const struct encap encap_udp;

/* Writes the header for one peer. */
void encap_fill(const struct encap *encap, struct encap_header *header);

#endif
