/* SPDX-License-Identifier: Apache-2.0
 *
 * encap: what stands between the UDP header and the inner packet, and what a tunnel changes in a packet.
 *
 * Owns: the kinds of encapsulation, and the rules that depend on the kind. Must not know: sockets,
 * offloads, counters, how a header's bytes are made (udpoverlay/backend/).
 *
 *     send      a route carries the bytes in front of every packet to its peer; they are copied
 *     receive   encap_open checks the header against what we are, and finds the inner packet
 *     both      encap_pass: the packet's TTL. ECN, which VXLAN copies in and out, belongs here too
 *
 * flannel's udp has no header: a datagram is the bare IP packet (pkg/backend/udp/proxy_amd64.c).
 */
#ifndef UDPOVERLAY_ENCAP_H
#define UDPOVERLAY_ENCAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "packet/packet.h"
#include "verdict.h"

/* Room for the longest header: 14 bytes of Ethernet and 8 of VXLAN, with padding to a word. */
enum { ENCAP_HEADER_MAX = 24 };

/* The bytes in front of the inner packet in each datagram to one peer. */
struct encap_header {
    uint8_t length; /* 0: nothing is in front */
    uint8_t bytes[ENCAP_HEADER_MAX];
};

/* What this end of the tunnel is: a received header must be meant for it. Zeros where the kind of
 * encapsulation has none. */
struct encap_own {
    uint32_t vni;
    uint8_t mac[6];
};

/* Looks at the header_length bytes of a received header: the refusal, or VERDICT_INBOUND_DELIVERED to
 * go on. */
typedef enum verdict encap_check(const struct encap_own *own, const uint8_t *header);

struct encap {
    const char *name;
    uint8_t header_length; /* bytes before the inner packet, the same on send and receive */
    bool is_hop;           /* each end takes one from the packet's TTL, as a router does */
    encap_check *check;    /* NULL: nothing to check */
};

/* flannel's proxy takes one at each end: two from host to host. */
extern const struct encap encap_udp;

/* The inner packet of a datagram, whatever is in its header; nothing when it is shorter than that. */
static inline struct iovec encap_inner(const struct encap *encap, uint8_t *datagram, size_t length)
{
    size_t header = encap->header_length < length ? encap->header_length : length;
    return (struct iovec){.iov_base = datagram + header, .iov_len = length - header};
}

/* Checks the header of a received datagram: the refusal, or VERDICT_INBOUND_DELIVERED: encap_inner is
 * for us. */
static inline enum verdict encap_open(const struct encap *encap, const struct encap_own *own,
                                      const uint8_t *datagram, size_t length)
{
    if (length < encap->header_length)
        return VERDICT_INBOUND_TOO_SHORT;
    return encap->check ? encap->check(own, datagram) : VERDICT_INBOUND_DELIVERED;
}

/* The inner packet passes one end of the tunnel, in either direction. False when it may go no
 * further; it is not changed then. */
static inline bool encap_pass(const struct encap *encap, uint8_t *bytes,
                              const struct packet *packet)
{
    return !encap->is_hop || packet_decrease_ttl(bytes, packet);
}

#endif
