/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* recvmmsg, sendmmsg, EBADFD */
#include "worker/source_check.h"

#include <string.h>

#include "worker/clock.h"

static uint32_t load32(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof(word));
    return word; /* in network order: compared, never counted with */
}

static uint32_t mask_of(const struct pump *pump)
{
    const unsigned length = pump->subnet_length;
    return length ? htonl(UINT32_MAX << (32 - length)) : 0;
}

void source_init(struct source *source, struct pump *pump, struct stats *stats)
{
    const unsigned length = pump->subnet_length;

    source->pump = pump;
    source->stats = stats;
    source->mask = mask_of(pump);
    source->subnet = load32(pump->subnet) & source->mask;
    /* A /31 and a /32 have no broadcast address (RFC 3021); zero is refused as it is. */
    source->broadcast = length && length < 31 ? source->subnet | ~source->mask : 0;
}

void source_begin(struct source *source, const struct route_table *table)
{
    source->table = table;
    source->known = false;
    source->sender = NULL;
    source->peer = PEER_UNKNOWN;
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

bool source_message(struct source *source, const struct msghdr *message)
{
    struct address address = {{0}};

    if (source->pump->source_check == SOURCE_CHECK_OFF)
        return true;
    const bool named = read_name(&address, message);
    if (!source->known || memcmp(&address, &source->address, sizeof(address)) != 0) {
        source->address = address;
        source->known = true;
        source->passed = SOURCE_NONE;
        source->sender = named ? senders_lookup(routes_senders(source->table), &address) : NULL;
        source->peer = PEER_UNKNOWN;
        if (source->sender && source->sender->count == 1)
            source->peer = routes_senders(source->table)->peers[source->sender->first]->slot;
    }
    return source->sender || source->pump->source_check != SOURCE_CHECK_ENFORCE;
}

/* ---- whose addresses -------------------------------------------------------------------------- */

static bool in_our_subnet(const struct source *source, const uint8_t *address)
{
    return ((load32(address) ^ source->subnet) & source->mask) == 0;
}

static bool is_ours(const struct pump *pump, const uint8_t *address)
{
    const uint32_t mask = mask_of(pump);

    if (mask && ((load32(address) ^ load32(pump->subnet)) & mask) == 0)
        return true;
    for (unsigned i = 0; i < pump->own_count; i++)
        if (memcmp(pump->own[i], address, 4) == 0)
            return true;
    return memcmp(pump->tun_address, address, 4) == 0;
}

/* A host answers containers that ask it by an address that is not of the overlay: from its public
 * IP, or from the one that it sends datagrams with. */
static bool is_address_of_sender(const struct source *source, const uint8_t *ipv4)
{
    enum { MOST = 8 }; /* peers behind one address that are looked at */
    const struct senders *senders = routes_senders(source->table);
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

/* Precondition: the sender is known. *peer becomes the slot of the one whose subnet it is. */
static bool is_of_sender(const struct source *source, const uint8_t *address, uint16_t *peer)
{
    const struct nexthop *hop = routes_lookup(source->table, 4, address);

    if (hop && sender_is(routes_senders(source->table), source->sender, hop->peer)) {
        *peer = hop->slot;
        return true;
    }
    return is_address_of_sender(source, address);
}

/* ---- the rules -------------------------------------------------------------------------------- */

static enum verdict find_martian(const struct source *source, const uint8_t *from,
                                 const uint8_t *to)
{
    if (!address_is_routable(to) || (source->broadcast && load32(to) == source->broadcast))
        return VERDICT_INBOUND_MARTIAN_DESTINATION;
    if (!address_is_routable(from) || is_ours(source->pump, from))
        return VERDICT_INBOUND_MARTIAN_SOURCE;
    return VERDICT_INBOUND_DELIVERED;
}

static enum verdict find_foreign(const struct source *source, const uint8_t *from,
                                 const uint8_t *to, uint16_t *peer)
{
    if (!in_our_subnet(source, to))
        return VERDICT_INBOUND_FOREIGN_DESTINATION;
    if (!source->sender)
        return VERDICT_INBOUND_UNKNOWN_SENDER;
    if (!is_of_sender(source, from, peer))
        return VERDICT_INBOUND_FOREIGN_SOURCE;
    return VERDICT_INBOUND_DELIVERED;
}

static enum verdict find_objection(const struct source *source, const uint8_t *bytes,
                                   const struct packet *packet, uint16_t *peer)
{
    if (packet->version != 4) /* no IPv6 subnet is ours */
        return VERDICT_INBOUND_FOREIGN_DESTINATION;
    const uint8_t *from = bytes + IPV4_SOURCE, *to = bytes + IPV4_DESTINATION;
    const enum verdict verdict = find_martian(source, from, to);
    return verdict == VERDICT_INBOUND_DELIVERED ? find_foreign(source, from, to, peer) : verdict;
}

/* What is done with a packet that is not like the one before it. */
static enum verdict examine(struct source *source, const uint8_t *bytes,
                            const struct packet *packet)
{
    const bool off = source->pump->source_check == SOURCE_CHECK_OFF;
    enum verdict verdict;

    if (source->sender && source->sender->count > 1) { /* each packet may be another one's */
        source->peer = PEER_UNKNOWN;
        source->passed = SOURCE_NONE;
    }
    if (off)
        verdict = packet->version == 4
                      ? find_martian(source, bytes + IPV4_SOURCE, bytes + IPV4_DESTINATION)
                      : VERDICT_INBOUND_DELIVERED;
    else
        verdict = find_objection(source, bytes, packet, &source->peer);
    if (verdict == VERDICT_INBOUND_DELIVERED) {
        if (packet->version == 4 && source->mask)
            source->passed = load32(bytes + IPV4_SOURCE);
        return verdict;
    }
    source_refuse(source, verdict, bytes, packet->length, 1);
    if (source->pump->source_check == SOURCE_CHECK_ENFORCE)
        return verdict;
    switch (verdict) {
    case VERDICT_INBOUND_UNKNOWN_SENDER:
        stats_count(source->stats, COUNTER_WARNED_UNKNOWN_SENDER, 1);
        return VERDICT_INBOUND_DELIVERED;
    case VERDICT_INBOUND_FOREIGN_DESTINATION:
        stats_count(source->stats, COUNTER_WARNED_FOREIGN_DESTINATION, 1);
        return VERDICT_INBOUND_DELIVERED;
    case VERDICT_INBOUND_FOREIGN_SOURCE:
        stats_count(source->stats, COUNTER_WARNED_FOREIGN_SOURCE, 1);
        return VERDICT_INBOUND_DELIVERED;
    default: /* a martian */
        return verdict;
    }
}

enum verdict source_check(struct source *source, const uint8_t *bytes, const struct packet *packet)
{
    if (packet->version == 4) {
        const uint32_t to = load32(bytes + IPV4_DESTINATION);
        if (load32(bytes + IPV4_SOURCE) == source->passed &&
            ((to ^ source->subnet) & source->mask) == 0 && to != source->broadcast)
            return VERDICT_INBOUND_DELIVERED;
    }
    return examine(source, bytes, packet);
}

bool source_verified(struct source *source, const uint8_t *bytes, const struct packet *packet)
{
    if (source->pump->source_check == SOURCE_CHECK_ENFORCE)
        return true; /* it would not have come so far */
    uint16_t peer;
    return source->known &&
           find_objection(source, bytes, packet, &peer) == VERDICT_INBOUND_DELIVERED;
}

bool source_answerable(const struct pump *pump, const struct route_table *table,
                       const uint8_t *bytes, const struct packet *packet)
{
    const uint8_t *from = bytes + IPV4_SOURCE;
    struct address address;

    if (packet->version != 4)
        return false;
    if (!pump->subnet_length || is_ours(pump, from) || routes_lookup(table, 4, from))
        return true;
    address_from_ipv4(&address, from);
    return senders_lookup(routes_senders(table), &address) != NULL;
}

/* ---- what is remembered of it ----------------------------------------------------------------- */

uint64_t source_now(struct source *source)
{
    if (source->now_ns == 0)
        source->now_ns = clock_ns();
    return source->now_ns;
}

void source_refuse(struct source *source, enum verdict verdict, const uint8_t *bytes, size_t length,
                   uint32_t datagrams)
{
    struct refused latest = {
        .address = source->address,
        .verdict = verdict,
        .seen_ns = source_now(source),
    };

    if (!source->known)
        return; /* it was not asked where it came from */
    if (length >= IPV4_HEADER_MIN && bytes[0] >> 4 == 4) {
        memcpy(latest.inner_source, bytes + IPV4_SOURCE, 4);
        memcpy(latest.inner_destination, bytes + IPV4_DESTINATION, 4);
    }
    refused_add(&source->refused, &latest, datagrams);
    probes_ring(&source->pump->probes);
}
