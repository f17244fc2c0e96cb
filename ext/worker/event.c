/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/event.h"

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
