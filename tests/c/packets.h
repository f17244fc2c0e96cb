/* SPDX-License-Identifier: Apache-2.0
 *
 * Builders of TCP and UDP packets for C tests: template, change a byte, seal.
 */
#ifndef UDPOVERLAY_TEST_PACKETS_H
#define UDPOVERLAY_TEST_PACKETS_H

#include <string.h>

#include "packet/bytes.h"
#include "packet/checksum.h"
#include "offload/offload.h"
#include "packet/packet.h"
#include "packet/transport.h"

struct flow {
    bool ipv6, tcp;
    uint16_t port, id;
    uint32_t sequence;
};

static inline size_t flow_headers(const struct flow *flow)
{
    return (size_t)(flow->ipv6 ? IPV6_HEADER : IPV4_HEADER_MIN) +
           (size_t)(flow->tcp ? TCP_HEADER_MIN : UDP_HEADER);
}

/* Writes the lengths and checksums of a packet of this flow. */
static inline void packet_seal(const struct flow *flow, uint8_t *packet, size_t length)
{
    bool ipv6 = flow->ipv6;
    size_t at = ipv6 ? IPV6_HEADER : IPV4_HEADER_MIN;
    uint8_t protocol = flow->tcp ? PROTOCOL_TCP : PROTOCOL_UDP;
    size_t field = at + (size_t)(flow->tcp ? TCP_CHECKSUM : UDP_CHECKSUM);
    uint16_t sum;

    if (ipv6) {
        put16(packet + IPV6_PAYLOAD_LENGTH, (uint16_t)(length - IPV6_HEADER));
    } else {
        put16(packet + IPV4_TOTAL_LENGTH, (uint16_t)length);
        put16(packet + IPV4_CHECKSUM, 0);
        sum = checksum_finish(checksum_add(0, packet, IPV4_HEADER_MIN));
        memcpy(packet + IPV4_CHECKSUM, &sum, 2);
    }
    if (protocol == PROTOCOL_UDP)
        put16(packet + at + UDP_LENGTH, (uint16_t)(length - at));
    put16(packet + field, 0);
    uint32_t pseudo = checksum_pseudo(packet + (ipv6 ? IPV6_SOURCE : IPV4_SOURCE), ipv6 ? 32 : 8,
                                      protocol, (uint32_t)(length - at));
    sum = checksum_finish(checksum_add(pseudo, packet + at, length - at));
    if (sum == 0 && protocol == PROTOCOL_UDP)
        sum = 0xFFFF;
    memcpy(packet + field, &sum, 2);
}

/* The next packet of a flow, `payload` bytes of `fill`; returns its length. */
static inline size_t packet_next(struct flow *flow, uint8_t *packet, size_t payload, uint8_t fill)
{
    size_t at = flow->ipv6 ? IPV6_HEADER : IPV4_HEADER_MIN;
    size_t length = flow_headers(flow) + payload;

    memset(packet, 0, length);
    memset(packet + length - payload, fill, payload);
    if (flow->ipv6) {
        packet[0] = 0x60;
        packet[IPV6_NEXT_HEADER] = flow->tcp ? PROTOCOL_TCP : PROTOCOL_UDP;
        packet[IPV6_HOP_LIMIT] = 64;
        packet[IPV6_SOURCE] = packet[IPV6_DESTINATION] = 0xFD;
        packet[IPV6_DESTINATION + 15] = 1;
    } else {
        packet[0] = 0x45;
        put16(packet + IPV4_ID, flow->id++);
        packet[IPV4_FRAGMENT] = 0x40;
        packet[IPV4_TTL] = 64;
        packet[IPV4_PROTOCOL] = flow->tcp ? PROTOCOL_TCP : PROTOCOL_UDP;
        packet[IPV4_SOURCE] = packet[IPV4_DESTINATION] = 10;
        packet[IPV4_DESTINATION + 3] = 1;
    }
    put16(packet + at, flow->port);
    put16(packet + at + 2, 5201);
    if (flow->tcp) {
        put32(packet + at + TCP_SEQUENCE, flow->sequence);
        packet[at + TCP_OFFSET] = TCP_HEADER_MIN / 4 << 4;
        packet[at + TCP_FLAGS] = TCP_ACK;
        flow->sequence += (uint32_t)payload;
    }
    packet_seal(flow, packet, length);
    return length;
}

/* A vnet header and the super-packet of the flow's next `payload` bytes, as a TUN hands it over;
 * returns the length of the packet. */
static inline size_t packet_super(struct flow *flow, uint8_t *out, size_t payload,
                                  unsigned gso_size)
{
    uint8_t *packet = out + VNET_HEADER_LENGTH;
    size_t length = packet_next(flow, packet, payload, 0);
    size_t at = flow->ipv6 ? IPV6_HEADER : IPV4_HEADER_MIN;
    const struct vnet vnet = {
        .flags = VNET_F_NEEDS_CSUM,
        .gso_type = !flow->tcp   ? VNET_GSO_UDP_L4
                    : flow->ipv6 ? VNET_GSO_TCPV6
                                 : VNET_GSO_TCPV4,
        .header_length = (uint16_t)(length - payload),
        .gso_size = (uint16_t)gso_size,
        .csum_start = (uint16_t)at,
        .csum_offset = flow->tcp ? TCP_CHECKSUM : UDP_CHECKSUM,
    };
    uint16_t sum = checksum_fold(
        checksum_pseudo(packet + (flow->ipv6 ? IPV6_SOURCE : IPV4_SOURCE), flow->ipv6 ? 32 : 8,
                        flow->tcp ? PROTOCOL_TCP : PROTOCOL_UDP, (uint32_t)(length - at)));

    for (size_t i = 0; i < payload; i++)
        packet[length - payload + i] = (uint8_t)(i * 31 + (i >> 8));
    memcpy(packet + at + vnet.csum_offset, &sum, 2);
    vnet_store(out, &vnet);
    return length;
}

#endif
