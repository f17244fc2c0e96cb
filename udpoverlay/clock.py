"""Time as a parameter: what waits or dates something takes a `Clock`, so that tests need no time.

Owns: reading the machine's clocks and the event loop's timer. Must not know: what the time is for.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from udpoverlay.model.schedule import Moment

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """Two clocks and a timer; seconds throughout."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; they stand still while the machine is suspended."""

    def now(self) -> Moment:
        """Both clocks at this instant."""

    async def sleep(self, seconds: float) -> None:
        """Return when the monotonic clock has advanced by `seconds`."""


class SystemClock:
    """The machine's clocks and the event loop's timer."""

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC."""
        return time.monotonic()

    def now(self) -> Moment:
        """CLOCK_MONOTONIC, and seconds since the epoch."""
        return Moment(time.monotonic(), time.time())

    async def sleep(self, seconds: float) -> None:
        """Wait in the running event loop."""
        await asyncio.sleep(seconds)


SYSTEM_CLOCK = SystemClock()
"""For defaults of parameters."""
