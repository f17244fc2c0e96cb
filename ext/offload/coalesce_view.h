/* SPDX-License-Identifier: Apache-2.0
 *
 * coalesce_view: what a packet is to the coalescer, by the packet alone. Private to coalesce.c.
 */
#ifndef UDPOVERLAY_COALESCE_VIEW_H
#define UDPOVERLAY_COALESCE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "packet/packet.h"

enum outlook {
    ALONE,  /* belongs to no flow that could be pending: may be written at any time */
    OPAQUE, /* its ports are not known: holds for every flow between its addresses */
    FLOW,   /* belongs to a flow, but cannot be part of a super-packet */
    RUN,    /* can start or continue a run */
};

/* What is found out about a packet; all fields are set for RUN, those up to `hash` for FLOW, and
 * `ipv6` for OPAQUE. For RUN, length is header_length + payload_length. */
struct view {
    uint8_t *packet;
    size_t length;
    bool ipv6, tcp;
    uint8_t transport; /* offset of the TCP or UDP header */
    uint32_t hash;     /* of addresses, ports and protocol */
    uint8_t flags;     /* TCP */
    uint16_t header_length;
    size_t payload_length;
};

/* Source and destination stand side by side in an IP header. */
static inline size_t addresses_at(bool ipv6)
{
    return ipv6 ? IPV6_SOURCE : IPV4_SOURCE;
}

static inline size_t addresses_length(bool ipv6)
{
    return ipv6 ? 32 : 8;
}

/* Fills in the view of view->packet, view->length bytes of any content. `kinds` are the COALESCE_ bits
 * of offload.h: packets of other kinds are ALONE. */
enum outlook view_packet(struct view *view, unsigned kinds);

/* Whether IP header checksum and transport checksum of a RUN packet are right. The packet is told
 * by its parts, because the first of a run is looked at again when its view is long gone. */
bool checksums_right(const uint8_t *packet, size_t length, size_t transport, bool ipv6, bool tcp);

#endif
