"""Keeps endless work running: what ends by itself is logged, counted and started again.

A daemon whose task died of an unforeseen exception looks healthy and does nothing any
more. So every task that must not end has an owner here. Owns: when to begin again, and what to say.
Must not know: what the work is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from udpoverlay import aio
from udpoverlay.clock import SYSTEM_CLOCK, Clock
from udpoverlay.log import get_logger
from udpoverlay.redact import redact

__all__ = ["Supervisor"]

_log = get_logger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]
"""Makes the work, each time that it begins. It must be able to begin again."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
"""Seconds between an end and the next beginning; doubled in between."""
_MOST_TEXT = 1000
"""Characters of an error that are kept."""


@dataclass(slots=True)
class _Fault:
    backoff: aio.Backoff
    times: int = 0
    why: str = ""
    over_at: float = 0.0
    """When it has been quiet for so long that the fault is over."""


class Supervisor:
    """The owner of some tasks. Use inside a running event loop; `aclose` it."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.failures = 0
        """How often any work ended by itself, since start."""
        self._clock = clock
        self._faults: dict[str, _Fault] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def troubles(self) -> dict[str, str]:
        """What failed lately, by name of the work; a minute without a failure clears it."""
        now = self._clock.monotonic()
        return {
            name: f"failed {fault.times} times, last by {fault.why}"
            if fault.times > 1
            else f"failed by {fault.why}"
            for name, fault in self._faults.items()
            if now < fault.over_at
        }

    def start(self, name: str, work: Work) -> None:
        """Run `work` in a task of its own until `aclose`."""
        self._tasks.add(asyncio.create_task(self.run(name, work), name=name))

    async def run(self, name: str, work: Work) -> None:
        """Run `work` in the caller's task, again and again; only cancellation ends it."""
        while True:
            error = await _end_of(work())
            await self._clock.sleep(self.failed(name, error))

    def failed(self, name: str, error: BaseException) -> float:
        """Log and count an unforeseen error: seconds to wait before trying again."""
        now = self._clock.monotonic()
        fault = self._faults.get(name)
        if fault is None or now >= fault.over_at:
            fault = self._faults[name] = _Fault(aio.Backoff(FIRST_PAUSE, LONGEST_PAUSE))
        pause = fault.backoff.next()
        fault.times += 1
        # Status documents show it, one of them on a TCP port.
        fault.why = redact(f"{type(error).__name__}: {error}"[:_MOST_TEXT])
        fault.over_at = now + pause + LONGEST_PAUSE
        self.failures += 1
        _log.exception(
            "work that must go on has failed, it begins again",
            error=error,
            work=name,
            times=fault.times,
            after_seconds=round(pause, 1),
        )
        return pause

    async def aclose(self) -> None:
        """End all tasks."""
        tasks, self._tasks = self._tasks, set()
        await aio.end(tasks)


class _Returned(Exception):
    """Work that must not end returned."""


async def _end_of(work: Coroutine[Any, Any, None]) -> BaseException:
    """Wait for the end of `work`, in a task of its own: why it ended.

    A stray CancelledError, from the depths of a library, ends that task alone.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task})
    finally:
        await aio.end({task})
    if task.cancelled():
        return asyncio.CancelledError("cancelled by itself")
    return task.exception() or _Returned("it returned")
