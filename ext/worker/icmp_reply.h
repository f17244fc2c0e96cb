/* SPDX-License-Identifier: Apache-2.0
 *
 * icmp_reply: hands our ICMP errors to the kernel.
 *
 * Owns: the way they take. Must not know: when one is due (outbound.c, inbound.c), how one looks
 * and what the rate limit is (packet/icmp.h).
 *
 * They leave through a raw socket: an error written to the TUN has the TUN's own address as its
 * source, which Linux drops as a martian (net/ipv4/fib_frontend.c, fib_validate_source) unless
 * accept_local is set on the device. Without a raw socket the TUN is tried all the same.
 */
#ifndef UDPOVERLAY_ICMP_REPLY_H
#define UDPOVERLAY_ICMP_REPLY_H

#include "packet/icmp.h"
#include "worker/device.h"
#include "worker/pump.h"

/* Answers a refused packet with an ICMP error, where one may be sent. */
void icmp_reply(struct pump *pump, const struct route_table *table, const struct device *device,
                enum icmp_error error, const uint8_t *bytes, const struct packet *packet);

#endif
