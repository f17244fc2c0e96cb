"""What asyncio lacks: the first of several to end, event or sleep, back-off with jitter.

Owns: how tasks are ended so that none is left behind. Must not know: what they do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

__all__ = ["Backoff", "end", "event_or_sleep", "first_to_end"]

CANCEL_AGAIN_SECONDS = 1.0
"""Before Python 3.12 a wait_for() in a library can swallow a cancellation: it is repeated."""


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel `tasks` until all have ended; what they raise is dropped."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
        for task in done:
            if not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not log it


async def first_to_end(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all `parts` until one returns or raises, then end the others; its error is ours.

    When several end in the same turn, the first of them in the order of `parts` decides.
    """
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        await end(tasks)


async def event_or_sleep(
    event: asyncio.Event,
    seconds: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> bool:
    """Wait until `event` is set (True) or `seconds` have passed (False).

    The event stays set. `sleep` is the clock's.
    """
    if event.is_set():
        return True
    waits = [asyncio.ensure_future(sleep(seconds)), asyncio.ensure_future(event.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(waits)
    return event.is_set()


class Backoff:
    """The pauses between attempts: doubled from `first` to `most` seconds.

    Each is up to `jitter` of its length longer, by chance: thousands of hosts lose one registry in
    the same moment, and must not come back in the same one.
    """

    def __init__(self, first: float, most: float, jitter: float = 0.25) -> None:
        self._first = first
        self._most = most
        self._jitter = jitter
        self._next = first

    def next(self, most: float | None = None) -> float:
        """Seconds to wait now; the next pause is twice as long, at most `most`."""
        pause = self._next * random.uniform(1.0, 1.0 + self._jitter)  # noqa: S311 - spread, no secret
        self._next = min(self._next * 2, self._most if most is None else most)
        return pause

    def reset(self) -> None:
        """An attempt worked: the next pause is the first again."""
        self._next = self._first
