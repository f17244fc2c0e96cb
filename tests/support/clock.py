"""A clock that moves only when a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from tests.support.aio import settle
from udpoverlay.model.schedule import Moment


class FakeClock:
    """Implements clock.Clock. `advance` moves both clocks, `set_wall` the wall clock alone."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._offset = wall - monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self._monotonic

    def now(self) -> Moment:
        return Moment(self._monotonic, self._monotonic + self._offset)

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Wake every sleeper in its turn, and let it act before time goes on."""
        end = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._monotonic = max(self._monotonic, due)
            if not future.done():
                future.set_result(None)
                await settle()
        self._monotonic = end
        await settle()

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: the wall clock runs on, the monotonic clock stands still."""
        self._offset += seconds

    def set_wall(self, by: float) -> None:
        """Set the wall clock, as an administrator does."""
        self._offset += by
