/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traffic: what the lab and the bench send through an overlay, and how they know that it arrived.
 *
 * Every function works on an open, connected (or bound) socket that it does not own, blocks at most
 * about a second longer than its time limit, returns 0 or -errno and allocates only before it
 * starts. The daemon never loads this unit.
 *
 * What is sent is a pattern that any receiver can compute from a seed: byte `o` of a stream is
 * pattern[o % TRAFFIC_PERIOD]. The period is prime, so that data that arrives at a wrong place,
 * for example a segment swapped with another, does not match.
 *
 * A datagram carries a header in front of its piece of the pattern, in the host's byte order (both
 * ends are on one machine):
 *
 *   0        4        8                 16                24
 *   | magic  | run    | sequence number | sent at, ns     | pattern from sequence * 7919 on …
 */
#ifndef UDPOVERLAY_TRAFFIC_H
#define UDPOVERLAY_TRAFFIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TRAFFIC_PERIOD = 131071,      /* prime */
    TRAFFIC_CHUNK = 131072,       /* bytes of one write or read of a stream */
    TRAFFIC_DATAGRAM_HEADER = 24, /* the shortest datagram */
    TRAFFIC_DATAGRAM_MAX = 65507,
    TRAFFIC_BATCH = 64,        /* datagrams of one sendmmsg or recvmmsg */
    TRAFFIC_SAMPLES = 1 << 20, /* round trips kept for the percentiles */
    TRAFFIC_WINDOW_MAX = 1024, /* datagrams on their way at most, see traffic_datagram_echo */
};

/* The repeated pattern, long enough to read TRAFFIC_CHUNK bytes from any offset of a period. */
struct traffic_pattern {
    uint8_t bytes[TRAFFIC_PERIOD + TRAFFIC_CHUNK];
};

void traffic_fill(struct traffic_pattern *pattern, uint64_t seed);

struct traffic_stream {
    uint64_t bytes;
    uint64_t nanoseconds; /* first byte to last */
    uint64_t calls;       /* system calls that moved bytes */
    uint64_t corrupt;     /* 1 + offset of the first wrong byte, 0 when all were right */
};

/* Send until `bytes` (0: no limit) or `nanoseconds` are reached, then shut the sending side. */
int traffic_stream_send(int fd, const struct traffic_pattern *pattern, uint64_t bytes,
                        uint64_t nanoseconds, struct traffic_stream *result);

/* Receive until the end of the stream; -ETIMEDOUT when it has not come after `nanoseconds`.
 * `pattern` NULL: count the bytes, do not compare them. Stops at the first wrong byte. */
int traffic_stream_receive(int fd, const struct traffic_pattern *pattern, uint64_t nanoseconds,
                           struct traffic_stream *result);

struct traffic_trips {
    uint64_t sent;
    uint64_t answered;
    uint64_t corrupt;
    uint64_t nanoseconds; /* of the whole run */
    /* Round trips in nanoseconds. */
    uint64_t p50, p99, p999, minimum, maximum, mean;
};

/* TCP ping-pong: send `size` bytes, wait for as many, again and again. */
int traffic_stream_ping(int fd, size_t size, uint64_t nanoseconds, struct traffic_trips *result);

/* Its other end: return what comes in pieces of `size` bytes until the stream ends. */
int traffic_stream_pong(int fd, size_t size, uint64_t nanoseconds, struct traffic_stream *result);

struct traffic_datagrams {
    uint64_t datagrams;
    uint64_t bytes;       /* of payload, header of this unit included */
    uint64_t nanoseconds; /* first datagram to last */
    uint64_t calls;
    uint64_t corrupt;
    uint64_t duplicates;
    uint64_t reordered; /* came after one with a higher sequence number */
    uint64_t refused;   /* sends that the kernel refused: ENOBUFS, EAGAIN, ECONNREFUSED … */
};

/* Send datagrams of `size` bytes at `rate` a second (0: as fast as the kernel takes them) until
 * `datagrams` (0: no limit) or `nanoseconds` are reached, then say that this was the end. */
int traffic_datagram_send(int fd, const struct traffic_pattern *pattern, uint32_t run, size_t size,
                          uint64_t rate, uint64_t datagrams, uint64_t nanoseconds,
                          struct traffic_datagrams *result);

/* Receive datagrams of this run until the sender's end arrives, none has come for `idle`
 * nanoseconds after the first, or `nanoseconds` are over. `pattern` NULL: do not compare. */
int traffic_datagram_receive(int fd, const struct traffic_pattern *pattern, uint32_t run,
                             uint64_t idle, uint64_t nanoseconds, struct traffic_datagrams *result);

/* Send `datagrams` of sizes between `least` and `most` with at most `window` on their way, and
 * compare what the other end returns. One that is not back after `patience` nanoseconds is lost. */
int traffic_datagram_ping(int fd, const struct traffic_pattern *pattern, uint32_t run, size_t least,
                          size_t most, uint64_t datagrams, unsigned int window, uint64_t patience,
                          uint64_t nanoseconds, struct traffic_trips *result);

/* Its other end, on an unconnected socket: return every datagram to its sender until the end. */
int traffic_datagram_pong(int fd, uint64_t nanoseconds, struct traffic_datagrams *result);

/* ICMP echo over a connected raw socket (IPv4): `count` requests of `size` payload bytes, each sent
 * when the one before was answered or not back after `patience`, at least `pause` apart. */
int traffic_icmp_ping(int fd, const struct traffic_pattern *pattern, uint16_t id, size_t size,
                      uint64_t count, uint64_t pause, uint64_t patience,
                      struct traffic_trips *result);

#endif
