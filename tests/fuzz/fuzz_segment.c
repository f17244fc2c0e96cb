/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer: super-packets with some bytes of them or of their vnet header changed, and any bytes
 * at all, under any limits.
 *
 * Input: 1 byte segments, 1 byte headers, 2 bytes most bytes of a group, 1 byte encapsulation, 1 byte
 * what. What, bit 0: the rest is vnet header and packet. Otherwise bits 1-2 say which kind of
 * super-packet, bits 3-7 its gso_size, the next byte its payload length in 16 bytes; the rest are
 * changes of 2 bytes, offset and xor.
 */
#include "offload_check.h"
#include "packets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t encap[32] = {0xEE};
    static uint8_t made[VNET_HEADER_LENGTH + 8192];
    struct vnet vnet;

    if (size < 7)
        return 0;
    struct segment_limits limits = {
        .segments = 1 + data[0] % SEGMENT_MAX_COUNT,
        .bytes = (size_t)(data[2] << 8 | data[3]),
        .encap = encap,
        .encap_length = data[4] % sizeof(encap),
    };
    size_t headers = (size_t)data[1] * 16, length;
    if (data[5] & 1) {
        length = size - 6 < sizeof(made) ? size - 6 : sizeof(made);
        memcpy(made, data + 6, length);
        if (length < VNET_HEADER_LENGTH)
            return 0;
    } else {
        struct flow flow = {data[5] & 2, data[5] & 4, 1, 0xFFFE, 0xFFFFFFF0};
        length = VNET_HEADER_LENGTH + packet_super(&flow, made, data[6] * 16U, 1U + (data[5] >> 3));
        for (size_t at = 7; at + 2 <= size; at += 2)
            made[data[at] % length] ^= data[at + 1];
    }

    uint8_t *packet = made + VNET_HEADER_LENGTH;
    length -= VNET_HEADER_LENGTH;
    vnet_load(&vnet, made);
    check_segments(&vnet, packet, length, &limits, headers, NULL, NULL);

    uint8_t *copy = exact_copy(packet, length);
    if (vnet_finish_checksum(&vnet, copy, length) < 0)
        CHECK(memcmp(copy, packet, length) == 0);
    free(copy);
    return 0;
}
