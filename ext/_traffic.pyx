# SPDX-License-Identifier: Apache-2.0
# cython: auto_pickle=False, autotestdict=False
"""Thin binding of traffic.h; documented in udpoverlay/_traffic.pyi. Times are seconds here."""

cimport cython
cimport traffic as c
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc

import os


cdef uint64_t nanoseconds(double seconds):
    return <uint64_t>(seconds * 1e9)


cdef object check(int error):
    if error < 0:
        raise OSError(-error, os.strerror(-error))


@cython.final
cdef class Pattern:
    cdef c.traffic_pattern *_pattern

    def __cinit__(self, uint64_t seed):
        self._pattern = <c.traffic_pattern *>malloc(sizeof(c.traffic_pattern))
        if self._pattern is NULL:
            raise MemoryError
        c.traffic_fill(self._pattern, seed)

    def __dealloc__(self):
        free(self._pattern)

    def stream_send(self, int fd, uint64_t max_bytes, double seconds):
        cdef c.traffic_stream result
        cdef uint64_t limit = nanoseconds(seconds)
        cdef int error
        with nogil:
            error = c.traffic_stream_send(fd, self._pattern, max_bytes, limit, &result)
        check(error)
        return result

    def stream_receive(self, int fd, double seconds, bint compare):
        cdef c.traffic_stream result
        cdef const c.traffic_pattern *pattern = self._pattern if compare else NULL
        cdef uint64_t limit = nanoseconds(seconds)
        cdef int error
        with nogil:
            error = c.traffic_stream_receive(fd, pattern, limit, &result)
        check(error)
        return result

    def datagram_send(self, int fd, c.uint32_t run, size_t size, uint64_t rate,
                      uint64_t datagrams, double seconds):
        cdef c.traffic_datagrams result
        cdef uint64_t limit = nanoseconds(seconds)
        cdef int error
        with nogil:
            error = c.traffic_datagram_send(
                fd, self._pattern, run, size, rate, datagrams, limit, &result)
        check(error)
        return result

    def datagram_receive(self, int fd, c.uint32_t run, double idle, double seconds, bint compare):
        cdef c.traffic_datagrams result
        cdef const c.traffic_pattern *pattern = self._pattern if compare else NULL
        cdef uint64_t limit = nanoseconds(seconds)
        cdef uint64_t quiet = nanoseconds(idle)
        cdef int error
        with nogil:
            error = c.traffic_datagram_receive(fd, pattern, run, quiet, limit, &result)
        check(error)
        return result

    def datagram_ping(self, int fd, c.uint32_t run, size_t least, size_t most, uint64_t datagrams,
                      unsigned int window, double patience, double seconds):
        cdef c.traffic_trips result
        cdef uint64_t limit = nanoseconds(seconds)
        cdef uint64_t wait = nanoseconds(patience)
        cdef int error
        with nogil:
            error = c.traffic_datagram_ping(
                fd, self._pattern, run, least, most, datagrams, window, wait, limit, &result)
        check(error)
        return result

    def icmp_ping(self, int fd, c.uint16_t ident, size_t size, uint64_t count, double pause,
                  double patience):
        cdef c.traffic_trips result
        cdef uint64_t rest = nanoseconds(pause)
        cdef uint64_t wait = nanoseconds(patience)
        cdef int error
        with nogil:
            error = c.traffic_icmp_ping(
                fd, self._pattern, ident, size, count, rest, wait, &result)
        check(error)
        return result


def stream_ping(int fd, size_t size, double seconds):
    cdef c.traffic_trips result
    cdef uint64_t limit = nanoseconds(seconds)
    cdef int error
    with nogil:
        error = c.traffic_stream_ping(fd, size, limit, &result)
    check(error)
    return result


def stream_pong(int fd, size_t size, double seconds):
    cdef c.traffic_stream result
    cdef uint64_t limit = nanoseconds(seconds)
    cdef int error
    with nogil:
        error = c.traffic_stream_pong(fd, size, limit, &result)
    check(error)
    return result


def datagram_pong(int fd, double seconds):
    cdef c.traffic_datagrams result
    cdef uint64_t limit = nanoseconds(seconds)
    cdef int error
    with nogil:
        error = c.traffic_datagram_pong(fd, limit, &result)
    check(error)
    return result
