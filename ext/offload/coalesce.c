/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "packet/bytes.h"
#include "packet/checksum.h"
#include "offload/coalesce_view.h"
#include "offload/offload.h"
#include "packet/transport.h"

/* ---- writing --------------------------------------------------------------------------------- */

static void write_plain(struct coalescer *coalescer, uint8_t *packet, size_t length)
{
    static uint8_t nothing[VNET_HEADER_LENGTH]; /* GSO_NONE, no flags; never written to */
    const struct iovec iov[2] = {
        {.iov_base = nothing, .iov_len = VNET_HEADER_LENGTH},
        {.iov_base = packet, .iov_len = length},
    };
    const struct coalesce_write write = {
        .iov = iov, .iov_count = 2, .packets = 1, .length = VNET_HEADER_LENGTH + length};

    coalescer->counters.plain++;
    coalescer->deliver(coalescer->context, &write);
}

/* Makes the headers of the whole run from those of its first packet (already copied). */
static void finish_headers(struct coalesce_flow *flow)
{
    uint8_t *packet = flow->header + VNET_HEADER_LENGTH;
    uint8_t *transport = packet + flow->transport;
    size_t length = flow->header_length + flow->payload_length;
    size_t rest = length - flow->transport;
    struct vnet vnet = {
        .flags = VNET_F_NEEDS_CSUM,
        .gso_type = VNET_GSO_UDP_L4,
        .header_length = flow->header_length,
        .gso_size = flow->gso_size,
        .csum_start = flow->transport,
        .csum_offset = UDP_CHECKSUM,
    };

    if (flow->tcp) {
        vnet.gso_type = flow->ipv6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4;
        vnet.csum_offset = TCP_CHECKSUM;
        if (transport[TCP_FLAGS] & TCP_CWR)
            vnet.gso_type |= VNET_GSO_ECN;
        if (flow->push)
            transport[TCP_FLAGS] |= TCP_PSH;
    } else {
        put16(transport + UDP_LENGTH, (uint16_t)rest);
    }
    vnet_store(flow->header, &vnet);

    if (flow->ipv6) {
        put16(packet + IPV6_PAYLOAD_LENGTH, (uint16_t)(length - IPV6_HEADER));
    } else {
        put16(packet + IPV4_TOTAL_LENGTH, (uint16_t)length);
        put16(packet + IPV4_CHECKSUM, 0);
        uint16_t sum = checksum_finish(checksum_add(0, packet, IPV4_HEADER_MIN));
        memcpy(packet + IPV4_CHECKSUM, &sum, 2);
    }
    /* NEEDS_CSUM: the field holds the pseudo-header's sum, not inverted. */
    uint16_t sum = checksum_fold(
        checksum_pseudo(packet + addresses_at(flow->ipv6), addresses_length(flow->ipv6),
                        flow->tcp ? PROTOCOL_TCP : PROTOCOL_UDP, (uint32_t)rest));
    memcpy(transport + vnet.csum_offset, &sum, 2);
}

static void write_run(struct coalescer *coalescer, struct coalesce_flow *flow)
{
    if (flow->packets == 1) {
        write_plain(coalescer, flow->first, flow->header_length + flow->payload_length);
        return;
    }
    finish_headers(flow);
    flow->iov[0].iov_base = flow->header;
    flow->iov[0].iov_len = VNET_HEADER_LENGTH + (size_t)flow->header_length;
    const struct coalesce_write write = {
        .iov = flow->iov,
        .iov_count = (uint16_t)(flow->packets + 1U),
        .packets = flow->packets,
        .header_length = flow->header_length,
        .length = flow->iov[0].iov_len + flow->payload_length,
    };
    coalescer->counters.supers++;
    coalescer->counters.coalesced += flow->packets;
    coalescer->deliver(coalescer->context, &write);
}

/* The packet at hand may have another tag than the run that has to go before it. */
static void write_flow(struct coalescer *coalescer, struct coalesce_flow *flow)
{
    const uint16_t tag = coalescer->tag;

    coalescer->tag = flow->tag;
    write_run(coalescer, flow);
    coalescer->tag = tag;
}

/* ---- the table of pending flows -------------------------------------------------------------- */

/* `order` is a permutation of all slots: the first `used` are pending, oldest first. */

static inline struct coalesce_flow *flow_at(struct coalescer *coalescer, unsigned position)
{
    return &coalescer->flows[coalescer->order[position]];
}

static void write_and_remove(struct coalescer *coalescer, unsigned position)
{
    uint8_t slot = coalescer->order[position];
    unsigned behind = --coalescer->used - position;

    memmove(coalescer->order + position, coalescer->order + position + 1, behind);
    memmove(coalescer->hashes + position, coalescer->hashes + position + 1,
            behind * sizeof(uint32_t));
    coalescer->order[coalescer->used] = slot;
    write_flow(coalescer, &coalescer->flows[slot]);
}

static bool same_addresses(const struct coalesce_flow *flow, const struct view *view)
{
    /* Constant lengths, so that no function is called. */
    if (flow->ipv6 != view->ipv6)
        return false;
    if (view->ipv6)
        return memcmp(flow->first + IPV6_SOURCE, view->packet + IPV6_SOURCE, 32) == 0;
    return memcmp(flow->first + IPV4_SOURCE, view->packet + IPV4_SOURCE, 8) == 0;
}

static bool same_flow(const struct coalesce_flow *flow, const struct view *view)
{
    return flow->tcp == view->tcp && same_addresses(flow, view) &&
           memcmp(flow->first + flow->transport, view->packet + view->transport, 4) == 0;
}

/* The position of the packet's flow, or coalescer->used. */
static unsigned find(const struct coalescer *coalescer, const struct view *view)
{
    unsigned position = 0;

    for (; position < coalescer->used; position++)
        if (coalescer->hashes[position] == view->hash &&
            same_flow(&coalescer->flows[coalescer->order[position]], view))
            break;
    return position;
}

/* Writes every flow between the two addresses of a packet whose ports are not known. */
static void write_between(struct coalescer *coalescer, const struct view *view)
{
    for (unsigned position = 0; position < coalescer->used;) {
        if (same_addresses(flow_at(coalescer, position), view))
            write_and_remove(coalescer, position);
        else
            position++;
    }
}

/* ---- runs ------------------------------------------------------------------------------------ */

static void start_run(struct coalescer *coalescer, const struct view *view)
{
    /* Nothing may follow PSH: waiting would gain nothing. */
    if (view->tcp && view->flags & TCP_PSH) {
        write_plain(coalescer, view->packet, view->length);
        return;
    }
    if (coalescer->used == COALESCE_FLOWS) {
        coalescer->counters.evicted++;
        write_and_remove(coalescer, 0);
    }
    unsigned position = coalescer->used++;
    struct coalesce_flow *flow = flow_at(coalescer, position);
    const uint8_t *transport = view->packet + view->transport;
    coalescer->hashes[position] = view->hash;
    flow->first = view->packet;
    flow->tag = coalescer->tag;
    flow->ipv6 = view->ipv6;
    flow->tcp = view->tcp;
    flow->push = false;
    flow->verified = false;
    flow->packets = 1;
    flow->transport = view->transport;
    flow->header_length = view->header_length;
    flow->payload_length = view->payload_length;
    flow->gso_size = (uint16_t)view->payload_length;
    if (!view->ipv6)
        flow->next_id = (uint16_t)(get16(view->packet + IPV4_ID) + 1);
    if (view->tcp)
        flow->sequence = get32(transport + TCP_SEQUENCE) + (uint32_t)view->payload_length;
    flow->iov[1].iov_base = view->packet + view->header_length;
    flow->iov[1].iov_len = view->payload_length;
}

/* Whether the packet, of the same flow, differs from the run's first only as a segment may. */
static bool continues(const struct coalescer *coalescer, const struct coalesce_flow *flow,
                      const struct view *view)
{
    const uint8_t *first = flow->first, *packet = view->packet;
    unsigned limit = coalescer->max_segments;

    if (!flow->tcp && limit > COALESCE_UDP_SEGMENTS)
        limit = COALESCE_UDP_SEGMENTS;
    if (flow->packets >= limit || flow->tag != coalescer->tag ||
        view->header_length != flow->header_length || view->payload_length > flow->gso_size ||
        flow->header_length + flow->payload_length + view->payload_length > COALESCE_MAX_LENGTH)
        return false;
    if (flow->ipv6) {
        if (memcmp(first, packet, IPV6_PAYLOAD_LENGTH) != 0 ||
            first[IPV6_HOP_LIMIT] != packet[IPV6_HOP_LIMIT])
            return false;
    } else {
        if (first[IPV4_TOS] != packet[IPV4_TOS] || first[IPV4_TTL] != packet[IPV4_TTL] ||
            memcmp(first + IPV4_FRAGMENT, packet + IPV4_FRAGMENT, 2) != 0 ||
            get16(packet + IPV4_ID) != flow->next_id)
            return false;
    }
    if (!flow->tcp)
        return true;

    const uint8_t *tcp = packet + view->transport, *tcp_first = first + flow->transport;
    return get32(tcp + TCP_SEQUENCE) == flow->sequence &&
           (view->flags & (uint8_t)~TCP_PSH) == (tcp_first[TCP_FLAGS] & (uint8_t)~TCP_CWR) &&
           memcmp(tcp + TCP_ACKNOWLEDGMENT, tcp_first + TCP_ACKNOWLEDGMENT, 5) == 0 &&
           memcmp(tcp + TCP_WINDOW, tcp_first + TCP_WINDOW, 2) == 0 &&
           memcmp(tcp + TCP_URGENT, tcp_first + TCP_URGENT,
                  (size_t)(view->header_length - view->transport - TCP_URGENT)) == 0;
}

static void append(struct coalescer *coalescer, unsigned position, const struct view *view)
{
    struct coalesce_flow *flow = flow_at(coalescer, position);

    if (flow->packets == 1)
        memcpy(flow->header + VNET_HEADER_LENGTH, flow->first, flow->header_length);
    flow->packets++;
    flow->next_id++;
    flow->sequence += (uint32_t)view->payload_length;
    flow->payload_length += view->payload_length;
    flow->push = view->tcp && view->flags & TCP_PSH;
    flow->iov[flow->packets].iov_base = view->packet + view->header_length;
    flow->iov[flow->packets].iov_len = view->payload_length;
    if (flow->push || view->payload_length < flow->gso_size)
        write_and_remove(coalescer, position);
}

/* A packet that may be part of a run and whose flow is pending at `position`. */
static void continue_run(struct coalescer *coalescer, unsigned position, const struct view *view)
{
    struct coalesce_flow *flow = flow_at(coalescer, position);

    if (!continues(coalescer, flow, view)) {
        write_and_remove(coalescer, position);
        start_run(coalescer, view);
        return;
    }
    if (!flow->verified) {
        flow->verified = checksums_right(flow->first, flow->header_length + flow->payload_length,
                                         flow->transport, flow->ipv6, flow->tcp);
        if (!flow->verified) {
            coalescer->counters.bad_checksum++;
            write_and_remove(coalescer, position);
            start_run(coalescer, view);
            return;
        }
    }
    if (!checksums_right(view->packet, view->length, view->transport, view->ipv6, view->tcp)) {
        coalescer->counters.bad_checksum++;
        write_and_remove(coalescer, position);
        write_plain(coalescer, view->packet, view->length);
        return;
    }
    append(coalescer, position, view);
}

/* ---- the face -------------------------------------------------------------------------------- */

void coalesce_init(struct coalescer *coalescer, unsigned kinds, unsigned max_segments,
                   coalesce_deliver *deliver, void *context)
{
    coalescer->counters = (struct coalesce_counters){0};
    coalescer->kinds = max_segments > 1 ? kinds : 0;
    coalescer->max_segments =
        max_segments < COALESCE_MAX_SEGMENTS ? max_segments : COALESCE_MAX_SEGMENTS;
    coalescer->deliver = deliver;
    coalescer->context = context;
    coalescer->used = 0;
    for (unsigned slot = 0; slot < COALESCE_FLOWS; slot++)
        coalescer->order[slot] = (uint8_t)slot;
}

void coalesce_add(struct coalescer *coalescer, uint8_t *packet, size_t length, uint16_t tag)
{
    struct view view = {.packet = packet, .length = length};
    enum outlook outlook = coalescer->kinds == 0 ? ALONE : view_packet(&view, coalescer->kinds);

    coalescer->tag = tag;
    if (outlook == OPAQUE)
        write_between(coalescer, &view);
    unsigned position = outlook >= FLOW ? find(coalescer, &view) : coalescer->used;
    if (outlook == RUN) {
        if (position < coalescer->used)
            continue_run(coalescer, position, &view);
        else
            start_run(coalescer, &view);
        return;
    }
    if (position < coalescer->used)
        write_and_remove(coalescer, position);
    write_plain(coalescer, packet, length);
}

void coalesce_flush(struct coalescer *coalescer)
{
    while (coalescer->used > 0)
        write_and_remove(coalescer, 0);
}
