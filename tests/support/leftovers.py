"""Finding what a program left behind: processes by a mark in their environment, namespaces."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["eventually", "everyone", "network_namespaces", "with_mark"]


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
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


def network_namespaces(pids: Iterable[int]) -> set[str]:
    """The network namespaces that these processes are in."""
    found = set()
    for pid in pids:
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
        except OSError:
            continue
    return found
