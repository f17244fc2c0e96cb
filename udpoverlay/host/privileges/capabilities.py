"""Giving up capabilities, for good.

Owns: their names and numbers, the order of the calls, what the kernel says of a thread. Must not
know: which are needed (needs.py).

A capability belongs to a thread. Threads and programs that a thread starts later have what it has;
those that run already keep theirs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from udpoverlay import _fastpath as fp

__all__ = ["Rights", "give_up", "lowered", "mask", "names", "of_thread", "threads"]

_NAMES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"),
    *("SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"),
    *("IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT"),
    *("SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD"),
    *("LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG"),
    *("WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"),
)
"""In the order of linux/capability.h."""
_MOST = 64
_TASKS = Path("/proc/self/task")


def mask(of: Iterable[str]) -> int:
    """The bits of capabilities by name."""
    found = 0
    for name in of:
        found |= 1 << _NAMES.index(name)
    return found


def names(bits: int) -> list[str]:
    """The names of capabilities by their bits; one that is newer than us is its number."""
    return [
        _NAMES[number] if number < len(_NAMES) else str(number)
        for number in range(_MOST)
        if bits >> number & 1
    ]


@dataclass(frozen=True, slots=True)
class Rights:
    """What the kernel says of one thread."""

    name: str
    permitted: int
    no_new_privileges: bool
    filtered: bool
    """By seccomp."""


def of_thread(folder: Path = Path("/proc/thread-self")) -> Rights | None:
    """Of the thread that asks, or of another one's folder; None where that cannot be read."""
    try:
        text = (folder / "status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))
    return Rights(
        fields.get("Name", ""),
        permitted=int(fields.get("CapPrm", "0"), 16),
        no_new_privileges=fields.get("NoNewPrivs") == "1",
        filtered=fields.get("Seccomp") == "2",
    )


def threads() -> Iterator[Rights]:
    """Of all threads of this process, by the names that Python has for them."""
    known = {str(each.native_id): each.name for each in threading.enumerate()}
    try:
        folders = sorted(_TASKS.iterdir())
    except OSError:
        return
    for folder in folders:
        found = of_thread(folder)
        if found is not None:  # it has not ended meanwhile
            yield replace(found, name=known.get(folder.name, found.name))


@contextlib.contextmanager
def lowered(bits: int) -> Iterator[None]:
    """Without these capabilities in effect, as long as it lasts. Raises OSError."""
    effective, permitted, inheritable = fp.capabilities()
    fp.set_capabilities(effective & ~bits, permitted, inheritable)
    try:
        yield
    finally:
        fp.set_capabilities(effective, permitted, inheritable)


def give_up(keep: int) -> None:
    """Keep, of what this thread has, the capabilities `keep` alone. Raises OSError.

    The programs that it executes get no others either. For root the bounding set sees to that; for
    another user the kept ones become ambient, so that nft and iptables have them, too.
    """
    for number in range(_MOST):
        if not keep >> number & 1:
            try:
                fp.drop_from_bounding_set(number)
            except OSError as error:
                if error.errno == errno.EINVAL:  # beyond the kernel's last one
                    break
                if error.errno != errno.EPERM:
                    raise
                break  # without SETPCAP; no_new_privs keeps programs from gaining any
    effective, permitted, inheritable = fp.capabilities()
    root = os.geteuid() == 0
    kept = permitted & keep
    fp.set_capabilities(effective & keep, kept, inheritable & keep if root else kept)
    if root:
        return
    for number in range(_MOST):
        if kept >> number & 1:
            try:
                fp.raise_ambient(number)
            except OSError:  # before Linux 4.3, or forbidden (SECBIT_NO_CAP_AMBIENT_RAISE)
                return
