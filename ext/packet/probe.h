/* SPDX-License-Identifier: Apache-2.0
 *
 * probe: an ICMP echo through the tunnel that proves from which address a peer sends.
 *
 * Owns: its layout. Must not know: who is probed, when, sockets.
 *
 * A probe is sent to where the registry says that a lease's holder listens, and carries a
 * random number. What comes back with that number was sent by the holder, so the outer
 * address that it comes from is one of the holder's: a NAT's, another interface's. Any host answers
 * an echo, so a flanneld needs to know nothing of it; udpoverlay answers itself, whatever the
 * packet filter of its host does with pings.
 *
 *     IPv4, 20 bytes: the sender's tunnel address → the receiver's
 *     ICMP, 8 bytes: echo request (8) or reply (0), identifier and sequence number "uo" "vl"
 *     8 bytes "udpovrly", 8 bytes of nonce
 */
#ifndef UDPOVERLAY_PROBE_H
#define UDPOVERLAY_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROBE_LENGTH = 20 + 8 + 16 };

enum probe_kind { PROBE_NONE, PROBE_REQUEST, PROBE_REPLY };

/* Writes a request; the nonce is kept in this machine's byte order and means nothing but itself. */
void probe_build(uint8_t out[static PROBE_LENGTH], const uint8_t source[static 4],
                 const uint8_t destination[static 4], uint64_t nonce);

/* What the packet is; its nonce in *nonce unless it is PROBE_NONE. Checksums are not looked at: the
 * nonce is either the one or another. */
enum probe_kind probe_read(const uint8_t *packet, size_t length, uint64_t *nonce);

/* Turns a request into the reply to it, in place. */
void probe_answer(uint8_t packet[static PROBE_LENGTH]);

#endif
