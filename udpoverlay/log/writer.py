"""Lines to a descriptor that may take none: `write` returns at once, whatever the reader does.

Owns: the queue, its thread, what is lost and how that is reported. Must not know: what a line says.

A pipe that is full, a terminal that was stopped and a slow disk all make write(2) wait, and
O_NONBLOCK belongs to all who share the descriptor: so a thread waits. Lines beyond the queue's
limit, and lines that the descriptor refuses, are lost; where they are missing, one line says how
many as soon as lines flow again.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable

__all__ = ["QUEUE_BYTES", "Writer"]

QUEUE_BYTES = 256 << 10
"""More than a thousand lines; what comes beyond them is lost."""


class Writer:
    """Writes to `fd`, which stays its owner's; `lost_line(n)` is the line for `n` lost ones."""

    def __init__(
        self, fd: int, lost_line: Callable[[int], str], queue_bytes: int = QUEUE_BYTES
    ) -> None:
        self.lost = 0
        """Lines lost so far."""
        self._fd = fd
        self._lost_line = lost_line
        self._limit = queue_bytes
        # Its lock is reentrant: a signal handler may log while the code it interrupts does.
        self._changed = threading.Condition()
        self._queue: deque[bytes | int] = deque()
        """Lines, and a number where so many are missing."""
        self._bytes = 0
        self._busy = False
        self._untold = 0
        self._torn = False
        self._closed = False
        with self._changed:
            self._thread = self._start(None)

    def write(self, line: str) -> None:
        """Queue a line with its end, or lose it."""
        data = line.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._bytes + len(data) > self._limit:
                self._lose(1)
                return
            if self._untold:
                self._queue.append(self._untold)
                self._untold = 0
            self._queue.append(data)
            self._bytes += len(data)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until all is written; false when it was not within `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._queue or self._busy), seconds)

    def renew(self) -> None:
        """Go on with another thread, which has the rights that the caller has now."""
        with self._changed:
            self._thread = self._start(self._thread)
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread once it has written what is queued; does not wait for that."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _lose(self, lines: int) -> None:
        self.lost += lines
        self._untold += lines

    def _start(self, before: threading.Thread | None) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(before,), name="log", daemon=True)
        thread.start()
        return thread

    def _is_ours(self) -> bool:
        return self._thread is threading.current_thread()

    def _run(self, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()  # it may be in the middle of a line
        del before
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while self._is_ours() and not self._queue and not self._closed:
                    self._changed.wait()
                if not self._is_ours() or not self._queue:
                    return
                item = self._queue.popleft()
                self._busy = True
            written = self._put(item)
            with self._changed:
                self._account(item, written)

    def _account(self, item: bytes | int, written: bool) -> None:
        if isinstance(item, bytes):
            self._bytes -= len(item)
            if not written:
                self._lose(1)
        elif not written:
            self._untold += item
        if written and self._untold and not self._queue:
            self._queue.append(self._untold)
            self._untold = 0

    def _put(self, item: bytes | int) -> bool:
        data = item if isinstance(item, bytes) else self._lost_line(item).encode()
        if self._torn:
            data = b"\n" + data
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # the descriptor was made non-blocking by another process
                waiting = select.poll()
                waiting.register(self._fd, select.POLLOUT)
                waiting.poll()
            except OSError:
                self._torn = self._torn or len(rest) < len(data)
                return False
        self._torn = False
        return True
