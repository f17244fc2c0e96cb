"""The threads in which workers move packets; the event loop has other work (docs/adr/0001, 0007).

A worker that ends by itself is reported once through `on_failure`, in the loop's thread; nothing
fails silently.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from udpoverlay import _fastpath as fp

__all__ = ["WorkerThreads"]

OnFailure = Callable[[BaseException], None]


class WorkerThreads:
    """One thread a worker, from start() to stop(); the GIL is held only to begin and to end."""

    def __init__(self, workers: list[fp.Worker]) -> None:
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._started = False

    @property
    def started(self) -> bool:
        """Whether start() was called; stays true after stop()."""
        return self._started

    def start(self, loop: asyncio.AbstractEventLoop, on_failure: OnFailure) -> None:
        """Begin; `on_failure` is called in `loop` when a worker ends by itself."""

        def run(worker: fp.Worker) -> None:
            try:
                worker.run()
            except BaseException as error:  # whatever it is, the loop must know
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(on_failure, error)

        self._started = True
        for number, worker in enumerate(self._workers):
            thread = threading.Thread(
                target=run, args=(worker,), name=f"udpoverlay-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    async def stop(self) -> None:
        """Wake and join all threads; they end within one batch. Idempotent."""
        for worker in self._workers:
            worker.stop()
        threads, self._threads = self._threads, []
        for thread in threads:
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
