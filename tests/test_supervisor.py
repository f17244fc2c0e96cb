"""Endless work that ends by itself begins again, whatever ended it: logged, counted, later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.aio import settle
from tests.support.clock import FakeClock
from udpoverlay.supervisor import FIRST_PAUSE, LONGEST_PAUSE, Supervisor


class Work:
    """Ends at once by what `ends` says, then goes on for ever."""

    def __init__(self, *ends: Callable[[], None]) -> None:
        self.begun = 0
        self._ends = list(ends)

    async def run(self) -> None:
        self.begun += 1
        if self._ends:
            self._ends.pop(0)()
            return
        await asyncio.Event().wait()


def fails(error: BaseException) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


def supervised(clock: FakeClock) -> Supervisor:
    return Supervisor(clock)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (fails(KeyError("odd")), "KeyError: 'odd'"),
        (fails(RecursionError()), "RecursionError"),
        (fails(OSError("https://u:hun/ter2@k:1")), "OSError: https://***@k:1"),
        (fails(ValueError("x" * 10**6)), f"failed by ValueError: {'x' * 988}"),
        (fails(asyncio.CancelledError()), "CancelledError: cancelled by itself"),
        (lambda: None, "it returned"),
    ],
)
async def test_work_that_ended_begins_again(
    end: Callable[[], None], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock, work = FakeClock(), Work(end)
    supervisor = supervised(clock)
    supervisor.start("work", work.run)
    await settle()
    assert (work.begun, supervisor.failures) == (1, 1)
    assert words in supervisor.troubles()["work"]
    [record] = caplog.records
    assert record.exc_info is not None
    await clock.advance(FIRST_PAUSE * 1.25)
    assert work.begun == 2
    await clock.advance(2 * LONGEST_PAUSE)
    assert (work.begun, supervisor.failures) == (2, 1)
    assert supervisor.troubles() == {}
    await supervisor.aclose()


async def test_work_that_fails_for_ever_is_tried_less_and_less() -> None:
    clock, work = FakeClock(), Work(*(fails(ValueError("x")) for _ in range(1000)))
    supervisor = supervised(clock)
    supervisor.start("work", work.run)
    await clock.advance(3600.0)
    # 0.5, 1, 2, 4 … 32 s, then 60 s each, all up to a quarter longer
    assert 50 <= work.begun <= 70
    assert supervisor.troubles()["work"] == f"failed {work.begun} times, last by ValueError: x"
    await supervisor.aclose()


async def test_a_fault_long_ago_lengthens_no_pause() -> None:
    clock = FakeClock()
    supervisor = supervised(clock)
    for _ in range(20):
        last = supervisor.failed("work", ValueError())
    assert last >= LONGEST_PAUSE
    await clock.advance(last + LONGEST_PAUSE + 1)  # sums of floats are not exact
    assert supervisor.failed("work", ValueError()) <= FIRST_PAUSE * 1.25


async def test_closing_ends_work_and_pauses_alike() -> None:
    clock = FakeClock()
    supervisor = supervised(clock)
    before = len(asyncio.all_tasks())
    for work in (Work(), Work(fails(ValueError()))):
        supervisor.start("work", work.run)
    await settle()
    await supervisor.aclose()
    assert len(asyncio.all_tasks()) == before
    assert supervisor.failures == 1
