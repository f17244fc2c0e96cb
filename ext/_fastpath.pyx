# SPDX-License-Identifier: Apache-2.0
# cython: auto_pickle=False, autotestdict=False
"""The compiled data path: verdicts, routes, the pump (documented in udpoverlay/_fastpath.pyi).

Thin on purpose: values in, values out. Every rule is in the C unit that the call goes to.
"""

cimport cython
from libc.errno cimport E2BIG, EINVAL, ENOMEM, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.stdlib cimport posix_memalign

from fastpath cimport *

import os


cdef int _check(int rc) except -1:
    """The one place where -errno becomes an exception."""
    if rc >= 0:
        return 0
    if rc == -ENOMEM:
        raise MemoryError
    if rc == -E2BIG:
        raise MemoryError(f"routes would take more than {ROUTES_MEMORY_MAX >> 20} MiB")
    if rc == -EINVAL:
        raise ValueError(os.strerror(-rc))
    raise OSError(-rc, os.strerror(-rc))


# ---- verdict.h


cdef dict _DIRECTIONS = {
    <int>DIRECTION_OUTBOUND: "outbound",
    <int>DIRECTION_INBOUND: "inbound",
    <int>DIRECTION_NONE: "",
}


cdef tuple _facts(const verdict_facts_t *facts):
    return (
        facts.name.decode().lower(),
        _DIRECTIONS[<int>facts.direction],
        "ok" if facts.kind == VERDICT_KIND_OK else "drop",
        facts.help.decode(),
    )


VERDICTS = tuple([_facts(&verdict_facts[i]) for i in range(VERDICT_COUNT)])
COUNTERS = tuple([_facts(&counter_facts[i]) for i in range(COUNTER_COUNT)])
HISTOGRAMS = tuple([_facts(&histogram_facts[i]) for i in range(HISTOGRAM_COUNT)])


# ---- fallback.h


cdef tuple _fallback(str name, const fallback_state *state):
    return (
        name,
        fallback_cause_help[state.cause].decode(),
        state.count,
        state.retry_at,
    )


# ---- routes.h

include "routes.pxi"


# ---- kernel.h

TUNGETFEATURES = <unsigned>c_TUNGETFEATURES
TUNSETOFFLOAD = <unsigned>c_TUNSETOFFLOAD
TUN_F_CSUM = c_TUN_F_CSUM
TUN_F_TSO4 = c_TUN_F_TSO4
TUN_F_TSO6 = c_TUN_F_TSO6
TUN_F_TSO_ECN = c_TUN_F_TSO_ECN
TUN_F_USO4 = c_TUN_F_USO4
TUN_F_USO6 = c_TUN_F_USO6
SO_RCVBUFFORCE = c_SO_RCVBUFFORCE
SO_SNDBUFFORCE = c_SO_SNDBUFFORCE
SOL_UDP = c_SOL_UDP
UDP_SEGMENT = c_UDP_SEGMENT
UDP_GRO = c_UDP_GRO


cdef int _program(sock_fprog *program, bytes instructions) except -1:
    """`instructions` must outlive it."""
    if len(instructions) % sizeof(sock_filter) != 0:
        raise ValueError(f"an instruction takes {sizeof(sock_filter)} bytes")
    program.len = len(instructions) // sizeof(sock_filter)
    program.filter = <sock_filter *><const uint8_t *>instructions
    return 0


def attach_filter(int fd, bytes instructions not None):
    cdef sock_fprog program
    _program(&program, instructions)
    if setsockopt(fd, c_SOL_SOCKET, c_SO_ATTACH_FILTER, &program, sizeof(program)) != 0:
        _check(-errno)


# ---- process/

include "process.pxi"


# ---- trace/

include "recorder.pxi"


# ---- pump.h, worker.h

include "worker.pxi"
