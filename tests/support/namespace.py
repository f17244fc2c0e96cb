"""Runs a piece of a test in a network namespace of its own, in a thread of its own.

A namespace belongs to a thread, so nothing of the test process changes; the namespace goes away
with the thread and what it opened.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001


def in_new_namespace(function: Callable[[], T]) -> T:
    """`function()` inside a fresh, empty network namespace."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            results.append(function())
        except BaseException as error:  # handed to the test's own thread
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def run_in_new_namespace(coroutine: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """`coroutine()` in an event loop inside a fresh network namespace."""
    return in_new_namespace(lambda: asyncio.run(coroutine()))


@contextmanager
def entered_namespace() -> Iterator[int]:
    """Moves this thread into a fresh network namespace; yields its descriptor, for `enter`."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            yield here
        finally:
            enter(before)
            os.close(here)
    finally:
        os.close(before)


def enter(namespace: int) -> None:
    """Moves this thread into the network namespace of a descriptor."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def tun(pattern: str = "flannel%d") -> Iterator[str]:
    """A TUN device while the block runs; yields its name."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    try:
        answer = fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", pattern.encode(), IFF_TUN_NO_PI))
        yield answer[:16].rstrip(b"\0").decode()
    finally:
        os.close(fd)
