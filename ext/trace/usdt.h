/* SPDX-License-Identifier: Apache-2.0
 *
 * usdt: the probe udpoverlay:packet, for bpftrace, gdb and what else reads such notes.
 *
 * Owns: what a tracer is told of a packet, and whether one listens. Must not know: who decides about
 * packets.
 *
 * A tracer finds the probe by a note in the ELF file, in the format of systemtap's <sys/sdt.h>, which
 * need not be there to build it. While it listens, the kernel keeps the semaphore above zero; as long as
 * it is zero, a packet costs the look at it.
 */
#ifndef UDPOVERLAY_USDT_H
#define UDPOVERLAY_USDT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "verdict.h"

/* Elsewhere there is no probe. */
#if defined(__LP64__) && (defined(__x86_64__) || defined(__aarch64__))
#define USDT_SUPPORTED 1
#else
#define USDT_SUPPORTED 0
#endif

/* Tracers that listen. Written from outside of the process; <sys/sdt.h> dictates the name. */
extern volatile uint16_t udpoverlay_packet_semaphore __attribute__((visibility("hidden")));

static inline bool usdt_is_on(void)
{
    return USDT_SUPPORTED && __builtin_expect(udpoverlay_packet_semaphore != 0, 0);
}

/*
 * The packet of `count` pieces, behind `header` bytes of the first, has come to its end. The arguments of
 * the probe, 8 bytes each:
 *
 *     arg0  the verdict's name, a C string like "outbound_no_route"
 *     arg1  `point`: 0 tun-in, 1 udp-out, 2 udp-in, 3 tun-out (enum packet_point)
 *     arg2  `peer`: its IPv4 address, in memory as on the wire; 0: not known
 *     arg3  bytes of the inner packet; 0: it was not at hand any more
 *     arg4  where its IP header begins, in this process; NULL with length 0
 */
void usdt_packet(enum verdict verdict, unsigned point, uint32_t peer, const struct iovec *pieces,
                 unsigned count, unsigned header);

#endif
