/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* recvmmsg, sendmmsg, EBADFD */
#include "worker/source_check.h"

#include <string.h>
#include <time.h>

#include "worker/worker.h"

static uint32_t load32(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof(word));
    return word; /* in network order: compared, never counted with */
}

void source_init(struct worker *worker)
{
    const struct pump *pump = worker->pump;
    struct source *source = &worker->inbound.source;
    const unsigned length = pump->subnet_length;

    source->mask = length ? htonl(UINT32_MAX << (32 - length)) : 0;
    source->subnet = load32(pump->subnet) & source->mask;
    /* A /31 and a /32 have no broadcast address (RFC 3021); zero is refused as it is. */
    source->broadcast = length && length < 31 ? source->subnet | ~source->mask : 0;
    source->tun_address = load32(pump->tun_address);
}

void source_begin(struct worker *worker)
{
    struct source *source = &worker->inbound.source;

    source->known = false;
    source->sender = NULL;
    source->passed = SOURCE_NONE;
    source->now_ns = 0;
}

/* ---- who sent it ------------------------------------------------------------------------------ */

static bool read_name(struct address *address, const struct msghdr *message)
{
    const struct sockaddr *name = message->msg_name;

    if (message->msg_namelen >= sizeof(struct sockaddr_in) && name->sa_family == AF_INET) {
        address_from_ipv4(address, &((const struct sockaddr_in *)message->msg_name)->sin_addr);
        return true;
    }
    if (message->msg_namelen >= sizeof(struct sockaddr_in6) && name->sa_family == AF_INET6) {
        memcpy(address->bytes, &((const struct sockaddr_in6 *)message->msg_name)->sin6_addr, 16);
        return true;
    }
    return false;
}

bool source_message(struct worker *worker, const struct msghdr *message)
{
    struct source *source = &worker->inbound.source;
    struct address address = {{0}};

    if (worker->pump->source_check == SOURCE_CHECK_OFF)
        return true;
    const bool named = read_name(&address, message);
    if (!source->known || memcmp(&address, &source->address, sizeof(address)) != 0) {
        source->address = address;
        source->known = true;
        source->passed = SOURCE_NONE;
        source->sender = named ? senders_lookup(routes_senders(worker->table), &address) : NULL;
    }
    return source->sender || worker->pump->source_check != SOURCE_CHECK_ENFORCE;
}

/* ---- whose addresses -------------------------------------------------------------------------- */

static bool in_our_subnet(const struct source *source, const uint8_t *address)
{
    return ((load32(address) ^ source->subnet) & source->mask) == 0;
}

static bool is_ours(const struct worker *worker, const uint8_t *address)
{
    const struct pump *pump = worker->pump;

    if (worker->inbound.source.mask && in_our_subnet(&worker->inbound.source, address))
        return true;
    for (unsigned i = 0; i < pump->own_count; i++)
        if (memcmp(pump->own[i], address, 4) == 0)
            return true;
    return memcmp(pump->tun_address, address, 4) == 0;
}

/* A host answers containers that ask it by an address that is not of the overlay: from its public
 * IP, or from the one that it sends datagrams with. */
static bool is_address_of_sender(const struct worker *worker, const uint8_t *ipv4)
{
    enum { MOST = 8 }; /* peers behind one address that are looked at */
    const struct source *source = &worker->inbound.source;
    const struct senders *senders = routes_senders(worker->table);
    struct address address, public_ip;

    address_from_ipv4(&address, ipv4);
    if (memcmp(&address, &source->address, sizeof(address)) == 0)
        return true;
    const struct sender *other = senders_lookup(senders, &address);
    for (uint32_t i = 0; other && i < other->count && i < MOST; i++) {
        const struct peer_state *peer = senders->peers[other->first + i];
        sender_address(&public_ip, &peer->endpoint);
        if (memcmp(&public_ip, &address, sizeof(address)) == 0 &&
            sender_is(senders, source->sender, peer))
            return true;
    }
    return false;
}

/* Precondition: the sender is known. */
static bool is_of_sender(const struct worker *worker, const uint8_t *address)
{
    const struct nexthop *hop = routes_lookup(worker->table, 4, address);

    if (hop && sender_is(routes_senders(worker->table), worker->inbound.source.sender, hop->peer))
        return true;
    return is_address_of_sender(worker, address);
}

/* ---- the rules -------------------------------------------------------------------------------- */

static enum verdict find_martian(const struct worker *worker, const uint8_t *from,
                                 const uint8_t *to)
{
    const struct source *source = &worker->inbound.source;

    if (!address_is_routable(to) || (source->broadcast && load32(to) == source->broadcast))
        return VERDICT_INBOUND_MARTIAN_DESTINATION;
    if (!address_is_routable(from) || is_ours(worker, from))
        return VERDICT_INBOUND_MARTIAN_SOURCE;
    return VERDICT_INBOUND_DELIVERED;
}

static enum verdict find_foreign(const struct worker *worker, const uint8_t *from,
                                 const uint8_t *to)
{
    if (!in_our_subnet(&worker->inbound.source, to))
        return VERDICT_INBOUND_FOREIGN_DESTINATION;
    if (!worker->inbound.source.sender)
        return VERDICT_INBOUND_UNKNOWN_SENDER;
    if (!is_of_sender(worker, from))
        return VERDICT_INBOUND_FOREIGN_SOURCE;
    return VERDICT_INBOUND_DELIVERED;
}

static enum verdict find_objection(const struct worker *worker, const uint8_t *bytes,
                                   const struct packet *packet)
{
    if (packet->version != 4) /* no IPv6 subnet is ours */
        return VERDICT_INBOUND_FOREIGN_DESTINATION;
    const uint8_t *from = bytes + IPV4_SOURCE, *to = bytes + IPV4_DESTINATION;
    const enum verdict verdict = find_martian(worker, from, to);
    return verdict == VERDICT_INBOUND_DELIVERED ? find_foreign(worker, from, to) : verdict;
}

/* What is done with a packet that is not like the one before it. */
static enum verdict examine(struct worker *worker, const uint8_t *bytes,
                            const struct packet *packet)
{
    struct source *source = &worker->inbound.source;
    const bool off = worker->pump->source_check == SOURCE_CHECK_OFF;
    enum verdict verdict;

    if (off)
        verdict = packet->version == 4
                      ? find_martian(worker, bytes + IPV4_SOURCE, bytes + IPV4_DESTINATION)
                      : VERDICT_INBOUND_DELIVERED;
    else
        verdict = find_objection(worker, bytes, packet);
    if (verdict == VERDICT_INBOUND_DELIVERED) {
        if (packet->version == 4 && source->mask)
            source->passed = load32(bytes + IPV4_SOURCE);
        return verdict;
    }
    source_refuse(worker, verdict, bytes, packet->length, 1);
    if (worker->pump->source_check == SOURCE_CHECK_ENFORCE)
        return verdict;
    switch (verdict) {
    case VERDICT_INBOUND_UNKNOWN_SENDER:
        worker_count(worker, COUNTER_WARNED_UNKNOWN_SENDER, 1);
        return VERDICT_INBOUND_DELIVERED;
    case VERDICT_INBOUND_FOREIGN_DESTINATION:
        worker_count(worker, COUNTER_WARNED_FOREIGN_DESTINATION, 1);
        return VERDICT_INBOUND_DELIVERED;
    case VERDICT_INBOUND_FOREIGN_SOURCE:
        worker_count(worker, COUNTER_WARNED_FOREIGN_SOURCE, 1);
        return VERDICT_INBOUND_DELIVERED;
    default: /* a martian */
        return verdict;
    }
}

enum verdict source_check(struct worker *worker, const uint8_t *bytes, const struct packet *packet)
{
    const struct source *source = &worker->inbound.source;

    if (packet->version == 4) {
        const uint32_t to = load32(bytes + IPV4_DESTINATION);
        if (load32(bytes + IPV4_SOURCE) == source->passed &&
            ((to ^ source->subnet) & source->mask) == 0 && to != source->broadcast)
            return VERDICT_INBOUND_DELIVERED;
    }
    return examine(worker, bytes, packet);
}

bool source_verified(struct worker *worker, const uint8_t *bytes, const struct packet *packet)
{
    if (worker->pump->source_check == SOURCE_CHECK_ENFORCE)
        return true; /* it would not have come so far */
    return worker->inbound.source.known &&
           find_objection(worker, bytes, packet) == VERDICT_INBOUND_DELIVERED;
}

bool source_answerable(const struct worker *worker, const uint8_t *bytes,
                       const struct packet *packet)
{
    const uint8_t *from = bytes + IPV4_SOURCE;
    struct address address;

    if (packet->version != 4)
        return false;
    if (!worker->inbound.source.mask || is_ours(worker, from) ||
        routes_lookup(worker->table, 4, from))
        return true;
    address_from_ipv4(&address, from);
    return senders_lookup(routes_senders(worker->table), &address) != NULL;
}

/* ---- what is remembered of it ----------------------------------------------------------------- */

uint64_t source_now(struct worker *worker)
{
    struct source *source = &worker->inbound.source;

    if (source->now_ns == 0) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        source->now_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    }
    return source->now_ns;
}

void source_refuse(struct worker *worker, enum verdict verdict, const uint8_t *bytes, size_t length,
                   uint32_t datagrams)
{
    struct refused latest = {
        .address = worker->inbound.source.address,
        .verdict = verdict,
        .seen_ns = source_now(worker),
    };

    if (!worker->inbound.source.known)
        return; /* it was not asked where it came from */
    if (length >= IPV4_HEADER_MIN && bytes[0] >> 4 == 4) {
        memcpy(latest.inner_source, bytes + IPV4_SOURCE, 4);
        memcpy(latest.inner_destination, bytes + IPV4_DESTINATION, 4);
    }
    refused_add(&worker->inbound.refused, &latest, datagrams);
    probes_ring(&worker->pump->probes);
}
