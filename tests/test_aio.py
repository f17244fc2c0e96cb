"""Ending tasks, racing them, sleeping until an event, backing off."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.aio import settle
from tests.support.clock import FakeClock
from udpoverlay.aio import Backoff, end, event_or_sleep, first_to_end


class Part:
    """A coroutine that notes whether it was cancelled, and can hold out against that."""

    def __init__(self, swallow: int = 0) -> None:
        self.cancelled = 0
        self._swallow = swallow

    async def run(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if self.cancelled > self._swallow:
                    raise


async def after(turns: int, error: BaseException | None = None) -> None:
    await settle(turns)
    if error is not None:
        raise error


async def test_first_to_end_cancels_the_others() -> None:
    other = Part()
    before = len(asyncio.all_tasks())
    await first_to_end(other.run(), after(3))
    assert other.cancelled == 1
    assert len(asyncio.all_tasks()) == before


async def test_first_to_end_raises_the_error_of_the_first() -> None:
    other = Part()
    with pytest.raises(KeyError):
        await first_to_end(other.run(), after(2, KeyError()), after(9, ValueError()))
    assert other.cancelled == 1


async def test_first_to_end_decides_ties_by_order() -> None:
    with pytest.raises(KeyError):
        await first_to_end(after(2, KeyError()), after(2, ValueError()))


async def test_first_to_end_when_cancelled_leaves_nothing_running() -> None:
    part = Part()
    task = asyncio.ensure_future(first_to_end(part.run()))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert part.cancelled == 1


async def test_end_repeats_a_cancellation_that_was_swallowed() -> None:
    stubborn = Part(swallow=1)
    task = asyncio.ensure_future(stubborn.run())
    await settle()
    await end([task])
    assert task.cancelled()
    assert stubborn.cancelled == 2


async def test_end_drops_errors_and_takes_nothing() -> None:
    await end([asyncio.ensure_future(after(0, KeyError()))])
    await end([])


async def test_event_or_sleep_returns_at_the_event() -> None:
    clock, event = FakeClock(), asyncio.Event()
    waiting = asyncio.ensure_future(event_or_sleep(event, 60, clock.sleep))
    await settle()
    assert not waiting.done()
    event.set()
    assert await waiting
    assert event.is_set()
    assert await event_or_sleep(event, 60, clock.sleep), "at once when it is set already"


async def test_event_or_sleep_returns_when_the_time_is_over() -> None:
    clock, event = FakeClock(), asyncio.Event()
    waiting = asyncio.ensure_future(event_or_sleep(event, 60, clock.sleep))
    await clock.advance(59)
    assert not waiting.done()
    await clock.advance(1)
    assert not await waiting


def test_backoff_doubles_to_its_limit_and_starts_again() -> None:
    backoff = Backoff(0.1, 5.0, jitter=0)
    assert [backoff.next() for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert [backoff.next(60.0) for _ in range(3)] == [5.0, 10.0, 20.0]
    backoff.reset()
    assert backoff.next() == 0.1


def test_backoff_spreads_upwards_by_at_most_a_quarter() -> None:
    pauses = [Backoff(1.0, 8.0).next() for _ in range(200)]
    assert min(pauses) >= 1.0
    assert max(pauses) <= 1.25
    assert len({round(pause, 6) for pause in pauses}) > 100
