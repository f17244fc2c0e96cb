"""Leaves to the service manager what the next run needs: descriptors in its store, the rest in a
file beside the admin socket.

Owns: when both are brought up to date. Must not know: what is in them. After SIGKILL the file is a
little old: its routes by half a second at most, its counts by up to five.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from udpoverlay.backend.base import Leaving
from udpoverlay.handover.bridge import TUN, UDP
from udpoverlay.handover.statefile import StateFile
from udpoverlay.host.notify import ServiceManager
from udpoverlay.log import RateLimited, get_logger

__all__ = ["Keeper", "keeping"]

_log = get_logger(__name__)

_LOOK_SECONDS = 0.25
_WRITE_SECONDS = 5.0
_WRITE_SHARE = 100
"""Between two writes at least so many times as long as one takes."""


class Keeper:
    """For one network; without a service manager it does nothing."""

    def __init__(self, leaving: Leaving, manager: ServiceManager, file: StateFile) -> None:
        self._leaving = leaving
        self._manager = manager
        self._file = file
        self._kept: tuple[list[int], int] | None = None
        self._noted = -1
        """Publications of routes that the file has."""
        self._wrote = float("-inf")
        self._took = 0.0
        self._limited = RateLimited(_log, time.monotonic)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Bring up to date what is not."""
        descriptors = self._leaving.descriptors()
        if descriptors != self._kept:
            queues, udp = descriptors
            self._manager.keep(TUN, queues)
            self._manager.keep(UDP, [udp])
            self._kept, self._wrote = descriptors, float("-inf")
        now, published = time.monotonic(), self._leaving.publications
        pause = _LOOK_SECONDS if published != self._noted else _WRITE_SECONDS
        if now - self._wrote >= max(pause, _WRITE_SHARE * self._took):
            self._write(self._leaving.legacy().dump())
            self._noted, self._wrote = published, time.monotonic()
            self._took = self._wrote - now

    async def last(self) -> None:
        """At the end: nothing moves from here, so that the counts are the last ones."""
        self.look()
        self._write((await self._leaving.suspend()).dump())

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            self._limited.warning(
                "state", "cannot note what the next run needs", path=self._file.path, reason=error
            )


@contextlib.asynccontextmanager
async def keeping(
    leaving: Leaving | None, manager: ServiceManager, file: StateFile
) -> AsyncIterator[None]:
    """Keep it up to date while the block runs, and once more behind it."""
    if leaving is None or not manager.keeps or not file.path:
        file.remove()
        yield
        return
    keeper = Keeper(leaving, manager, file)
    keeper.look()
    task = asyncio.ensure_future(keeper.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await keeper.last()
