"""Running a test in an event loop, waiting for conditions instead of sleeping."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import uvloop

from tests.support.patience import DEADLINE

T = TypeVar("T")

_cleanups: list[Callable[[], Awaitable[None]]] = []


def at_end(cleanup: Callable[[], Awaitable[None]]) -> None:
    """Await `cleanup()` when the running test ends, however it ends; the last one first."""
    _cleanups.append(cleanup)


def run(coroutine: Coroutine[Any, Any, T], deadline: float = DEADLINE) -> T:
    """Run a coroutine in a fresh uvloop, and fail when it takes longer than `deadline`."""

    async def bounded() -> T:
        try:
            return await asyncio.wait_for(coroutine, deadline)
        finally:
            while _cleanups:
                await _cleanups.pop()()

    return uvloop.run(bounded())


@dataclass(frozen=True, slots=True)
class InLoop(Generic[T]):
    """What a fixture gives for a value that lives in the test's event loop.

    `enter()` is called there, and the test gets what the context gives.
    """

    enter: Callable[[], contextlib.AbstractAsyncContextManager[T]]


async def call(test: Callable[..., Awaitable[None]], arguments: dict[str, Any]) -> None:
    """An async test with its fixtures; what lives in the loop ends with the test."""
    async with contextlib.AsyncExitStack() as stack:
        for name, value in arguments.items():
            if isinstance(value, InLoop):
                arguments[name] = await stack.enter_async_context(value.enter())
        await test(**arguments)


async def in_thread(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """Run what blocks (a process, etcdctl) without stopping the loop."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, lambda: function(*args, **options))


async def until(condition: Callable[[], object], deadline: float = DEADLINE) -> None:
    """Return when `condition()` is true."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0.005)


async def settle(turns: int = 30) -> None:
    """Let everything that is ready run; for tests without input and output."""
    for _ in range(turns):
        await asyncio.sleep(0)


class Collector(Generic[T]):
    """Collects what an endless iterator yields, in the background."""

    def __init__(self, items: AsyncIterator[T]) -> None:
        self.items: list[T] = []
        self._task = asyncio.ensure_future(self._collect(items))

    async def _collect(self, items: AsyncIterator[T]) -> None:
        async for item in items:
            self.items.append(item)

    async def until(self, condition: Callable[[list[T]], object]) -> list[T]:
        """Wait until the items so far satisfy `condition`; a follower that fails fails the test."""
        await until(lambda: self._failed() or condition(self.items))
        return self.items

    def _failed(self) -> bool:
        if self._task.done():
            self._task.result()
        return False

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@contextlib.asynccontextmanager
async def collecting(items: AsyncIterator[T]) -> AsyncIterator[Collector[T]]:
    """Follow `items` inside a with block."""
    collector = Collector(items)
    try:
        yield collector
    finally:
        await collector.stop()
