/* SPDX-License-Identifier: Apache-2.0
 *
 * address: what an IPv4 address may be used for, and one form for addresses of both families.
 *
 * Owns: the special ranges. Must not know: which addresses are ours or a peer's.
 */
#ifndef UDPOVERLAY_ADDRESS_H
#define UDPOVERLAY_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Not zero (0/8), loopback (127/8), or anything from 224/4 on: multicast, reserved, broadcast. What
 * fails is no single host (RFC 1122 section 3.2.2). */
static inline bool address_is_unicast(const uint8_t address[static 4])
{
    return address[0] != 0 && address[0] != 127 && address[0] < 224;
}

/* Also not link-local (169.254/16): no router forwards those (RFC 3927 section 2.7), and clouds
 * answer for their machines' credentials there. */
static inline bool address_is_routable(const uint8_t address[static 4])
{
    return address_is_unicast(address) && !(address[0] == 169 && address[1] == 254);
}

/* An IPv4 or IPv6 address in 16 bytes: IPv4 is mapped (RFC 4291 section 2.5.5.2). */
struct address {
    uint8_t bytes[16];
};

static inline void address_from_ipv4(struct address *address, const void *ipv4)
{
    static const uint8_t prefix[12] = {[10] = 0xFF, [11] = 0xFF};
    memcpy(address->bytes, prefix, sizeof(prefix));
    memcpy(address->bytes + 12, ipv4, 4);
}

#endif
