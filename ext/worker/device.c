/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* EBADFD */
#include "worker/device.h"

#include <netinet/in.h>
#include <unistd.h>

#include "offload/offload.h"
#include "packet/bytes.h"
#include "packet/packet.h"

bool device_is_gone(int error)
{
    return error == EBADFD || error == EBADF || error == EFAULT || error == ENODEV;
}

ssize_t device_read(const struct device *device, uint8_t *packet)
{
    const ssize_t header = device->vnet_header ? VNET_HEADER_LENGTH : 0;
    for (;;) {
        ssize_t length =
            read(device->queues[0], packet - header, (size_t)header + DEVICE_PACKET_MAX);
        stats_count(device->stats, COUNTER_TUN_READ_CALLS, 1);
        if (length >= 0)
            return length > header ? length - header : 0;
        if (errno == EINTR)
            continue;
        if (device_is_gone(errno))
            return -errno;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            stats_count(device->stats, COUNTER_TUN_READ_FAILED, 1);
        return -EAGAIN;
    }
}

/* The queue for a packet whose headers begin at `bytes`: one flow, one queue, both ways. */
static int queue_of(const struct device *device, const uint8_t *bytes, size_t length)
{
    if (device->queue_count == 1)
        return device->queues[0];

    const bool ipv6 = bytes[0] >> 4 == 6;
    const size_t header = ipv6 ? IPV6_HEADER : (size_t)(bytes[0] & 0x0F) * 4;
    const uint8_t *address = bytes + (ipv6 ? IPV6_SOURCE : IPV4_SOURCE);
    uint32_t hash = 0;
    for (size_t i = 0; i < (ipv6 ? 32 : 8); i += 4)
        hash ^= get32(address + i);
    const uint8_t protocol = bytes[ipv6 ? IPV6_NEXT_HEADER : IPV4_PROTOCOL];
    if ((protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) && length >= header + 4 &&
        (ipv6 || (get16(bytes + IPV4_FRAGMENT) & 0x3FFF) == 0))
        hash ^= (uint32_t)(get16(bytes + header) ^ get16(bytes + header + 2)) * 0x10001U;
    hash *= 0x9E3779B1U; /* 2^32 / golden ratio: spreads close values (Knuth 6.4) */
    return device->queues[(uint64_t)hash * device->queue_count >> 32];
}

static int write_to(const struct device *device, int fd, const struct iovec *iov, unsigned count)
{
    ssize_t written;

    do {
        written = writev(fd, iov, (int)count);
        stats_count(device->stats, COUNTER_TUN_WRITE_CALLS, 1);
    } while (written < 0 && errno == EINTR);
    return written < 0 ? -errno : 0;
}

int device_write(const struct device *device, const uint8_t *bytes, size_t length)
{
    static const uint8_t no_offload[VNET_HEADER_LENGTH];
    /* writev reads only, whatever the type of iov_base says. */
    const struct iovec iov[2] = {
        {.iov_base = (void *)(uintptr_t)no_offload, .iov_len = sizeof(no_offload)},
        {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length},
    };
    const unsigned skip = device->vnet_header ? 0 : 1;

    return write_to(device, queue_of(device, bytes, length), iov + skip, 2 - skip);
}

int device_write_pieces(const struct device *device, const struct iovec *first,
                        const struct iovec *iov, unsigned count)
{
    return write_to(device, queue_of(device, first->iov_base, first->iov_len), iov, count);
}
