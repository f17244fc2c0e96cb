/* SPDX-License-Identifier: Apache-2.0
 *
 * pump: what all workers of a tunnel share.
 *
 * Owns: the settings of a tunnel as the workers see them, its limits. Must not know: Python, where
 * routes come from, how descriptors were opened (all are non-blocking and borrowed), workers.
 */
#ifndef UDPOVERLAY_PUMP_H
#define UDPOVERLAY_PUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "packet/encap.h"
#include "packet/icmp.h"
#include "routes/routes.h"
#include "worker/impair.h"
#include "worker/probes.h"

/* Facts about the descriptors and offloads that are on; each was probed before. */
enum pump_offload {
    PUMP_VNET_HEADER = 1U << 0,  /* fact: packets of the TUN carry a struct virtio_net_hdr */
    PUMP_UDP_SEGMENT = 1U << 1,  /* send runs of equal datagrams with UDP_SEGMENT */
    PUMP_UDP_GRO = 1U << 2,      /* fact: the socket has UDP_GRO set */
    PUMP_COALESCE_TCP = 1U << 3, /* needs PUMP_VNET_HEADER */
    PUMP_COALESCE_UDP = 1U << 4, /* needs PUMP_VNET_HEADER */
    PUMP_PATH_REPORTS = 1U << 5, /* fact: ICMP's reports reach routes_path_report, IPv4 underlay */
};

enum {
    PUMP_BATCH_MAX = 64, /* packets or messages a batch; datagrams a system call */
};

/* Which datagrams are taken (source_check.h); in each mode, none from or to a martian address. */
enum source_check {
    SOURCE_CHECK_OFF,    /* all, as flanneld */
    SOURCE_CHECK_WARN,   /* all; those that would be refused are counted */
    SOURCE_CHECK_ENFORCE /* from a peer, from its subnets, to ours */
};

enum { OWN_ADDRESSES_MAX = 4 };

/* What all workers of a tunnel share. Fill in, then leave alone while workers exist. */
struct pump {
    struct route_slot *routes;
    const struct encap *encap;
    struct encap_own encap_own; /* what a received header must be meant for */
    struct icmp_limiter icmp_limiter;
    int icmp_fd;            /* raw socket that takes whole IPv4 packets; -1: write to the TUN */
    unsigned offloads;      /* enum pump_offload */
    unsigned families;      /* inner IP versions: PACKET_IPV4 | PACKET_IPV6 */
    uint32_t mtu;           /* longest inner packet, bytes */
    uint32_t batch;         /* 1..PUMP_BATCH_MAX; 1: one packet a system call */
    uint32_t busy_poll_us;  /* how long to spin after the last packet, at most; 0: never */
    uint8_t tun_address[4]; /* source of ICMP errors */
    enum source_check source_check;
    uint8_t subnet[4]; /* ours: where inner destinations lie; the TUN's address lies in it too */
    uint8_t subnet_length;
    uint8_t own_count; /* further addresses of this host: */
    uint8_t own[OWN_ADDRESSES_MAX][4];
    struct probes probes;
    bool allow_impair; /* fact for the workers made after it is set */
    struct impair_rule impair[IMPAIR_PLACES];
};

/* What a batch of a direction left behind. */
enum batch_end {
    BATCH_IDLE,    /* the descriptor has nothing more */
    BATCH_MORE,    /* the batch is full */
    BATCH_BLOCKED, /* outbound: the UDP socket has no room */
    BATCH_RETRY,   /* outbound: the kernel has no memory for now */
};

#endif
