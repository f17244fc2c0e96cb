"""Actions: the child processes of one agent.

Owns: starting, signalling, waiting, their logs under /run/log, their CPUs and CPU
time. A process is named by its PID inside the host.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

__all__ = ["cpu_seconds", "poll", "read_log", "run", "run_on", "send_signal", "spawn", "wait"]

LOG_DIR = Path("/run/log")
_children: dict[int, subprocess.Popen[bytes]] = {}


def spawn(
    argv: list[str],
    log: str,
    env: dict[str, str],
    descriptors: list[int] | None = None,
    cwd: str | None = None,
) -> int:
    """Start `argv` and return its PID.

    Output goes to the end of /run/log/`log`, or stdin, stdout and stderr are the three passed
    descriptors. `env` is added to our own environment.
    """
    environment = {**os.environ, **env}
    if descriptors:
        stdin, stdout, stderr = descriptors
        child = subprocess.Popen(
            argv, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, cwd=cwd
        )
    else:
        with (LOG_DIR / log).open("ab") as sink:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=environment,
                start_new_session=True,
                cwd=cwd,
            )
    _children[child.pid] = child
    return child.pid


def poll(pid: int) -> int | None:
    """The exit status (negative: signal number), None while it runs."""
    return _children[pid].poll()


def wait(pid: int, seconds: float) -> int | None:
    """Wait for the end of a process; None when it still runs after `seconds`."""
    try:
        return _children[pid].wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def send_signal(pid: int, number: int) -> None:
    """Signal a process; nothing happens when it has ended."""
    _children[pid].send_signal(number)


def run(argv: list[str], seconds: float) -> tuple[int, str]:
    """Run `argv` to its end; returns exit status and what it printed (both streams)."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def read_log(log: str, last_bytes: int) -> str:
    """The end of a log file."""
    with (LOG_DIR / log).open("rb") as source:
        size = source.seek(0, os.SEEK_END)
        source.seek(max(0, size - last_bytes))
        return source.read().decode(errors="replace")


def cpu_seconds(pid: int) -> float:
    """User plus system time of all threads of a process since its start, to the nanosecond.

    The clock id is MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED), include/linux/posix-timers_types.h.
    """
    return time.clock_gettime((~pid << 3) | 2)


def run_on(pid: int, cpus: list[int]) -> None:
    """Keep every thread of a process on these CPUs; threads inherit that from their makers."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):  # ended meanwhile
            os.sched_setaffinity(int(thread), cpus)
