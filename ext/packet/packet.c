/* SPDX-License-Identifier: Apache-2.0 */
#include "packet/packet.h"

#include "packet/bytes.h"

static enum packet_check check_ipv4(const uint8_t *bytes, size_t received, struct packet *packet)
{
    size_t header_length = (size_t)(bytes[0] & 0x0F) * 4;
    if (header_length < IPV4_HEADER_MIN || header_length > received)
        return PACKET_BAD_HEADER;
    size_t length = get16(bytes + IPV4_TOTAL_LENGTH);
    if (length < header_length || length > received)
        return PACKET_BAD_LENGTH;
    packet->length = (uint32_t)length;
    packet->header_length = (uint8_t)header_length;
    packet->version = 4;
    packet->protocol = bytes[IPV4_PROTOCOL];
    return PACKET_OK;
}

static enum packet_check check_ipv6(const uint8_t *bytes, size_t received, struct packet *packet)
{
    if (received < IPV6_HEADER)
        return PACKET_TOO_SHORT;
    size_t payload = get16(bytes + IPV6_PAYLOAD_LENGTH);
    if (payload > received - IPV6_HEADER)
        return PACKET_BAD_LENGTH;
    /* Length 0 before hop-by-hop options means a jumbogram (RFC 2675); no datagram holds one. */
    if (payload == 0 && bytes[IPV6_NEXT_HEADER] == 0)
        return PACKET_BAD_LENGTH;
    packet->length = (uint32_t)(IPV6_HEADER + payload);
    packet->header_length = IPV6_HEADER;
    packet->version = 6;
    packet->protocol = bytes[IPV6_NEXT_HEADER];
    return PACKET_OK;
}

enum packet_check packet_check(const uint8_t *bytes, size_t received, unsigned families,
                               struct packet *packet)
{
    if (received < IPV4_HEADER_MIN)
        return PACKET_TOO_SHORT;
    unsigned version = bytes[0] >> 4;
    if (version == 4 && (families & PACKET_IPV4))
        return check_ipv4(bytes, received, packet);
    if (version == 6 && (families & PACKET_IPV6))
        return check_ipv6(bytes, received, packet);
    return PACKET_WRONG_VERSION;
}

enum verdict packet_refusal(enum direction direction, enum packet_check check)
{
    static const enum verdict refusals[DIRECTION_COUNT][PACKET_CHECK_COUNT] = {
        [DIRECTION_OUTBOUND] =
            {
                [PACKET_TOO_SHORT] = VERDICT_OUTBOUND_TOO_SHORT,
                [PACKET_WRONG_VERSION] = VERDICT_OUTBOUND_WRONG_VERSION,
                [PACKET_BAD_HEADER] = VERDICT_OUTBOUND_BAD_HEADER,
                [PACKET_BAD_LENGTH] = VERDICT_OUTBOUND_BAD_LENGTH,
            },
        [DIRECTION_INBOUND] =
            {
                [PACKET_TOO_SHORT] = VERDICT_INBOUND_TOO_SHORT,
                [PACKET_WRONG_VERSION] = VERDICT_INBOUND_WRONG_VERSION,
                [PACKET_BAD_HEADER] = VERDICT_INBOUND_BAD_HEADER,
                [PACKET_BAD_LENGTH] = VERDICT_INBOUND_BAD_LENGTH,
            },
    };
    return refusals[direction][check];
}

int packet_decrease_ttl(uint8_t *bytes, const struct packet *packet)
{
    if (packet->version == 6) {
        if (bytes[IPV6_HOP_LIMIT] <= 1)
            return 0;
        bytes[IPV6_HOP_LIMIT]--;
        return 1;
    }
    if (bytes[IPV4_TTL] <= 1)
        return 0;
    bytes[IPV4_TTL]--;
    /* The word TTL|protocol fell by 0x0100, so the inverted sum rises by it; the end-around carry
     * is taken at 0xFFFF already, as Linux does: both name zero, and the bytes must be the same. */
    uint32_t check = get16(bytes + IPV4_CHECKSUM) + 0x0100U;
    put16(bytes + IPV4_CHECKSUM, (uint16_t)(check + (check >= 0xFFFFU)));
    return 1;
}
