/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "packet/bytes.h"
#include "packet/checksum.h"
#include "offload/offload.h"
#include "packet/packet.h"
#include "packet/transport.h"

/* ---- what has come --------------------------------------------------------------------------- */

/* Where the transport header starts in a whole IPv4 packet of `protocol`; 0 when it is not one. */
static size_t find_transport_ipv4(const uint8_t *packet, size_t length, uint8_t protocol)
{
    size_t header = (size_t)(packet[0] & 0x0F) * 4;

    if (header < IPV4_HEADER_MIN || header > length)
        return 0;
    if (get16(packet + IPV4_TOTAL_LENGTH) != length || packet[IPV4_PROTOCOL] != protocol)
        return 0;
    if (get16(packet + IPV4_FRAGMENT) & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
        return 0;
    return header;
}

/* The same for IPv6, behind those extension headers that the kernel segments with
 * (net/ipv6/exthdrs_offload.c: hop-by-hop, routing and destination options). */
static size_t find_transport_ipv6(const uint8_t *packet, size_t length, uint8_t protocol)
{
    enum { HOP_BY_HOP = 0, ROUTING = 43, DESTINATION_OPTIONS = 60 };

    if (length < IPV6_HEADER || get16(packet + IPV6_PAYLOAD_LENGTH) != length - IPV6_HEADER)
        return 0;
    size_t offset = IPV6_HEADER;
    uint8_t next = packet[IPV6_NEXT_HEADER];
    while (next == HOP_BY_HOP || next == ROUTING || next == DESTINATION_OPTIONS) {
        if (length - offset < 8)
            return 0;
        size_t extension = ((size_t)packet[offset + 1] + 1) * 8;
        if (length - offset < extension)
            return 0;
        next = packet[offset];
        offset += extension;
    }
    return next == protocol ? offset : 0;
}

/* The length of a TCP or UDP header that fits into `room` bytes; 0 when none does. */
static size_t transport_header(const uint8_t *header, size_t room, bool tcp)
{
    if (!tcp)
        return room >= UDP_HEADER && get16(header + UDP_LENGTH) == room ? UDP_HEADER : 0;
    if (room < TCP_HEADER_MIN)
        return 0;
    size_t length = (size_t)(header[TCP_OFFSET] >> 4) * 4;
    return length >= TCP_HEADER_MIN && length <= room ? length : 0;
}

static inline size_t checksum_field(bool tcp)
{
    return tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
}

/*
 * The sum over the pseudo-header, without its length. Where NEEDS_CSUM is set the kernel has put it
 * (with the length) into the checksum field; that one is used as segmentation does, because behind
 * a routing header it is made of another destination than the IPv6 header shows.
 */
static uint64_t sum_pseudo_header(const struct segmenter *segmenter, bool in_field)
{
    if (in_field) {
        size_t length = segmenter->header_length - segmenter->transport + segmenter->payload_length;
        uint16_t sum;
        memcpy(&sum, segmenter->packet + segmenter->transport + checksum_field(segmenter->tcp), 2);
        return (uint64_t)sum + (uint16_t)~htons((uint16_t)length);
    }
    uint8_t protocol = segmenter->tcp ? PROTOCOL_TCP : PROTOCOL_UDP;
    if (segmenter->ipv6)
        return checksum_pseudo(segmenter->packet + IPV6_SOURCE, 32, protocol, 0);
    return checksum_pseudo(segmenter->packet + IPV4_SOURCE, 8, protocol, 0);
}

/* Sums of the headers with every field blank that differs from segment to segment. */
static void sum_headers(struct segmenter *segmenter, bool needs_checksum)
{
    uint8_t header[TCP_HEADER_MAX];
    size_t length = segmenter->header_length - segmenter->transport;

    memcpy(header, segmenter->packet + segmenter->transport, length);
    memset(header + checksum_field(segmenter->tcp), 0, 2);
    if (segmenter->tcp) {
        segmenter->sequence = get32(header + TCP_SEQUENCE);
        memset(header + TCP_SEQUENCE, 0, 4);
        header[TCP_FLAGS] = 0;
    } else {
        memset(header + UDP_LENGTH, 0, 2);
    }
    segmenter->transport_sum =
        sum_pseudo_header(segmenter, needs_checksum) + checksum_add(0, header, length);
    if (segmenter->ipv6)
        return;

    uint8_t ip[IPV4_HEADER_MAX];
    size_t ip_length = (size_t)(segmenter->packet[0] & 0x0F) * 4;
    memcpy(ip, segmenter->packet, ip_length);
    segmenter->id = get16(ip + IPV4_ID);
    memset(ip + IPV4_TOTAL_LENGTH, 0, 4); /* and the id behind it */
    memset(ip + IPV4_CHECKSUM, 0, 2);
    segmenter->ip_sum = checksum_add(0, ip, ip_length);
}

int segment_begin(struct segmenter *segmenter, const struct vnet *vnet, uint8_t *packet,
                  size_t length)
{
    uint8_t type = vnet->gso_type & (uint8_t)~VNET_GSO_ECN;
    bool tcp = type == VNET_GSO_TCPV4 || type == VNET_GSO_TCPV6;
    bool needs_checksum = vnet->flags & VNET_F_NEEDS_CSUM;

    if (!tcp && type != VNET_GSO_UDP_L4)
        return -EOPNOTSUPP;
    if (!tcp && vnet->gso_type != VNET_GSO_UDP_L4)
        return -EINVAL;
    if (vnet->gso_size == 0 || length < IPV4_HEADER_MIN)
        return -EINVAL;
    unsigned version = packet[0] >> 4;
    if ((version != 4 && version != 6) || (type == VNET_GSO_TCPV4 && version != 4) ||
        (type == VNET_GSO_TCPV6 && version != 6))
        return -EINVAL;

    uint8_t protocol = tcp ? PROTOCOL_TCP : PROTOCOL_UDP;
    size_t transport = version == 4 ? find_transport_ipv4(packet, length, protocol)
                                    : find_transport_ipv6(packet, length, protocol);
    if (transport == 0)
        return -EINVAL;
    size_t header = transport_header(packet + transport, length - transport, tcp);
    if (header == 0)
        return -EINVAL;
    if (needs_checksum &&
        (vnet->csum_start != transport || vnet->csum_offset != checksum_field(tcp)))
        return -EINVAL;

    size_t payload = length - transport - header;
    unsigned segments = (unsigned)((payload + vnet->gso_size - 1) / vnet->gso_size);
    *segmenter = (struct segmenter){
        .packet = packet,
        .payload_length = payload,
        .segments = segments > 0 ? segments : 1,
        .header_length = (unsigned)(transport + header),
        .segment_length =
            (unsigned)(transport + header + (segments > 1 ? vnet->gso_size : payload)),
        .gso_size = vnet->gso_size,
        .transport = (unsigned)transport,
        .ipv6 = version == 6,
        .tcp = tcp,
        .no_checksum = !tcp && version == 4 && !needs_checksum &&
                       get16(packet + transport + UDP_CHECKSUM) == 0,
    };
    sum_headers(segmenter, needs_checksum);
    return 0;
}

/* ---- what becomes of it ---------------------------------------------------------------------- */

/* The bytes of segment `index`'s payload. */
static inline size_t payload_of(const struct segmenter *segmenter, unsigned index)
{
    if (index + 1 < segmenter->segments)
        return segmenter->gso_size;
    return segmenter->payload_length - (size_t)index * segmenter->gso_size;
}

static inline uint16_t finish(uint64_t sum)
{
    sum = (sum & 0xFFFFFFFFU) + (sum >> 32);
    sum = (sum & 0xFFFFFFFFU) + (sum >> 32);
    return checksum_finish((uint32_t)sum);
}

/* How many segments from segmenter->next on one send can hold. */
static unsigned group_size(const struct segmenter *segmenter, const struct segment_limits *limits,
                           const struct segment_space *space)
{
    size_t left = segmenter->segments - segmenter->next;
    size_t datagram = limits->encap_length + segmenter->segment_length;
    size_t most = limits->segments;

    if (most > space->iov_size / 2)
        most = space->iov_size / 2;
    if (most > space->headers_size / (limits->encap_length + segmenter->header_length))
        most = space->headers_size / (limits->encap_length + segmenter->header_length);
    size_t whole = limits->bytes / datagram;
    /* The very last segment may be short enough where a whole one is not. */
    if (whole + 1 == left && left > 1 &&
        whole * datagram + limits->encap_length + segmenter->header_length +
                payload_of(segmenter, segmenter->segments - 1) <=
            limits->bytes)
        whole++;
    if (most > whole)
        most = whole;
    return (unsigned)(most < left ? most : left);
}

bool segment_fits(const struct segmenter *segmenter, const struct segment_limits *limits,
                  const struct segment_space *space)
{
    return limits->segments >= 1 && space->iov_size >= 2 &&
           space->headers_size >= limits->encap_length + segmenter->header_length &&
           limits->bytes >= limits->encap_length + segmenter->segment_length;
}

/* Fills in the headers of segment `index`, a copy of the super-packet's. */
static void write_headers(const struct segmenter *segmenter, unsigned index, uint8_t *header,
                          const uint8_t *payload, size_t length)
{
    uint8_t *transport = header + segmenter->transport;
    size_t transport_length = segmenter->header_length - segmenter->transport + length;

    if (segmenter->ipv6) {
        put16(header + IPV6_PAYLOAD_LENGTH,
              (uint16_t)(segmenter->header_length - IPV6_HEADER + length));
    } else {
        uint16_t total = (uint16_t)(segmenter->header_length + length);
        uint16_t id = (uint16_t)(segmenter->id + index);
        put16(header + IPV4_TOTAL_LENGTH, total);
        put16(header + IPV4_ID, id);
        uint16_t sum = finish(segmenter->ip_sum + htons(total) + htons(id));
        memcpy(header + IPV4_CHECKSUM, &sum, 2);
    }

    uint64_t sum = segmenter->transport_sum + htons((uint16_t)transport_length);
    if (segmenter->tcp) {
        uint32_t sequence = segmenter->sequence + index * segmenter->gso_size;
        put32(transport + TCP_SEQUENCE, sequence);
        if (index > 0)
            transport[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
        if (index + 1 < segmenter->segments)
            transport[TCP_FLAGS] &= (uint8_t)~(TCP_FIN | TCP_PSH);
        sum += (uint64_t)htonl(sequence) + htons(transport[TCP_FLAGS]);
    } else {
        put16(transport + UDP_LENGTH, (uint16_t)transport_length);
        if (segmenter->no_checksum)
            return;
        sum += htons((uint16_t)transport_length);
    }
    uint16_t check = finish(sum + checksum_add(0, payload, length));
    if (!segmenter->tcp && check == 0)
        check = 0xFFFF; /* 0 says "no checksum" (RFC 768) */
    memcpy(transport + checksum_field(segmenter->tcp), &check, 2);
}

bool segment_next(struct segmenter *segmenter, const struct segment_limits *limits,
                  const struct segment_space *space, struct segment_group *group)
{
    unsigned count = group_size(segmenter, limits, space);
    if (count == 0)
        return false;
    uint8_t *headers = space->headers;
    struct iovec *iov = space->iov;
    size_t bytes = 0, size = 0;
    for (unsigned index = segmenter->next; index < segmenter->next + count; index++, iov += 2) {
        uint8_t *payload =
            segmenter->packet + segmenter->header_length + (size_t)index * segmenter->gso_size;
        uint8_t *header = headers + limits->encap_length;
        size_t length = payload_of(segmenter, index);

        memcpy(header, segmenter->packet, segmenter->header_length);
        write_headers(segmenter, index, header, payload, length);
        if (limits->encap_length > 0)
            memcpy(headers, limits->encap, limits->encap_length);
        iov[0].iov_base = headers;
        iov[0].iov_len = limits->encap_length + segmenter->header_length;
        iov[1].iov_base = payload;
        iov[1].iov_len = length;
        headers += iov[0].iov_len;
        size = iov[0].iov_len + length;
        bytes += size;
    }
    *group = (struct segment_group){
        .segments = count,
        .datagram = count > 1 ? limits->encap_length + segmenter->segment_length : size,
        .last = size,
        .bytes = bytes,
    };
    segmenter->next += count;
    return true;
}
