/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "packet/checksum.h"
#include "offload/offload.h"
#include "packet/packet.h"

void vnet_load(struct vnet *vnet, const uint8_t header[static VNET_HEADER_LENGTH])
{
    uint16_t words[4];

    memcpy(words, header + 2, sizeof(words));
    *vnet = (struct vnet){
        .flags = header[0],
        .gso_type = header[1],
        .header_length = words[0],
        .gso_size = words[1],
        .csum_start = words[2],
        .csum_offset = words[3],
    };
}

void vnet_store(uint8_t header[static VNET_HEADER_LENGTH], const struct vnet *vnet)
{
    const uint16_t words[4] = {vnet->header_length, vnet->gso_size, vnet->csum_start,
                               vnet->csum_offset};

    header[0] = vnet->flags;
    header[1] = vnet->gso_type;
    memcpy(header + 2, words, sizeof(words));
}

int vnet_finish_checksum(const struct vnet *vnet, uint8_t *packet, size_t length)
{
    if (!(vnet->flags & VNET_F_NEEDS_CSUM))
        return 0;
    size_t start = vnet->csum_start;
    size_t field = start + vnet->csum_offset;
    /* A sum that covered the IP header would change what decides where the packet goes. */
    if (length < IPV4_HEADER_MIN || field + 2 > length)
        return -EINVAL;
    size_t ip = packet[0] >> 4 == 6 ? IPV6_HEADER : (size_t)(packet[0] & 0x0F) * 4;
    if (start < ip || start < IPV4_HEADER_MIN)
        return -EINVAL;
    /* The field holds the pseudo-header's sum and is part of what is summed. */
    uint16_t sum = checksum_finish(checksum_add(0, packet + start, length - start));
    if (sum == 0)
        sum = 0xFFFF;
    memcpy(packet + field, &sum, 2);
    return 0;
}
