"""What drives workers: threads that sleep in poll, or the event loop that runs everything else.

Both make the same C calls. A driver that fails reports once through `on_failure`, in the loop's
thread, and moves no packet any more; it never fails silently.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Protocol

from udpoverlay import _fastpath as fp

__all__ = ["BUDGET", "Driver", "LoopDriver", "ThreadDriver"]

BUDGET = 4
"""Batches that one callback in the loop moves before other callbacks get their turn."""

RETRY_SECONDS = 0.001

OnFailure = Callable[[BaseException], None]


class Driver(Protocol):
    """Moves packets from start() to stop()."""

    def start(self, loop: asyncio.AbstractEventLoop, on_failure: OnFailure) -> None:
        """Begin; `on_failure` is called in `loop` when a worker ends by itself."""

    async def stop(self) -> None:
        """Return when no worker touches its descriptors any more; idempotent."""


class ThreadDriver:
    """One thread a worker; the GIL is held only to begin and to end."""

    def __init__(self, workers: list[fp.Worker]) -> None:
        self._workers = workers
        self._threads: list[threading.Thread] = []

    def start(self, loop: asyncio.AbstractEventLoop, on_failure: OnFailure) -> None:
        """Start one daemon thread for each worker."""

        def run(worker: fp.Worker) -> None:
            try:
                worker.run()
            except BaseException as error:  # whatever it is, the loop must know
                with contextlib.suppress(RuntimeError):  # closed: nobody is left to be told
                    loop.call_soon_threadsafe(on_failure, error)

        for number, worker in enumerate(self._workers):
            thread = threading.Thread(
                target=run, args=(worker,), name=f"udpoverlay-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    async def stop(self) -> None:
        """Wake and join all threads; they end within one batch."""
        for worker in self._workers:
            worker.stop()
        threads, self._threads = self._threads, []
        for thread in threads:
            await asyncio.get_running_loop().run_in_executor(None, thread.join)


class LoopDriver:
    """One worker inside the event loop: no thread, no hand-over, but Python's other work delays it.

    While the UDP socket has no room the TUN is not watched, so the TUN's queue holds packets back.
    """

    def __init__(self, worker: fp.Worker, tun_fd: int, udp_fd: int) -> None:
        self._worker = worker
        self._tun_fd = tun_fd
        self._udp_fd = udp_fd
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_failure: OnFailure | None = None
        self._retry: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop, on_failure: OnFailure) -> None:
        """Watch both descriptors."""
        self._loop = loop
        self._on_failure = on_failure
        loop.add_reader(self._tun_fd, self._outbound)
        loop.add_reader(self._udp_fd, self._inbound)

    async def stop(self) -> None:
        """Stop watching; no callback runs afterwards."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        if self._retry is not None:
            self._retry.cancel()
        loop.remove_reader(self._tun_fd)
        loop.remove_reader(self._udp_fd)
        loop.remove_writer(self._udp_fd)

    def _inbound(self) -> None:
        self._step(fp.INBOUND)

    def _outbound(self) -> None:
        """The TUN is readable."""
        state = self._step(fp.OUTBOUND)
        if self._loop is None or not state & (fp.BLOCKED | fp.RETRY):
            return
        self._loop.remove_reader(self._tun_fd)
        self._wait(state)

    def _wait(self, state: int) -> None:
        assert self._loop is not None
        if state & fp.BLOCKED:
            self._loop.add_writer(self._udp_fd, self._writable)
        else:
            self._retry = self._loop.call_later(RETRY_SECONDS, self._writable)

    def _writable(self) -> None:
        """What waited may be sent now."""
        self._retry = None
        if self._loop is not None:
            self._loop.remove_writer(self._udp_fd)
        state = self._step(fp.OUTBOUND)
        if self._loop is None:
            return
        if state & (fp.BLOCKED | fp.RETRY):
            self._wait(state)
        else:
            self._loop.add_reader(self._tun_fd, self._outbound)

    def _step(self, direction: int) -> int:
        try:
            return self._worker.step(direction, BUDGET)
        except OSError as error:
            loop, on_failure = self._loop, self._on_failure
            if loop is not None and on_failure is not None:
                self._loop = None
                loop.remove_reader(self._tun_fd)
                loop.remove_reader(self._udp_fd)
                loop.remove_writer(self._udp_fd)
                loop.call_soon(on_failure, error)
            return 0
