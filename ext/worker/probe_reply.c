/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/probe_reply.h"

#include <string.h>
#include <sys/socket.h>

#include "packet/probe.h"
#include "worker/probes.h"

/* The answer goes where the registry says that the inner source lives, never to the outer one: a
 * stranger can make us send to a peer, and no more often than the limit says. */
static bool answer(struct source *source, int udp_fd, uint8_t *request)
{
    const struct nexthop *hop = routes_lookup(source->table, 4, request + IPV4_SOURCE);
    uint8_t datagram[ENCAP_HEADER_MAX + PROBE_LENGTH];

    if (hop == NULL)
        return false;
    if (!icmp_limiter_take(&source->pump->probes.limiter, source_now(source))) {
        stats_count(source->stats, COUNTER_PROBES_LIMITED, 1);
        return true;
    }
    memcpy(datagram, hop->header.bytes, hop->header.length);
    memcpy(datagram + hop->header.length, request, PROBE_LENGTH);
    probe_answer(datagram + hop->header.length);
    if (sendto(udp_fd, datagram, hop->header.length + PROBE_LENGTH, MSG_DONTWAIT,
               &hop->endpoint.address.any, hop->endpoint.length) >= 0)
        stats_count(source->stats, COUNTER_PROBES_ANSWERED, 1);
    return true;
}

bool probe_take(struct source *source, int udp_fd, uint8_t *bytes, size_t length)
{
    uint64_t nonce;
    const enum probe_kind kind = probe_read(bytes, length, &nonce);

    if (kind == PROBE_NONE || memcmp(bytes + IPV4_DESTINATION, source->pump->tun_address, 4) != 0)
        return false;
    if (kind == PROBE_REQUEST)
        return answer(source, udp_fd, bytes);
    if (!source->known || !probes_match(&source->pump->probes, nonce, &source->address))
        return false;
    probes_ring(&source->pump->probes);
    return true;
}
