# SPDX-License-Identifier: Apache-2.0
# Mirrors traffic.h.
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef extern from "traffic/traffic.h" nogil:
    struct traffic_pattern:
        pass

    struct traffic_stream:
        uint64_t bytes
        uint64_t nanoseconds
        uint64_t calls
        uint64_t corrupt

    struct traffic_trips:
        uint64_t sent
        uint64_t answered
        uint64_t corrupt
        uint64_t nanoseconds
        uint64_t p50
        uint64_t p99
        uint64_t p999
        uint64_t minimum
        uint64_t maximum
        uint64_t mean

    struct traffic_datagrams:
        uint64_t datagrams
        uint64_t bytes
        uint64_t nanoseconds
        uint64_t calls
        uint64_t corrupt
        uint64_t duplicates
        uint64_t reordered
        uint64_t refused

    void traffic_fill(traffic_pattern *pattern, uint64_t seed)
    int traffic_stream_send(int fd, const traffic_pattern *pattern, uint64_t bytes,
                            uint64_t nanoseconds, traffic_stream *result)
    int traffic_stream_receive(int fd, const traffic_pattern *pattern, uint64_t nanoseconds,
                               traffic_stream *result)
    int traffic_stream_ping(int fd, size_t size, uint64_t nanoseconds, traffic_trips *result)
    int traffic_stream_pong(int fd, size_t size, uint64_t nanoseconds, traffic_stream *result)
    int traffic_datagram_send(int fd, const traffic_pattern *pattern, uint32_t run, size_t size,
                              uint64_t rate, uint64_t datagrams, uint64_t nanoseconds,
                              traffic_datagrams *result)
    int traffic_datagram_receive(int fd, const traffic_pattern *pattern, uint32_t run,
                                 uint64_t idle, uint64_t nanoseconds, traffic_datagrams *result)
    int traffic_datagram_ping(int fd, const traffic_pattern *pattern, uint32_t run, size_t least,
                              size_t most, uint64_t datagrams, unsigned int window,
                              uint64_t patience, uint64_t nanoseconds, traffic_trips *result)
    int traffic_datagram_pong(int fd, uint64_t nanoseconds, traffic_datagrams *result)
    int traffic_icmp_ping(int fd, const traffic_pattern *pattern, uint16_t id, size_t size,
                          uint64_t count, uint64_t pause, uint64_t patience,
                          traffic_trips *result)
