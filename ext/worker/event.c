/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/event.h"

#include <string.h>

/* The other host's address, network order; 0: not known. */
static uint32_t remote_of(const struct stats *stats, const struct packet_event *event)
{
    uint32_t remote;

    if (!event->remote)
        return atomic_load_explicit(&stats->remotes[event->peer], memory_order_relaxed);
    memcpy(&remote, event->remote, sizeof(remote));
    return remote;
}

void packet_record(struct stats *stats, const struct packet_event *event)
{
    const struct recorder_facts facts = {
        .verdict = (uint8_t)event->verdict,
        .point = (uint8_t)event->point,
        .dropped = verdict_facts[event->verdict].kind == VERDICT_KIND_DROP,
        .header = event->header,
        .packets = event->run,
        .remote = remote_of(stats, event),
    };

    recorder_put(stats->recorder, &facts, event->pieces, event->count);
}

void packet_probe(const struct stats *stats, const struct packet_event *event)
{
    usdt_packet(event->verdict, event->point, remote_of(stats, event), event->pieces, event->count,
                event->header);
}
