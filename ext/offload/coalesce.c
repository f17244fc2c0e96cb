/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "packet/bytes.h"
#include "packet/checksum.h"
#include "offload/coalesce_view.h"
#include "offload/offload.h"
#include "packet/transport.h"

/* ---- writing --------------------------------------------------------------------------------- */

static void write_plain(struct fold *fold, uint8_t *packet, size_t length)
{
    static uint8_t nothing[VNET_HEADER_LENGTH]; /* GSO_NONE, no flags; never written to */
    const struct iovec iov[2] = {
        {.iov_base = nothing, .iov_len = VNET_HEADER_LENGTH},
        {.iov_base = packet, .iov_len = length},
    };
    const struct fold_write write = {
        .iov = iov, .iov_count = 2, .packets = 1, .length = VNET_HEADER_LENGTH + length};

    fold->tally.plain++;
    fold->deliver(fold->context, &write);
}

/* Makes the headers of the whole run from those of its first packet (already copied). */
static void finish_headers(struct fold_flow *flow)
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
    uint16_t sum = checksum_fold(checksum_pseudo(packet + addresses_at(flow->ipv6),
                                                 addresses_length(flow->ipv6),
                                                 flow->tcp ? PROTOCOL_TCP : PROTOCOL_UDP,
                                                 (uint32_t)rest));
    memcpy(transport + vnet.csum_offset, &sum, 2);
}

static void write_flow(struct fold *fold, struct fold_flow *flow)
{
    if (flow->packets == 1) {
        write_plain(fold, flow->first, flow->header_length + flow->payload_length);
        return;
    }
    finish_headers(flow);
    flow->iov[0].iov_base = flow->header;
    flow->iov[0].iov_len = VNET_HEADER_LENGTH + (size_t)flow->header_length;
    const struct fold_write write = {
        .iov = flow->iov,
        .iov_count = flow->packets + 1U,
        .packets = flow->packets,
        .header_length = flow->header_length,
        .length = flow->iov[0].iov_len + flow->payload_length,
    };
    fold->tally.supers++;
    fold->tally.folded += flow->packets;
    fold->deliver(fold->context, &write);
}

/* ---- the table of pending flows -------------------------------------------------------------- */

/* `order` is a permutation of all slots: the first `used` are pending, oldest first. */

static inline struct fold_flow *flow_at(struct fold *fold, unsigned position)
{
    return &fold->flows[fold->order[position]];
}

static void write_and_remove(struct fold *fold, unsigned position)
{
    uint8_t slot = fold->order[position];
    unsigned behind = --fold->used - position;

    memmove(fold->order + position, fold->order + position + 1, behind);
    memmove(fold->hashes + position, fold->hashes + position + 1, behind * sizeof(uint32_t));
    fold->order[fold->used] = slot;
    write_flow(fold, &fold->flows[slot]);
}

static bool same_addresses(const struct fold_flow *flow, const struct view *view)
{
    /* Constant lengths, so that no function is called. */
    if (flow->ipv6 != view->ipv6)
        return false;
    if (view->ipv6)
        return memcmp(flow->first + IPV6_SOURCE, view->packet + IPV6_SOURCE, 32) == 0;
    return memcmp(flow->first + IPV4_SOURCE, view->packet + IPV4_SOURCE, 8) == 0;
}

static bool same_flow(const struct fold_flow *flow, const struct view *view)
{
    return flow->tcp == view->tcp && same_addresses(flow, view) &&
           memcmp(flow->first + flow->transport, view->packet + view->transport, 4) == 0;
}

/* The position of the packet's flow, or fold->used. */
static unsigned find(const struct fold *fold, const struct view *view)
{
    unsigned position = 0;

    for (; position < fold->used; position++)
        if (fold->hashes[position] == view->hash &&
            same_flow(&fold->flows[fold->order[position]], view))
            break;
    return position;
}

/* Writes every flow between the two addresses of a packet whose ports are not known. */
static void write_between(struct fold *fold, const struct view *view)
{
    for (unsigned position = 0; position < fold->used;) {
        if (same_addresses(flow_at(fold, position), view))
            write_and_remove(fold, position);
        else
            position++;
    }
}

/* ---- runs ------------------------------------------------------------------------------------ */

static void start_run(struct fold *fold, const struct view *view)
{
    /* Nothing may follow PSH: waiting would gain nothing. */
    if (view->tcp && view->flags & TCP_PSH) {
        write_plain(fold, view->packet, view->length);
        return;
    }
    if (fold->used == FOLD_FLOWS) {
        fold->tally.evicted++;
        write_and_remove(fold, 0);
    }
    unsigned position = fold->used++;
    struct fold_flow *flow = flow_at(fold, position);
    const uint8_t *transport = view->packet + view->transport;
    fold->hashes[position] = view->hash;
    flow->first = view->packet;
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
static bool continues(const struct fold *fold, const struct fold_flow *flow,
                      const struct view *view)
{
    const uint8_t *first = flow->first, *packet = view->packet;
    unsigned limit = fold->max_segments;

    if (!flow->tcp && limit > FOLD_UDP_SEGMENTS)
        limit = FOLD_UDP_SEGMENTS;
    if (flow->packets >= limit || view->header_length != flow->header_length ||
        view->payload_length > flow->gso_size ||
        flow->header_length + flow->payload_length + view->payload_length > FOLD_MAX_LENGTH)
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

static void append(struct fold *fold, unsigned position, const struct view *view)
{
    struct fold_flow *flow = flow_at(fold, position);

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
        write_and_remove(fold, position);
}

/* A packet that may be part of a run and whose flow is pending at `position`. */
static void continue_run(struct fold *fold, unsigned position, const struct view *view)
{
    struct fold_flow *flow = flow_at(fold, position);

    if (!continues(fold, flow, view)) {
        write_and_remove(fold, position);
        start_run(fold, view);
        return;
    }
    if (!flow->verified) {
        flow->verified = checksums_right(flow->first, flow->header_length + flow->payload_length,
                                         flow->transport, flow->ipv6, flow->tcp);
        if (!flow->verified) {
            fold->tally.bad_checksum++;
            write_and_remove(fold, position);
            start_run(fold, view);
            return;
        }
    }
    if (!checksums_right(view->packet, view->length, view->transport, view->ipv6, view->tcp)) {
        fold->tally.bad_checksum++;
        write_and_remove(fold, position);
        write_plain(fold, view->packet, view->length);
        return;
    }
    append(fold, position, view);
}

/* ---- the face -------------------------------------------------------------------------------- */

void fold_init(struct fold *fold, unsigned kinds, unsigned max_segments, fold_deliver *deliver,
               void *context)
{
    fold->tally = (struct fold_tally){0};
    fold->kinds = max_segments > 1 ? kinds : 0;
    fold->max_segments = max_segments < FOLD_MAX_SEGMENTS ? max_segments : FOLD_MAX_SEGMENTS;
    fold->deliver = deliver;
    fold->context = context;
    fold->used = 0;
    for (unsigned slot = 0; slot < FOLD_FLOWS; slot++)
        fold->order[slot] = (uint8_t)slot;
}

void fold_add(struct fold *fold, uint8_t *packet, size_t length)
{
    struct view view = {.packet = packet, .length = length};
    enum outlook outlook = fold->kinds == 0 ? ALONE : view_packet(&view, fold->kinds);

    if (outlook == OPAQUE)
        write_between(fold, &view);
    unsigned position = outlook >= FLOW ? find(fold, &view) : fold->used;
    if (outlook == RUN) {
        if (position < fold->used)
            continue_run(fold, position, &view);
        else
            start_run(fold, &view);
        return;
    }
    if (position < fold->used)
        write_and_remove(fold, position);
    write_plain(fold, packet, length);
}

void fold_flush(struct fold *fold)
{
    while (fold->used > 0)
        write_and_remove(fold, 0);
}
