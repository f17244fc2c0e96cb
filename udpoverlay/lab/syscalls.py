"""The system calls that Python 3.10 has no name for: unshare, mount, prctl.

Owns: their numbers and their errors. Must not know: what a host is.
Numbers: include/uapi/linux/{sched,mount,prctl}.h.
"""

from __future__ import annotations

import ctypes
import os
import signal

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "die_with_parent",
    "mount_private",
    "mount_proc",
    "mount_tmpfs",
    "unshare",
]

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_MS_NOSUID = 1 << 1
_MS_NODEV = 1 << 2
_MS_REC = 1 << 14
_MS_PRIVATE = 1 << 18
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Move this process (for CLONE_NEWPID: its later children) into new namespaces."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def die_with_parent() -> None:
    """Have the kernel send us SIGKILL when the thread that started us ends."""
    _check(
        _libc.prctl(
            ctypes.c_int(_PR_SET_PDEATHSIG),
            ctypes.c_ulong(signal.SIGKILL),
            *(ctypes.c_ulong(0),) * 3,
        ),
        "prctl",
    )


def _mount(source: bytes, target: str, kind: bytes | None, flags: int, data: bytes | None) -> None:
    _check(
        _libc.mount(source, os.fsencode(target), kind, ctypes.c_ulong(flags), data),
        f"mount {target}",
    )


def mount_private() -> None:
    """Keep what is mounted from here on inside this mount namespace."""
    _mount(b"none", "/", None, _MS_REC | _MS_PRIVATE, None)


def mount_tmpfs(target: str) -> None:
    """Put an empty memory file system, mode 0755, over `target`."""
    _mount(b"tmpfs", target, b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=0755")


def mount_proc() -> None:
    """Put a /proc that shows this PID namespace over the machine's."""
    _mount(b"proc", "/proc", b"proc", _MS_NOSUID | _MS_NODEV, None)
