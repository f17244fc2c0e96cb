/* SPDX-License-Identifier: Apache-2.0
 *
 * pump: moves packets between a TUN device and a UDP socket; the only system calls per packet.
 *
 * Owns: workers, their memory, their batches, and the order of the steps a packet goes through
 * (outbound.c and inbound.c, each to be read from top to bottom). Must not know: Python, where
 * routes come from, how descriptors were opened (all are non-blocking and borrowed).
 *
 *     outbound   TUN read -> check -> lookup -> TTL -> encapsulate or segment -> UDP send
 *     inbound    UDP receive -> sender -> check -> source check -> TTL -> coalesce -> TUN write
 *
 * A worker does one or both directions, in one thread at a time: `worker_run` moves packets and
 * sleeps in poll until `worker_stop`. For tests and benches `worker_step` moves what is there, up to
 * a budget, and returns.
 *
 * A bad packet is a counter. What is returned as an error ends the worker: the device is gone, a
 * descriptor is not what it should be.
 */
#ifndef UDPOVERLAY_PUMP_H
#define UDPOVERLAY_PUMP_H

#include <stdint.h>

#include "offload/fallback.h"
#include "packet/encap.h"
#include "packet/icmp.h"
#include "routes/routes.h"
#include "worker/probes.h"
#include "worker/refused.h"
#include "verdict.h"

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
    PUMP_BATCH_MAX = 64,     /* packets or messages a batch; datagrams a system call */
    PUMP_QUEUES_MAX = 64,    /* of a TUN device */
    PUMP_PACKET_MAX = 65535, /* the longest packet or super-packet read from the TUN */
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
};

enum worker_role { WORKER_OUTBOUND = 1U << 0, WORKER_INBOUND = 1U << 1 };

/* Super-packets that the TUN may refuse one kind at a time: what a gso_type of its header stands for. */
enum pump_coalesce {
    PUMP_COALESCE_OF_TCP4,
    PUMP_COALESCE_OF_TCP6,
    PUMP_COALESCE_OF_UDP,
    PUMP_COALESCE
};

/* What worker_step found; or-ed. */
enum worker_state {
    WORKER_MORE_OUTBOUND = 1U << 0, /* the budget ended, the TUN may have more */
    WORKER_MORE_INBOUND = 1U << 1,  /* the same for the UDP socket */
    WORKER_BLOCKED = 1U
        << 2,               /* packets wait for room in the UDP socket: step again when writable */
    WORKER_RETRY = 1U << 3, /* packets wait for kernel memory: step again in a millisecond */
};

struct worker;

/* Makes a worker for `roles`. An outbound worker reads the first of the `tun_count` queues of the
 * TUN; an inbound one writes to all, a flow always to the same: the kernel hands the answers of a
 * flow to the queue that its packets were written to (drivers/net/tun.c, tun_flow_update).
 * 0 or -errno (-EINVAL: a value out of range); `*worker` is set on 0 alone. */
int worker_create(struct worker **worker, struct pump *pump, unsigned roles, const int *tun_fds,
                  unsigned tun_count, int udp_fd);

/* Packets that still wait to be sent get a last try, then count as dropped. */
void worker_finish(struct worker *worker);

/* Finishes and frees. NULL is fine. */
void worker_destroy(struct worker *worker);

/* Moves packets until worker_stop. 0, or -errno of what ended it. */
int worker_run(struct worker *worker);

/* Moves up to `batches` batches for each of `directions`. enum worker_state or -errno. */
int worker_step(struct worker *worker, unsigned directions, unsigned batches);

/* Makes worker_run return soon, now or when it is called next. From any thread or a signal. */
void worker_stop(struct worker *worker);

/* Reads the counters while the worker runs: each is a true value of some recent moment. */
void worker_counts(const struct worker *worker, uint64_t verdicts[static VERDICT_COUNT],
                   uint64_t counters[static COUNTER_COUNT]);

/* What the TUN refused to take from this worker, by enum pump_coalesce. From any thread. */
void worker_coalesces(const struct worker *worker,
                      struct fallback_state coalesces[static PUMP_COALESCE]);

/* Who sent what the source check refused; for refused_read, while the worker runs. */
const struct refused_table *worker_refused(const struct worker *worker);

#endif
