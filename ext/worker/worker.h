/* SPDX-License-Identifier: Apache-2.0
 *
 * worker: what one worker owns, shared by the files of the pump alone (outbound.c, tx_batch.c,
 * inbound.c, icmp_reply.c, worker.c).
 *
 * All memory is one mapping made by worker_create; no packet allocates. Every counter has one
 * writer, the worker, and stands on cache lines that no other worker writes.
 */
#ifndef UDPOVERLAY_WORKER_H
#define UDPOVERLAY_WORKER_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "offload/fallback.h"
#include "offload/offload.h"
#include "worker/tx_batch.h"
#include "worker/pump.h"
#include "worker/source_check.h"

enum {
    CACHE_LINE = 64,
    /* Room in front of each packet read from the TUN: the vnet header when it arrives, then the
     * encapsulation header in its place. A multiple of 8 keeps the IP header aligned. */
    HEADROOM = 32,
    /* Packets of one outbound batch stand here one after the other; a read needs room for the
     * longest, and the batch ends when less is left: after two super-packets, as more make the
     * receiver's host wait longer and the caches colder. */
    OUTBOUND_PACKETS = 2 * (PUMP_PACKET_MAX + 1 + HEADROOM) + 4096,
    /* Headers of the segments that super-packets were segmented into. */
    OUTBOUND_HEADERS = 4 * SEGMENT_HEADERS_SIZE,
    /* One received message: 64 KB of merged datagrams, and an odd number of cache lines more, so
     * that the beginnings of all slots do not fall into the same sets of the caches. */
    INBOUND_SLOT = 65536 + 17 * CACHE_LINE,
    /* What one receive should bring at most: it passes through the cache three times. */
    INBOUND_BATCH_BYTES = 128 * 1024,
    INBOUND_CONTROL = CMSG_SPACE(sizeof(int)),
};

struct outbound {
    struct tx_batch batch;
    uint8_t *packets;
    size_t packets_used;
    uint8_t *headers;
    size_t headers_used;
    /* A super-packet of which segments are still to be made, when one batch has no room for all. */
    bool segmenting;
    struct segmenter segmenter;
    struct nexthop hop; /* where it goes: a copy, as the table may be replaced meanwhile */
};

struct inbound {
    uint8_t *slots;    /* PUMP_BATCH_MAX of INBOUND_SLOT bytes, touched when used */
    size_t slot_bytes; /* how many of them one receive may fill */
    uint32_t wanted;   /* messages of the next receive */
    struct mmsghdr headers[PUMP_BATCH_MAX];
    struct iovec iov[PUMP_BATCH_MAX];
    _Alignas(struct cmsghdr) uint8_t controls[PUMP_BATCH_MAX][INBOUND_CONTROL];
    int queues[PUMP_QUEUES_MAX]; /* of the TUN, to write to */
    unsigned queue_count;
    /* What the TUN refused of each gso_type, by enum pump_coalesce. */
    struct fallback coalesces[PUMP_COALESCE];
    bool coalesce_changes; /* one is fallen back: look at them after each batch */
    struct coalescer coalescer;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } names[PUMP_BATCH_MAX]; /* where each message came from */
    struct source source;
    struct refused_table refused;
    uint32_t undigested; /* receive buffer that delivered UDP packets take, in bytes */
};

struct worker {
    /* Written by the worker, read by whoever asks. */
    _Alignas(CACHE_LINE) _Atomic uint64_t verdicts[VERDICT_COUNT];
    _Atomic uint64_t counters[COUNTER_COUNT];
    /* Written by others. */
    _Alignas(CACHE_LINE) atomic_int stopping;
    int wake_fd;
    /* Private. */
    _Alignas(CACHE_LINE) struct pump *pump;
    const struct route_table *table; /* valid within a batch */
    unsigned roles;
    int tun_fd, udp_fd;
    int mtu_discover; /* the UDP socket's IP_MTU_DISCOVER as it was */
    struct {
        uint8_t address[4], port[2];
    } own; /* what the UDP socket sends from, in network order; zeros when it is no IPv4 socket */
    bool moved; /* a batch had something; cleared by who wants to know */
    struct {
        uint64_t window;     /* how long to spin now, nanoseconds */
        uint64_t not_before; /* on the monotonic clock: no growth until then */
    } spin;
    int fatal; /* -errno met while packets were written; ends the worker after the batch */
    struct route_reader reader;
    struct outbound outbound;
    struct inbound inbound;
    size_t mapped; /* bytes of the mapping that this struct begins */
};

/* Errors of a TUN descriptor whose device was removed; what else it reports may pass. */
static inline bool device_is_gone(int error)
{
    return error == EBADFD || error == EBADF || error == EFAULT || error == ENODEV;
}

/* What a batch left behind. */
enum batch_end {
    BATCH_IDLE,    /* the descriptor has nothing more */
    BATCH_MORE,    /* the batch is full */
    BATCH_BLOCKED, /* outbound: the UDP socket has no room */
    BATCH_RETRY,   /* outbound: the kernel has no memory for now */
};

/* One batch of a direction; enum batch_end, or -errno that ends the worker. `worker->table` is
 * set by the caller. */
int outbound_batch(struct worker *worker);
int inbound_batch(struct worker *worker);

/* Sends what waits; BATCH_IDLE when nothing waits any more, BATCH_BLOCKED or BATCH_RETRY. */
int tx_batch_flush(struct worker *worker);

/* Counts what waits as dropped: messages, and segments that were not made yet. */
void tx_batch_abandon(struct worker *worker);
void outbound_abandon(struct worker *worker);

/* Begins to coalesce what is wanted and not refused just now; nothing may be pending. */
void inbound_coalesce_init(struct worker *worker);

/* Takes in a checked packet to our TUN address that may be a probe: true when it was one. */
bool probe_take(struct worker *worker, uint8_t *bytes, size_t length);

/* Writes one packet as it is to the TUN; what write(2) returns. */
ssize_t tun_write(struct worker *worker, const uint8_t *bytes, size_t length);

/* Answers a refused packet with an ICMP error, where one may be sent. */
void refuse(struct worker *worker, enum icmp_error error, const uint8_t *bytes,
            const struct packet *packet);

/* One writer: a plain addition, made readable for others. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

static inline void worker_count(struct worker *worker, enum counter counter, uint64_t amount)
{
    counter_add(&worker->counters[counter], amount);
}

/* The one place where a packet's fate is recorded. `packet` has what is at hand of it from the
 * version on, in `pieces` (0 when nothing is). */
static inline void worker_verdict(struct worker *worker, enum verdict verdict,
                                  const struct iovec *packet, unsigned pieces)
{
    (void)packet;
    (void)pieces;
    counter_add(&worker->verdicts[verdict], 1);
}

#endif
