"""Which CPUs the two ends of a ping-pong and their daemons run on: apart, as two hosts would.

Left to itself the scheduler now and then puts both ends on one CPU, where a wake-up costs nothing;
the round trip is then several times as fast as between any two hosts, and in the next run it is
not. Bulk transfers and their daemons go where the scheduler puts them. Owns: this choice.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

__all__ = ["run_on", "sides"]

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def _core(cpu: int) -> str:
    """A name that is the same for hardware threads of one core."""
    try:
        return Path(_TOPOLOGY.format(cpu)).read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


@functools.cache
def sides() -> tuple[frozenset[int], frozenset[int]]:
    """CPUs of the client and of the server; both all of ours where there is one core only."""
    ours = sorted(os.sched_getaffinity(0))
    cores = list(dict.fromkeys(_core(cpu) for cpu in ours))
    first = set(cores[: len(cores) // 2])
    client = frozenset(cpu for cpu in ours if _core(cpu) in first)
    server = frozenset(ours) - client
    return (client, server) if client else (server, server)


def run_on(cpus: frozenset[int]) -> None:
    """Keep the calling thread on these CPUs."""
    os.sched_setaffinity(0, cpus)
