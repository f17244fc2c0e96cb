/* SPDX-License-Identifier: Apache-2.0
 *
 * probe_reply: what a worker does with a probe (packet/probe.h) that it received.
 *
 * Owns: where an answer is sent. Must not know: which probes are out (probes.h).
 */
#ifndef UDPOVERLAY_PROBE_REPLY_H
#define UDPOVERLAY_PROBE_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/source_check.h"

/* Takes in a checked packet of the message at hand that may be a probe to our TUN address: true when
 * it was one. Answers leave through `udp_fd`. */
bool probe_take(struct source *source, int udp_fd, uint8_t *bytes, size_t length);

#endif
