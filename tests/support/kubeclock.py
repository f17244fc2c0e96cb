"""Time that stands still while requests are under way: periods, tested with a real server."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import datetime, timezone

from tests.support.aio import settle, until
from udpoverlay.kubernetes.transport import Request, Transport
from udpoverlay.model.schedule import Moment

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=timezone.utc)


class Busy:
    """How many requests of some clients are under way, save those that are known to hang."""

    def __init__(self, hanging: Callable[[], int] = lambda: 0) -> None:
        self._hanging = hanging
        self._requests = 0

    def count(self, transport: Transport) -> None:
        """Count the requests of `transport` from now on."""
        send = transport.send

        async def counted(request: Request, most: int) -> bytearray:
            self._requests += 1
            try:
                return await send(request, most)
            finally:
                self._requests -= 1

        transport.send = counted  # type: ignore[method-assign]  # that is the point

    async def calm(self) -> None:
        """Wait until nothing is under way but what hangs."""
        while True:
            await until(lambda: self._requests <= self._hanging())
            if not self._hanging():
                return
            # A server takes a moment to see that the client of a hanging request has gone.
            await asyncio.sleep(0.03)
            if self._requests <= self._hanging():
                return


class KubeClock:
    """Implements clock.Clock; starts at 0. `run_to` lets every sleeper act in its turn."""

    def __init__(self, busy: Busy) -> None:
        self.seconds = 0.0
        self._busy = busy
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> Moment:
        return Moment(self.seconds, START.timestamp() + self.seconds)

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.seconds + seconds, next(self._order), future))
        await future

    async def run_to(self, seconds: float) -> None:
        """Let the time go on to `seconds`."""
        await self._calm()
        while self._sleepers and self._sleepers[0][0] <= seconds:
            due, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self.seconds = max(self.seconds, due)
                future.set_result(None)
                await self._calm()
        self.seconds = max(self.seconds, seconds)
        await self._calm()

    async def _calm(self) -> None:
        await settle()
        await self._busy.calm()
        await settle()
