"""Entry points, and the first and last things of a program that runs until a signal.

Owns: the standard descriptors, what signals do before and beside the event loop, how the process
ends. Must not know: what a program does. It loads next to nothing, so that signals come first.

    SIGINT, SIGTERM    exit 0 at once: nothing has begun; the event loop puts its own in their place
    SIGQUIT            the stack of every thread and task on standard error, exit 2
    SIGHUP             not touched: ends the process, unless it was started with nohup
    SIGUSR1            ignored; once the daemon carries packets: writes a dump of the last ones
    SIGUSR2            ignored, as are those that tell of timers, I/O and limits

That is what flanneld does (measured with 0.28), by Go's rules (os/signal, "Default behavior of
signals in Go programs"), save for the dump, and that a SIGTERM in the middle of its start makes it
hang.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

__all__ = ["at_end", "udpoverlay", "udpoverlayd"]

_RUN_UNTIL_A_SIGNAL = ("daemon", "podcidr-controller")
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_IGNORED = (
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGPWR,
    signal.SIGXCPU,
)
_QUIT_STATUS = 2
_last: list[Callable[[], object]] = []


def udpoverlayd() -> NoReturn:
    """Entry point of `udpoverlayd`."""
    _begin()
    command = importlib.import_module("udpoverlay.cli.daemon_command")
    program = os.path.basename(sys.argv[0]) or "udpoverlayd"
    _end(command.run(sys.argv[1:], os.environ, program))


def udpoverlay() -> int:
    """Entry point of `udpoverlay`."""
    if sys.argv[1:2] and sys.argv[1] in _RUN_UNTIL_A_SIGNAL:
        _begin()
        _end(importlib.import_module("udpoverlay.cli.main").udpoverlay())
    status: int = importlib.import_module("udpoverlay.cli.main").udpoverlay()
    return status


def _begin() -> None:
    # What is loaded stays, so looking for garbage while loading finds none and costs a tenth of the
    # start; the event loop turns it on again.
    gc.disable()
    for number in _STOP_SIGNALS:
        signal.signal(number, _leave)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, _quit)
    _open_standard_descriptors()


def at_end(last: Callable[[], object]) -> None:
    """Have `last` called before the process ends; it must take a bounded time."""
    _last.append(last)


def _end(status: int) -> NoReturn:
    """End the process without waiting for its threads: one may be asking a dead name server."""
    for last in _last:
        last()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the reader is gone
            status = status or 1
    os._exit(status)


def _open_standard_descriptors() -> None:
    """Fill 0, 1 and 2 where they are closed: else a socket gets their number, and the log."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # As Python does for descriptors that are open; what is written there goes nowhere.
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _leave(number: int, _: object) -> None:
    for each in _STOP_SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    for last in _last:
        last()
    os._exit(0)


def _quit(_: int, __: object) -> None:
    from udpoverlay import log  # noqa: PLC0415 - costs nothing until then
    from udpoverlay.loop import stacks  # noqa: PLC0415 - the same

    log.write_text(f"SIGQUIT: quit\n{stacks()}")
    log.flush()
    os._exit(_QUIT_STATUS)
