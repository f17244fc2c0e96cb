"""A look at the kernel inside a network namespace that only the look sees.

Owns: the namespace's life: it is a thread's, and ends with it and with what it opened.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_private_namespace"]

_CLONE_NEWNET = 0x40000000
"""linux/sched.h"""
_T = TypeVar("_T")


def in_private_namespace(look: Callable[[], _T]) -> _T:
    """`look()` in an empty network namespace. Raises OSError where none can be made."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            results.append(look())
        except BaseException as error:  # handed to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="private-namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
