/* SPDX-License-Identifier: Apache-2.0 */
#include "offload/coalesce_view.h"

#include <arpa/inet.h>
#include <string.h>

#include "packet/bytes.h"
#include "packet/checksum.h"
#include "offload/offload.h"
#include "packet/transport.h"

static uint32_t hash_flow(const struct view *view)
{
    /* Multiply and shift: only spreads flows over 32 bits, equality is decided by the bytes. */
    const uint64_t factor = 0x9E3779B97F4A7C15U;
    const uint8_t *addresses = view->packet + addresses_at(view->ipv6);
    uint32_t ports;
    uint64_t word, hash;

    memcpy(&ports, view->packet + view->transport, 4);
    hash = (uint64_t)ports << 1 | view->tcp;
    for (size_t i = 0; i < addresses_length(view->ipv6); i += 8) {
        memcpy(&word, addresses + i, 8);
        hash = (hash ^ word) * factor;
        hash ^= hash >> 32;
    }
    return (uint32_t)hash;
}

/* TCP: what kind of segment it is, beyond being one. */
static enum outlook view_tcp(struct view *view)
{
    const uint8_t *tcp = view->packet + view->transport;
    size_t room = view->length - view->transport;
    size_t header = (size_t)(tcp[TCP_OFFSET] >> 4) * 4;

    if (header < TCP_HEADER_MIN || header >= room)
        return FLOW;
    view->flags = tcp[TCP_FLAGS];
    view->header_length = (uint16_t)(view->transport + header);
    view->payload_length = room - header;
    if ((view->flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK | TCP_URG)) != TCP_ACK)
        return FLOW;
    /* 0xFFFF and 0 are the same sum. Segmentation writes 0: the other would not come back. */
    return get16(tcp + TCP_CHECKSUM) == 0xFFFF ? FLOW : RUN;
}

static enum outlook view_udp(struct view *view)
{
    const uint8_t *udp = view->packet + view->transport;
    size_t room = view->length - view->transport;

    view->header_length = (uint16_t)(view->transport + UDP_HEADER);
    view->payload_length = room - UDP_HEADER;
    if (get16(udp + UDP_LENGTH) != room || view->payload_length == 0)
        return FLOW;
    return get16(udp + UDP_CHECKSUM) == 0 ? FLOW : RUN;
}

enum outlook view_packet(struct view *view, unsigned kinds)
{
    const uint8_t *packet = view->packet;
    uint8_t protocol;
    bool plain; /* the transport header follows the shortest IP header, and all of it is here */

    if (view->length < IPV4_HEADER_MIN)
        return ALONE;
    view->ipv6 = packet[0] >> 4 == 6;
    if (view->ipv6) {
        if (view->length < IPV6_HEADER)
            return ALONE;
        protocol = packet[IPV6_NEXT_HEADER];
        if (protocol == PROTOCOL_ICMPV6)
            return ALONE;
        view->transport = IPV6_HEADER;
        plain = get16(packet + IPV6_PAYLOAD_LENGTH) == view->length - IPV6_HEADER &&
                (protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP);
    } else {
        protocol = packet[IPV4_PROTOCOL];
        if (protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP)
            return ALONE;
        view->transport = IPV4_HEADER_MIN;
        plain = packet[0] == (4 << 4 | IPV4_HEADER_MIN / 4) &&
                get16(packet + IPV4_TOTAL_LENGTH) == view->length &&
                !(get16(packet + IPV4_FRAGMENT) & (uint16_t)~IPV4_DONT_FRAGMENT) &&
                get16(packet + IPV4_CHECKSUM) != 0xFFFF; /* as with TCP's */
    }
    view->tcp = protocol == PROTOCOL_TCP;
    size_t least = view->transport + (size_t)(view->tcp ? TCP_HEADER_MIN : UDP_HEADER);
    if (!plain || view->length < least)
        return OPAQUE;
    if (!(kinds & (view->tcp    ? view->ipv6 ? COALESCE_TCP6 : COALESCE_TCP4
                   : view->ipv6 ? COALESCE_UDP6
                                : COALESCE_UDP4)))
        return ALONE;
    view->hash = hash_flow(view);
    return view->tcp ? view_tcp(view) : view_udp(view);
}

/* A sum of fewer than 2^32 words of 32 bits, as checksum.h keeps it. */
static inline uint32_t fold32(uint64_t sum)
{
    sum = (sum & 0xFFFFFFFFU) + (sum >> 32);
    return (uint32_t)((sum & 0xFFFFFFFFU) + (sum >> 32));
}

/* A few words of 32 bits, summed where they stand: a call would take longer than the sum. */
static inline uint64_t add_words(uint64_t sum, const uint8_t *words, size_t length)
{
    for (size_t i = 0; i < length; i += 4) {
        uint32_t word;
        memcpy(&word, words + i, 4);
        sum += word;
    }
    return sum;
}

bool checksums_right(const uint8_t *packet, size_t length, size_t transport, bool ipv6, bool tcp)
{
    size_t rest = length - transport;
    uint64_t sum = (uint64_t)htons((uint16_t)rest) + htons(tcp ? PROTOCOL_TCP : PROTOCOL_UDP);

    if (ipv6) {
        sum = add_words(sum, packet + IPV6_SOURCE, 32);
    } else {
        if (checksum_fold(fold32(add_words(0, packet, IPV4_HEADER_MIN))) != 0xFFFF)
            return false;
        sum = add_words(sum, packet + IPV4_SOURCE, 8);
    }
    return checksum_fold(checksum_add(fold32(sum), packet + transport, rest)) == 0xFFFF;
}
