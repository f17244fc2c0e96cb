"""The event loop of our programs: those that run until a signal, and commands.

Owns: uvloop, look-ups of names that can be given up, what SIGINT and SIGTERM do to a program, the
stacks of everything that waits. Must not know: what a program does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import io
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import uvloop

from udpoverlay.aio import CANCEL_AGAIN_SECONDS

__all__ = ["Loop", "on_signal", "run", "run_until_signal", "stacks"]

_T = TypeVar("_T")
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Program = Callable[[asyncio.Event], Coroutine[Any, Any, int]]
"""Returns its exit status; sets the event once it undoes what it began: from then on it must not be
cancelled."""


class Loop(uvloop.Loop):
    """uvloop, whose look-ups of names nothing ever waits for but those who asked.

    libuv runs getaddrinfo(3) in a pool that both the loop's close and the end of the process wait
    for, and a name server that does not answer costs it tens of seconds. Here each name has a
    daemon thread, shared by all who ask for it meanwhile.
    """

    def __init__(self) -> None:
        self._lookups: dict[tuple[Any, ...], asyncio.Future[list[Any]]] = {}

    async def getaddrinfo(  # noqa: D102, PLR0913 - as AbstractEventLoop's
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        question = (host, port, family, type, proto, flags)
        if host is None or _is_address(host):
            return socket.getaddrinfo(*question)
        lookup = self._lookups.get(question)
        if lookup is None:
            lookup = self.create_future()
            try:
                threading.Thread(
                    target=self._look_up, args=(question, lookup), name="lookup", daemon=True
                ).start()
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, f"no thread to look up {host}") from error
            self._lookups[question] = lookup
        return await asyncio.shield(lookup)

    def _look_up(self, question: tuple[Any, ...], lookup: asyncio.Future[list[Any]]) -> None:
        found: list[Any] = []
        failure: Exception | None = None
        try:
            found = socket.getaddrinfo(*question)
        except OSError as error:
            failure = error
        except UnicodeError:
            failure = socket.gaierror(socket.EAI_NONAME, f"{question[0]!r} is no host name")
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(self._looked_up, question, lookup, found, failure)

    def _looked_up(
        self,
        question: tuple[Any, ...],
        lookup: asyncio.Future[list[Any]],
        found: list[Any],
        failure: Exception | None,
    ) -> None:
        del self._lookups[question]
        if failure is None:
            lookup.set_result(found)
        else:
            lookup.set_exception(failure)
            lookup.exception()  # seen, also when all who asked have gone

    async def create_connection(  # noqa: D102 - as AbstractEventLoop's
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        connect = super().create_connection
        if host is None or _is_address(host):
            return await connect(protocol_factory, host, port, **options)
        asked = {name: options.get(name, 0) for name in ("family", "proto", "flags")}
        found = await self.getaddrinfo(host, port, type=socket.SOCK_STREAM, **asked)
        if options.get("ssl") and not options.get("server_hostname"):
            options["server_hostname"] = host
        failures: list[OSError] = []
        for _, _, _, _, address in found:
            try:
                return await connect(protocol_factory, address[0], address[1], **options)
            except OSError as error:
                failures.append(error)
        raise failures[0] if failures else OSError(errno.ENOENT, f"{host} has no address")


def _is_address(host: Any) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, TypeError, ValueError):
            socket.inet_pton(family, host.partition("%")[0])
            return True
    return False


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, in a loop of its own that no look-up of a name holds up at its end."""
    result: _T = uvloop.run(work, loop_factory=Loop)
    return result


def run_until_signal(program: Program, stopping: Callable[[str], None]) -> int:
    """Run a program in a loop of its own; its exit status, 0 when a signal ended it.

    The first SIGINT or SIGTERM cancels it, after `stopping` was called with its name; the next
    one ends the process at once.
    """
    gc.enable()  # off while modules were loaded
    status: int = uvloop.run(_until_signal(program, stopping), loop_factory=Loop)
    return status


async def _until_signal(program: Program, stopping: Callable[[str], None]) -> int:
    unwinding = asyncio.Event()
    signalled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with _stop_signals(signalled, stopping):
        work = asyncio.ensure_future(program(unwinding))
        both: set[asyncio.Future[Any]] = {work, signalled}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        while not work.done():
            if not unwinding.is_set():
                work.cancel()
            await asyncio.wait({work}, timeout=CANCEL_AGAIN_SECONDS)
        return 0 if work.cancelled() else work.result()


@contextlib.contextmanager
def _stop_signals(
    signalled: asyncio.Future[None], stopping: Callable[[str], None]
) -> Iterator[None]:
    """Resolve `signalled` upon the first signal; afterwards signals do what they did before.

    Not by add_signal_handler: between two handlers it leaves a moment without any, and uvloop
    leaves its own behind when it closes.
    """
    loop = asyncio.get_running_loop()

    def stop(number: int, _: object) -> None:
        for each in _STOP_SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        stopping(signal.Signals(number).name)
        loop.call_soon_threadsafe(signalled.set_result, None)

    before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        if not signalled.done():
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def on_signal(number: signal.Signals, call: Callable[[], object]) -> Iterator[None]:
    """Have `call` called in the running loop upon a signal; later it does what it did before."""
    loop = asyncio.get_running_loop()

    def called(_: int, __: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(call)

    before = signal.signal(number, called)
    try:
        yield
    finally:
        signal.signal(number, before)


def stacks() -> str:
    """Where every thread and every task is, to debug a process that hangs."""
    out = io.StringIO()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        out.write(f"thread {names.get(ident, ident)}:\n")
        out.writelines(traceback.format_stack(frame))
    with contextlib.suppress(RuntimeError):  # no loop runs in this thread
        for task in asyncio.all_tasks():
            task.print_stack(file=out)
    return out.getvalue()
