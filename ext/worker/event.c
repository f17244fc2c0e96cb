/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/event.h"

#include <string.h>

void packet_record(struct stats *stats, const struct packet_event *event)
{
    const struct recorder_facts facts = {
        .verdict = (uint8_t)event->verdict,
        .point = (uint8_t)event->point,
        .dropped = verdict_facts[event->verdict].kind == VERDICT_KIND_DROP,
        .header = event->header,
        .peer = event->peer,
        .packets = event->run,
        .remote = event->remote,
    };

    if (recorder_wants(stats->recorder, facts.dropped))
        recorder_put(stats->recorder, &facts, event->pieces, event->count);
}

void packet_probe(const struct stats *stats, const struct packet_event *event)
{
    uint32_t remote = atomic_load_explicit(&stats->remotes[event->peer], memory_order_relaxed);

    if (event->remote)
        memcpy(&remote, event->remote, sizeof(remote));
    usdt_packet(event->verdict, event->point, remote, event->pieces, event->count, event->header);
}
