/* SPDX-License-Identifier: Apache-2.0
 *
 * checksum: the internet checksum (RFC 1071) of any length at any alignment.
 *
 * Owns: the implementations and the choice between them, made once when the library is loaded (the
 * widest instructions the CPU has; portable C otherwise). Must not know: packets.
 *
 * Sums are kept in the machine's own byte order: the one's complement sum does not care (RFC 1071
 * section 2 B), and `checksum_finish` yields the two bytes ready to be copied into a header as they
 * are. Only the last piece of a sum may have an odd length.
 */
#ifndef UDPOVERLAY_CHECKSUM_H
#define UDPOVERLAY_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Adds `length` bytes to `sum` (0, or what an earlier call returned). */
uint32_t checksum_add(uint32_t sum, const void *data, size_t length);

/* Adds the pseudo header of TCP and UDP (RFC 9293 section 3.1, RFC 8200 section 8.1). `addresses`
 * points at source and destination where they stand side by side in the packet: 8 bytes in an IPv4,
 * 32 bytes in an IPv6 header. `length` is that of the transport header and its payload. */
uint32_t checksum_pseudo(const uint8_t *addresses, size_t addresses_length, uint8_t protocol,
                         uint32_t length);

/* Folds to 16 bits, not inverted: a correct packet with its checksum in place gives 0xFFFF. */
uint16_t checksum_fold(uint32_t sum);

/* Folds and inverts: the value of a checksum field, in memory order. */
uint16_t checksum_finish(uint32_t sum);

struct checksum_implementation {
    const char *name;
    uint32_t (*add)(uint32_t sum, const void *data, size_t length);
};

/* Those that this CPU can run, best first; ends with a NULL name. The first is what
 * `checksum_add` uses, the last is the portable one. */
const struct checksum_implementation *checksum_implementations(void);

#endif
