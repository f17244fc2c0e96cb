"""Has the kernel refuse the system calls that the daemon does not make.

Owns: whether this kernel and this architecture can, and the words for that. Must not know: which
calls (calls.py), the program (bpf.py).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from udpoverlay import _fastpath as fp
from udpoverlay.host.privileges import bpf
from udpoverlay.host.privileges.calls import Group

__all__ = ["Unavailable", "allow_only", "refuse_rings"]

_ACTIONS = Path("/proc/sys/kernel/seccomp/actions_avail")
_WIDE = 2**32
_REASONS = {
    errno.EINVAL: "this kernel has no seccomp filters",
    errno.ENOSYS: "this kernel or a filter around this process does not know seccomp(2)",
    errno.EPERM: "a filter around this process forbids seccomp(2)",
    errno.EACCES: "no_new_privs could not be set",
    errno.EBUSY: "a thread has filters of its own",
}


class Unavailable(Exception):
    """No filter; the text says why."""


def refuse_rings() -> None:
    """No io_uring in this process from here on. Raises Unavailable.

    The event loop makes a ring when it begins, where it can, and would need it for good; without
    one it does with epoll alone.
    """
    _install(bpf.refuse(bpf.IO_URING))


def allow_only(groups: Iterable[Group], *, refusing: bool) -> None:
    """For all threads and their children; `refusing` off: log in the kernel's log what is not in
    `groups`. Raises Unavailable.
    """
    name = os.uname().machine
    machine = bpf.MACHINES.get(name) if sys.maxsize > _WIDE and sys.byteorder == "little" else None
    if machine is None:
        raise Unavailable(f"there is no list of calls for this architecture ({name})")
    if not refusing and not _can_log():
        raise Unavailable("this kernel cannot log calls (needs Linux 4.14)")
    _install(bpf.system_call_filter(machine, groups, refusing=refusing))


def _can_log() -> bool:
    try:
        return "log" in _ACTIONS.read_text(encoding="ascii").split()
    except OSError:
        return False


def _install(program: bytes) -> None:
    try:
        fp.filter_system_calls(program)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise Unavailable(reason) from error
