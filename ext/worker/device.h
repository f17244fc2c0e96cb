/* SPDX-License-Identifier: Apache-2.0
 *
 * device: reads and writes on the queues of a TUN device.
 *
 * Owns: the system calls and their counters, where a packet's vnet header stands, which queue a
 * packet is written to. Must not know: what packets mean, what becomes of one that was refused.
 */
#ifndef UDPOVERLAY_DEVICE_H
#define UDPOVERLAY_DEVICE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "worker/stats.h"

enum {
    DEVICE_QUEUES_MAX = 64,
    DEVICE_PACKET_MAX = 65535, /* the longest packet or super-packet that a read brings */
};

struct device {
    int queues[DEVICE_QUEUES_MAX]; /* non-blocking, borrowed; reads are from the first */
    unsigned queue_count;
    bool vnet_header; /* packets carry a struct virtio_net_hdr */
    struct stats *stats;
};

/* Reads one packet so that it begins at `packet`, its vnet header, if any, right before it. The
 * packet's length, which is 0 when the read brought no more than a header; -EAGAIN when there is
 * none, another -errno when the device is gone. */
ssize_t device_read(const struct device *device, uint8_t *packet);

/* Writes one packet as it is: 0 or -errno. */
int device_write(const struct device *device, const uint8_t *bytes, size_t length);

/* Writes one super-packet, or a packet, with the vnet header in iov[0]; `first` has the headers of
 * its first packet. 0 or -errno. */
int device_write_pieces(const struct device *device, const struct iovec *first,
                        const struct iovec *iov, unsigned count);

/* Errors (positive) of a descriptor whose device was removed; what else it reports may pass. */
bool device_is_gone(int error);

#endif
