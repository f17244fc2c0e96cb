"""Where the process's lines go: one handler on the root logger, one stream.

Owns: `configure`, and that nothing else of the process writes to standard error. Must not know:
the format.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from typing import TextIO

from udpoverlay.log.detail import SETTINGS, parse_backtrace_at, parse_vmodule
from udpoverlay.log.format import KlogFormatter, escape
from udpoverlay.log.writer import Writer

__all__ = ["configure", "flush", "lines_lost", "renew_threads", "write_text"]

_STDERR = 2


class _Handler(logging.Handler):
    """Writes to one stream; a class of ours, to be known when `configure` runs again.

    The process's standard error gets a Writer. Any other stream is a test's and is written at once.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self.setFormatter(KlogFormatter())
        self._stream = stream
        self.writer = Writer(_STDERR, self._lost_line) if _is_stderr(stream) else None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line; neither a lost stream nor a broken record may stop the daemon."""
        try:
            line = self.format(record)
        except Exception as error:
            line = escape(f"E {record.filename}:{record.lineno}] unprintable record: {error!r}")
        self.write(f"{line}\n")

    def write(self, text: str) -> None:
        """Write text as it is."""
        if self.writer is not None:
            self.writer.write(text)
        elif self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()

    def close(self) -> None:
        """Let the writer end."""
        if self.writer is not None:
            self.writer.close()
        super().close()

    def _lost_line(self, lines: int) -> str:
        record = logging.LogRecord(
            __name__, logging.WARNING, __file__, 0, "log lines were lost here", (), None
        )
        record.fields = {"lines": lines, "reason": "standard error took no more"}
        return f"{self.format(record)}\n"


def _is_stderr(stream: TextIO | None) -> bool:
    """Whether it is the process's own; None: it was closed when the process began."""
    if stream is None:
        return True
    try:
        return stream.fileno() == _STDERR
    except (AttributeError, OSError, ValueError):
        return False


def _ours() -> list[_Handler]:
    return [each for each in logging.getLogger().handlers if isinstance(each, _Handler)]


def configure(
    verbosity: int = 0,
    vmodule: str = "",
    backtrace_at: str = "",
    stream: TextIO | None = None,
) -> None:
    """Send every logger of the process to `stream` (standard error); may be called again.

    Raises ValueError for a malformed `vmodule` or `backtrace_at`.
    """
    rules, place = parse_vmodule(vmodule), parse_backtrace_at(backtrace_at)
    SETTINGS.verbosity, SETTINGS.vmodule, SETTINGS.backtrace_at = verbosity, rules, place
    root = logging.getLogger()
    for handler in _ours():
        root.removeHandler(handler)
        handler.close()
    handler = _Handler(stream if stream is not None else sys.stderr)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    if handler.writer is not None:
        _catch_the_interpreter()


def _catch_the_interpreter() -> None:
    """Make log lines of what Python itself would print to standard error, and wait there."""
    logging.captureWarnings(True)
    log = logging.getLogger("python")

    def unraisable(seen: sys.UnraisableHookArgs) -> None:
        if seen.exc_value is not None:
            log.error("exception ignored", exc_info=seen.exc_value)

    def in_thread(seen: threading.ExceptHookArgs) -> None:
        if seen.exc_value is not None:
            log.error("exception in a thread", exc_info=seen.exc_value)

    sys.unraisablehook = unraisable
    threading.excepthook = in_thread


def flush(seconds: float = 1.0) -> bool:
    """Wait until all lines are written; false when their reader takes none for so long."""
    return all(each.writer is None or each.writer.flush(seconds) for each in _ours())


def renew_threads() -> None:
    """Write on with threads that have the rights that the caller has now, and no more."""
    for each in _ours():
        if each.writer is not None:
            each.writer.renew()


def lines_lost() -> int:
    """Lines that standard error did not take, since start."""
    return sum(each.writer.lost for each in _ours() if each.writer is not None)


def write_text(text: str) -> None:
    """Write `text` among the lines as it is: a dump, for debugging."""
    for each in _ours():
        each.write(text)
