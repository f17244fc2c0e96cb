/* SPDX-License-Identifier: Apache-2.0
 *
 * path: what sends to a peer have taught about the way there.
 *
 * Owns: whether runs of datagrams go as one UDP_SEGMENT send, and whether what ICMP says about the
 * path's MTU is believed. Must not know: sockets, what an error code means, where the time comes from
 * (nanoseconds of the monotonic clock).
 *
 * The kernel believes every "fragmentation needed" for ten minutes, and anybody can send one: it
 * then splits each datagram, and refuses UDP_SEGMENT. So a path whose MTU shrank is tried past what
 * the kernel believes, with datagrams that must not be fragmented:
 *
 *     in use --refused: MTU--> falls back --pause--> tried past it --1 s, no report--> in use,
 *        ^                        ^                      |                 past it for 10 minutes
 *        |                        +----- a report -------+                            |
 *        +----------------------------------------------------------------------------+
 *
 * Where the path is narrow, a router answers each try and the pauses double; where the report was
 * forged or the path is wide again, nothing answers. It takes a reader that hands the reports on
 * (`watched`); without, only the kernel's own view is tried again.
 */
#ifndef UDPOVERLAY_PATH_H
#define UDPOVERLAY_PATH_H

#include "offload/fallback.h"

enum {
    PATH_SETTLE_S = 1,   /* how long a try waits for a report: longer than a round trip */
    PATH_IGNORE_S = 600, /* as long as the kernel believes one: net.ipv4.route.mtu_expires */
    PATH_OVERHEAD = 28,  /* of a datagram on an IPv4 path: 20 (IPv4) + 8 (UDP) */
};

/* Starts as zeros. Any worker may write at any time, as with a struct fallback. */
struct path {
    struct fallback segment;
    _Atomic uint64_t past_until; /* so long the kernel's MTU is ignored; 0: not at all */
    _Atomic uint32_t proving;    /* a try went out and no report came yet */
};

/* How a send to the peer is to be made. */
struct path_mode {
    bool segmented; /* with UDP_SEGMENT */
    bool past_mtu;  /* whatever MTU the kernel believes in */
};

/* For datagrams of `size` bytes, a run of them if `run`. `clock` is called only when something is
 * the matter with the path, so that the normal state costs two loads. */
struct path_mode path_mode(struct path *path, uint32_t size, bool run, bool watched,
                           uint64_t (*clock)(void));

static inline bool path_is_plain(const struct path *path)
{
    return fallback_in_use(&path->segment) &&
           atomic_load_explicit(&path->past_until, memory_order_relaxed) == 0;
}

/* A segmented send of datagrams of `size` bytes was taken. */
void path_worked(struct path *path, uint32_t size, bool watched, uint64_t now);

/* One was refused although its datagrams pass one by one. */
void path_refused(struct path *path, enum fallback_cause cause, uint32_t size, uint64_t now);

/* A datagram was longer than the device's own MTU: what the kernel believes counts again. */
void path_too_narrow(struct path *path);

/* ICMP says that nothing longer than `mtu` bytes passes, IP header included. */
void path_reported(struct path *path, uint32_t mtu, uint64_t now);

/* A copy for those who look on. */
struct path_state {
    struct fallback_state segment;
    uint64_t past_until;
};

struct path_state path_look(const struct path *path);

#endif
