/* SPDX-License-Identifier: Apache-2.0
 *
 * delivery: packets that passed every check on their way to the TUN device.
 *
 * Owns: the coalescer of a worker, which of its super-packets the device takes, what a refused write
 * means, the turns that readers of UDP get. Must not know: where packets come from, peers, routes.
 */
#ifndef UDPOVERLAY_DELIVERY_H
#define UDPOVERLAY_DELIVERY_H

#include <stdbool.h>
#include <stdint.h>

#include "offload/fallback.h"
#include "offload/offload.h"
#include "worker/device.h"

/* Super-packets that the TUN may refuse one kind at a time: what a gso_type of its header stands for. */
enum delivery_kind { DELIVERY_TCP4, DELIVERY_TCP6, DELIVERY_UDP, DELIVERY_KINDS };

struct delivery {
    const struct device *device;
    unsigned wanted; /* COALESCE_*: what runs are to be made of where the device takes them */
    /* What the device refused of each kind. */
    struct fallback refusals[DELIVERY_KINDS];
    bool refusals_change; /* one is fallen back: look at them after each batch */
    struct coalescer coalescer;
    uint32_t undigested; /* receive buffer that delivered UDP packets take, in bytes */
    int fatal;           /* -errno met in a write; ends the worker after the batch */
};

/* Of zeros. `wanted`: COALESCE_*, 0 where the device has no vnet header. */
void delivery_init(struct delivery *delivery, const struct device *device, unsigned wanted);

/* Takes one packet from the peer with that slot; it must stay where it is until delivery_flush. */
void delivery_add(struct delivery *delivery, uint8_t *bytes, size_t length, uint16_t peer);

/* The end of a batch: writes what waits. No packet is referred to any more. */
void delivery_flush(struct delivery *delivery);

#endif
