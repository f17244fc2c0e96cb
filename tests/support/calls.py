"""Makes system calls of the pump fail in a process of its own (tests/c/fail_calls.c, preloaded).

def scenario() -> None:
    with rig(udp_segment=True) as r:
        orders().fail_segmented(errno.EIO)
        ...

def test_something() -> None:
    run_with_orders(scenario)
"""

from __future__ import annotations

import functools
import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.preload import run_preloaded

__all__ = ["Orders", "orders", "run_with_orders"]


class Orders:
    """What the preloaded library is to do next; see tests/c/fail_calls.c."""

    def __init__(self) -> None:
        with open(os.environ["FAIL_CALLS"], "r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), 64)).cast("i")

    def fail_send(self, code: int, times: int = 1) -> None:
        """The next `times` sends fail."""
        self._words[0], self._words[1] = code, times

    def fail_segmented(self, code: int, times: int = 1) -> None:
        """The next `times` sends with UDP_SEGMENT fail."""
        self._words[2], self._words[3] = code, times

    def fail_super(self, code: int, times: int = 1) -> None:
        """The next `times` writes of a super-packet fail."""
        self._words[4], self._words[5] = code, times

    def fail_read(self, descriptor: int, after: int, code: int) -> None:
        """Of `descriptor` so many reads succeed, then one fails."""
        self._words[8], self._words[9], self._words[10] = descriptor + 1, after, code

    def still_to_fail(self) -> int:
        """Calls that are ordered to fail and were not made yet."""
        return self._words[1] + self._words[3] + self._words[5]

    def wait(self, seconds: int) -> None:
        """The monotonic clock runs ahead by so much more."""
        self._words[6] += seconds

    @property
    def most_segments(self) -> int:
        """The most datagrams that one send has had so far."""
        return self._words[7]


@functools.cache
def orders() -> Orders:
    """Those of this process, which must be one of run_with_orders."""
    return Orders()


def run_with_orders(scenario: Callable[[], None], **environment: str) -> None:
    """`scenario`, a function of a module, in a process in which calls can be made to fail."""
    with tempfile.TemporaryDirectory() as directory:
        run_preloaded(
            "tests.support.calls",
            "fail_calls.c",
            "FAIL_CALLS",
            Path(directory),
            f"{scenario.__module__}:{scenario.__qualname__}",
            environment=environment,
        )


def main(name: str) -> None:
    import importlib  # noqa: PLC0415 - of the process under test alone

    module, _, function = name.partition(":")
    getattr(importlib.import_module(module), function)()


if __name__ == "__main__":
    import sys

    main(sys.argv[1])
