/* SPDX-License-Identifier: Apache-2.0 */
#include "packet/icmp.h"

#include <errno.h>
#include <string.h>

#include "packet/address.h"
#include "packet/bytes.h"
#include "packet/checksum.h"

enum {
    PROTOCOL_ICMP = 1,
    ICMP_HEADER = 8,
    ICMP_TYPE = 0,
    ICMP_CODE = 1,
    ICMP_CHECKSUM = 2,
    QUOTED_BYTES = 8, /* after the offender's header */
    ERROR_TTL = 8,
    FRAGMENT_OFFSET_MASK = 0x1FFF,
};

/* The limiter's clock: 2^14 ns, about 16 us, so that 32 bits span 19 hours. */
enum {
    TICK_SHIFT = 14,
    TICKS_PER_SECOND = 61036, /* rounded up */
    CLOCK_SKEW = 10 * TICKS_PER_SECOND,
};

static const struct {
    uint8_t type, code;
} kinds[] = {
    [ICMP_ERROR_NET_UNREACHABLE] = {3, 0},
    [ICMP_ERROR_TIME_EXCEEDED] = {11, 0},
};

/* The types of RFC 792 that report an error: 3, 4, 5, 11, 12. */
static int is_icmp_error(uint8_t type)
{
    return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

static int suppressed(enum icmp_error error, const uint8_t *offender, const struct packet *packet)
{
    if (packet->version != 4)
        return 1;
    if (get16(offender + IPV4_FRAGMENT) & FRAGMENT_OFFSET_MASK)
        return 1;
    if (!address_is_unicast(offender + IPV4_SOURCE) ||
        !address_is_unicast(offender + IPV4_DESTINATION))
        return 1;
    if (error == ICMP_ERROR_NET_UNREACHABLE)
        return packet->protocol == PROTOCOL_ICMP || packet->header_length >= IPV4_HEADER_MAX;
    /* An ICMP message without even a type could be an error: no answer. */
    return packet->protocol == PROTOCOL_ICMP && (packet->length == packet->header_length ||
                                                 is_icmp_error(offender[packet->header_length]));
}

size_t icmp_error_build(uint8_t out[static ICMP_ERROR_MAX], enum icmp_error error,
                        const uint8_t source[static 4], const uint8_t *offender,
                        const struct packet *packet)
{
    if (suppressed(error, offender, packet))
        return 0;

    size_t quoted = (size_t)packet->header_length + QUOTED_BYTES;
    size_t present = packet->length < quoted ? packet->length : quoted;
    size_t length = IPV4_HEADER_MIN + ICMP_HEADER + quoted;
    uint8_t *icmp = out + IPV4_HEADER_MIN;
    uint16_t check;

    memset(out, 0, length);
    out[0] = 0x45;
    put16(out + IPV4_TOTAL_LENGTH, (uint16_t)length);
    out[IPV4_TTL] = ERROR_TTL;
    out[IPV4_PROTOCOL] = PROTOCOL_ICMP;
    memcpy(out + IPV4_SOURCE, source, 4);
    memcpy(out + IPV4_DESTINATION, offender + IPV4_SOURCE, 4);
    check = checksum_finish(checksum_add(0, out, IPV4_HEADER_MIN));
    memcpy(out + IPV4_CHECKSUM, &check, sizeof(check));

    icmp[ICMP_TYPE] = kinds[error].type;
    icmp[ICMP_CODE] = kinds[error].code;
    memcpy(icmp + ICMP_HEADER, offender, present);
    check = checksum_finish(checksum_add(0, icmp, ICMP_HEADER + quoted));
    memcpy(icmp + ICMP_CHECKSUM, &check, sizeof(check));
    return length;
}

int icmp_limiter_init(struct icmp_limiter *limiter, uint32_t rate, uint32_t burst)
{
    if (rate < 1 || rate > 10000 || burst < 1 || burst > 1000)
        return -EINVAL;
    /* Rounded up, so that the rate is never exceeded. */
    limiter->interval = (TICKS_PER_SECOND + rate - 1) / rate;
    limiter->depth = burst * limiter->interval;
    atomic_init(&limiter->full_at, 0);
    return 0;
}

int icmp_limiter_take(struct icmp_limiter *limiter, uint64_t now_ns)
{
    /* The bucket as one number (GCRA): each token moves the time at which it is full on by one
     * interval. 32-bit ticks wrap every 19 hours. A time further ahead than the bucket is deep, and
     * further than two workers' clock readings can lie apart, can only be an old one: the bucket is
     * full. An old one that happens to lie nearer keeps errors back for some seconds; it never
     * grants one too many. */
    uint32_t now = (uint32_t)(now_ns >> TICK_SHIFT);
    uint32_t full_at = atomic_load_explicit(&limiter->full_at, memory_order_relaxed);
    for (;;) {
        uint32_t ahead = full_at - now;
        if (ahead > limiter->depth + CLOCK_SKEW)
            ahead = 0;
        if (ahead + limiter->interval > limiter->depth)
            return 0;
        uint32_t next = now + ahead + limiter->interval;
        if (atomic_compare_exchange_weak_explicit(&limiter->full_at, &full_at, next,
                                                  memory_order_relaxed, memory_order_relaxed))
            return 1;
    }
}
