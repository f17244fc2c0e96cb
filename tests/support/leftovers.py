"""Finding what a program left behind: its processes, by a mark or as orphans that we adopt."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.patience import DEADLINE

__all__ = ["adopted", "eventually", "everyone", "with_mark"]

_PR_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h"""


def eventually(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Wait until the condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.02)


def everyone() -> list[int]:
    """All processes of the machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def with_mark(mark: str) -> list[int]:
    """Processes that inherited `mark` in their environment, zombies excepted."""
    found = []
    for pid in everyone():
        try:
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


@contextlib.contextmanager
def adopted() -> Iterator[Callable[[], set[int]]]:
    """Yields what tells which processes started inside the block are left, whatever began them.

    We adopt orphans meanwhile (PR_SET_CHILD_SUBREAPER). Looking for the namespaces of those that
    ended would not do: the kernel gives the number of a namespace that is gone to the next one,
    made by whomever.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    before = _children()

    def left() -> set[int]:
        for pid in _children() - before:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return _children() - before

    try:
        yield left
    finally:
        assert prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


def _children() -> set[int]:
    """Processes whose parent we are."""
    found = set()
    for pid in everyone():
        try:
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == os.getpid():
            found.add(pid)
    return found
