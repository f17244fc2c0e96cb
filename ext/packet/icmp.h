/* SPDX-License-Identifier: Apache-2.0
 *
 * icmp: the ICMP errors that we originate, and the one rate limit over all of them.
 *
 * Owns: their layout, when none may be sent, and the token bucket. Must not know: what went wrong
 * with the offender, the TUN device, the clock (`now_ns` is given).
 *
 * Layout as flannel sends it (pkg/backend/udp/proxy_amd64.c, send_net_unreachable): an IPv4 header
 * of 20 bytes (TOS 0, id 0, TTL 8), 8 bytes of ICMP, the offender's header and the next 8 bytes.
 * Where the offender is shorter than that, zeros stand in its place.
 */
#ifndef UDPOVERLAY_ICMP_H
#define UDPOVERLAY_ICMP_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "packet/packet.h"

enum icmp_error { ICMP_ERROR_NET_UNREACHABLE, ICMP_ERROR_TIME_EXCEEDED };

/* The longest error: IPv4 header, ICMP header, a quoted header of 60 bytes, 8 bytes. */
enum { ICMP_ERROR_MAX = 20 + 8 + 60 + 8 };

/* Writes the error about `offender`, a packet that passed packet_check, to `out`. Returns its
 * length, or 0 when the offender must not be answered. `source` is the TUN device's address.
 *
 * Never answered: IPv6 (no ICMPv6 is originated), fragments but the first, a source that is not one
 * host (RFC 1122 section 3.2.2: zero, loopback, multicast, broadcast), a destination that is not
 * unicast.
 * Net unreachable is not sent about any ICMP message nor about a header of 60 bytes (flannel); time
 * exceeded is sent about echo requests, which is what `traceroute -I` lives on, but not about ICMP
 * errors. */
size_t icmp_error_build(uint8_t out[static ICMP_ERROR_MAX], enum icmp_error error,
                        const uint8_t source[static 4], const uint8_t *offender,
                        const struct packet *packet);

/* One token bucket for a whole tunnel: all workers share it, so the rate holds for their sum. It is
 * touched only when an error is due, never for a packet that is forwarded. Lock-free: one
 * compare-and-swap of a 32-bit word, which every CPU has. */
struct icmp_limiter {
    _Atomic uint32_t full_at; /* when the bucket is full again, in ticks of 2^14 ns modulo 2^32 */
    uint32_t interval;        /* ticks of one token */
    uint32_t depth;           /* ticks of the whole bucket: burst times interval */
};

/* Linux' own defaults for all ICMP of a host: net.ipv4.icmp_msgs_per_sec, icmp_msgs_burst. */
enum { ICMP_RATE_DEFAULT = 1000, ICMP_BURST_DEFAULT = 50 };

/* `rate` in errors a second (1..10,000), `burst` in errors (1..1,000): at most so many. -EINVAL
 * outside. */
int icmp_limiter_init(struct icmp_limiter *limiter, uint32_t rate, uint32_t burst);

/* 1 and takes a token, or 0. `now_ns` is a monotonic clock in nanoseconds. */
int icmp_limiter_take(struct icmp_limiter *limiter, uint64_t now_ns);

#endif
