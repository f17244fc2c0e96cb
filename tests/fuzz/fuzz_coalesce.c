/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer: batches of packets, most of them the next of some flow with a byte or so changed,
 * some of them anything. Rubbish alone would hardly ever have a checksum that lets it be coalesced.
 *
 * Input: 1 byte kinds, 1 byte most segments, then records of 6 bytes: what, flow, payload length,
 * and a change (offset, xor). What: bit 0 rubbish (the record's bytes themselves, repeated), bit 1
 * apply the change, bit 2 seal again after it, bit 3 repeat the packet, bits 4-5 cut bytes off.
 */
#include "offload_check.h"
#include "packets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct batch batch;
    static uint8_t packet[4096];
    struct flow flows[40];

    if (size < 2)
        return 0;
    for (unsigned i = 0; i < 40; i++)
        flows[i] = (struct flow){i & 1, i & 2, (uint16_t)(i >> 2), 0xFFF0, 0xFFFFFF00};
    for (size_t at = 2; at + 6 <= size && batch.count < BATCH_MAX - 1; at += 6) {
        const uint8_t *record = data + at;
        size_t length;
        if (record[0] & 1) {
            length = (size_t)record[1] % 64;
            for (size_t i = 0; i < length; i++)
                packet[i] = data[(at + i) % size];
        } else {
            struct flow *flow = &flows[record[1] % 40];
            length = packet_next(flow, packet, record[2], record[2]);
            if (record[0] & 2) {
                packet[(size_t)(record[3] | (record[4] & 1) << 8) % length] ^= record[5];
                if (record[0] & 4)
                    packet_seal(flow, packet, length);
            }
            if ((record[0] >> 4 & 3) == 3)
                length -= record[4] % length;
        }
        batch_put(&batch, packet, length);
        if (record[0] & 8)
            batch_put(&batch, packet, length);
    }
    check_coalesce(&batch, data[0] & 15, 1 + data[1] % COALESCE_MAX_SEGMENTS, NULL);
    batch_clear(&batch);
    return 0;
}
