"""Logging: one line per event on standard error, in klog's format, with key=value fields.

    I1120 11:21:03.012345     812 etcd.py:97] lease acquired subnet=10.5.52.0/24 how="free subnet"

Owns: the format, quoting, redaction, verbosity (-v, -vmodule, -log_backtrace_at) and rate limits.
Must not know: flags, or what is worth a line. Rules:
- one event is one line: control characters of any value are escaped, so that nothing a registry
  holds can forge a line or drive a terminal; long values are cut;
- secrets never appear (redact.py);
- a line that can repeat without end goes through `RateLimited`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import logging
import os
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

from udpoverlay.redact import redact, redact_field

__all__ = [
    "Log",
    "RateLimited",
    "configure",
    "escape",
    "get_logger",
    "parse_backtrace_at",
    "parse_vmodule",
    "render",
]

_LETTERS = {"WARNING": "W", "ERROR": "E", "CRITICAL": "F"}
_MAX_VALUE = 1000
_MAX_MESSAGE = 8000
_MARGIN = 4
"""So many times what is shown is looked at for secrets: a value may have megabytes."""
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TO_QUOTE = str.maketrans({"\\": "\\\\", '"': '\\"'})


def escape(text: str) -> str:
    """Escape everything that does not print as itself: line ends, terminal controls, surrogates."""
    return text if text.isprintable() else "".join(map(_escape_char, text))


def _quote(text: str) -> str:
    return f'"{escape(text.translate(_TO_QUOTE))}"'


def _escape_char(char: str) -> str:
    if char.isprintable():
        return char
    short = _SHORT_ESCAPES.get(char)
    if short is not None:
        return short
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _shown(name: str, text: str, most: int) -> str:
    """The beginning of a value, without secrets; the rest is only counted."""
    head = redact_field(name, text[: _MARGIN * most])
    if len(text) <= _MARGIN * most and len(head) <= most:
        return head
    return f"{head[:most]}…(+{max(len(text), len(head)) - most})"


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(map(_text, value)) if isinstance(value, (set, frozenset)) else value
        return ",".join(map(_text, items))
    return str(value)


def render(fields: Mapping[str, object]) -> str:
    """Write fields as ` key=value …`, quoted where a plain word would be ambiguous."""
    parts = []
    for name, value in fields.items():
        text = _shown(name, _text(value), _MAX_VALUE)
        plain = text and text.isprintable() and not any(char in text for char in ' "=\\')
        parts.append(f" {name}={text}" if plain else f" {name}={_quote(text)}")
    return "".join(parts)


def parse_vmodule(text: str) -> tuple[tuple[str, int], ...]:
    """Read `pattern=N,…`: file names without .py, or paths with a slash. Raises ValueError."""
    rules = []
    for item in filter(None, text.split(",")):
        pattern, equals, level = item.partition("=")
        if not (pattern and equals and level.isascii() and level.isdigit() and len(level) < 10):
            raise ValueError("expect a comma-separated list of filename=N")
        rules.append((pattern, int(level)))
    return tuple(rules)


def parse_backtrace_at(text: str) -> tuple[str, int] | None:
    """Read `file.py:N`; None for an empty text. Raises ValueError."""
    if not text:
        return None
    file, _, line = text.partition(":")
    number = int(line) if line.isascii() and line.isdigit() and len(line) < 10 else 0
    if "." not in file or number == 0:
        raise ValueError("expect file.py:234")
    return file, number


@dataclass(slots=True)
class _Settings:
    """What `configure` set; read by every logger, hence one object for the process."""

    verbosity: int = 0
    vmodule: tuple[tuple[str, int], ...] = ()
    backtrace_at: tuple[str, int] | None = None

    def level_of(self, path: str) -> int:
        """Detail of the module at `path`; a pattern with a slash matches all of it, as in klog."""
        stem = path.rpartition("/")[2]
        for pattern, level in self.vmodule:
            if fnmatch.fnmatchcase(path if "/" in pattern else stem, pattern):
                return level
        return self.verbosity


_settings = _Settings()


class _KlogFormatter(logging.Formatter):
    """k8s.io/klog's header, then the event and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        letter = _LETTERS.get(record.levelname, "I")
        when = time.localtime(record.created)
        micros = int(record.created % 1 * 1_000_000)
        head = (
            f"{letter}{when.tm_mon:02}{when.tm_mday:02} {when.tm_hour:02}:{when.tm_min:02}:"
            f"{when.tm_sec:02}.{micros:06} {os.getpid():7} {record.filename}:{record.lineno}] "
        )
        fields: Mapping[str, object] = getattr(record, "fields", {})
        message = _shown("", record.getMessage(), _MAX_MESSAGE)
        line = head + escape(message) + render(fields)
        if _settings.backtrace_at == (record.filename, record.lineno):
            line += render({"backtrace": _backtrace(record)})
        if record.exc_info and record.exc_info[0] is not None:
            text = "".join(traceback.format_exception(*record.exc_info))
            text = redact(text[-_MARGIN * _MAX_MESSAGE :])[-_MAX_MESSAGE:]
            line += f" traceback={_quote(text)}"
        return line


def _backtrace(record: logging.LogRecord) -> str:
    frames = traceback.extract_stack()
    while frames and (frames[-1].filename, frames[-1].lineno) != (record.pathname, record.lineno):
        frames.pop()
    return " < ".join(
        f"{os.path.basename(frame.filename)}:{frame.lineno}:{frame.name}"
        for frame in reversed(frames)
    )


class _Handler(logging.Handler):
    """Writes to one stream; a class of ours, to be known when `configure` runs again."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line at once; neither a lost stream nor a broken record may stop the daemon."""
        try:
            line = self.format(record)
        except Exception as error:
            line = escape(f"E {record.filename}:{record.lineno}] unprintable record: {error!r}")
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()


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
    _settings.verbosity, _settings.vmodule, _settings.backtrace_at = verbosity, rules, place
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
    handler = _Handler(stream if stream is not None else sys.stderr)
    handler.setFormatter(_KlogFormatter())
    root.addHandler(handler)
    root.setLevel(logging.INFO)


class Log:
    """The logger of one module; get it with `get_logger(__name__)`.

    `event` is a constant phrase, everything that varies is a field.
    """

    __slots__ = ("_logger", "_path")

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._path = name.removeprefix("udpoverlay.").replace(".", "/")

    def __bool__(self) -> bool:
        return True

    def v(self, level: int) -> Log:
        """Return a logger that writes only when -v or -vmodule asks for `level`; falsy if not."""
        return self if level <= _settings.level_of(self._path) else _SILENT

    def info(self, event: str, /, **fields: object) -> None:
        """Log what a person following the life of the daemon wants to see."""
        self.emit(logging.INFO, event, fields, 2)

    def warning(self, event: str, /, **fields: object) -> None:
        """Log something odd that the daemon copes with."""
        self.emit(logging.WARNING, event, fields, 2)

    def error(self, event: str, /, **fields: object) -> None:
        """Log something that failed."""
        self.emit(logging.ERROR, event, fields, 2)

    def exception(self, event: str, /, *, error: BaseException, **fields: object) -> None:
        """Log an exception that nobody expected, with its traceback inside the same line."""
        fields["error"] = f"{type(error).__name__}: {error}"
        self.emit(logging.ERROR, event, fields, 2, error)

    def emit(
        self,
        level: int,
        event: str,
        fields: Mapping[str, object],
        depth: int,
        error: BaseException | None = None,
    ) -> None:
        """Write one line at a level of `logging`; `depth` frames up is the place it comes from."""
        if not self._logger.isEnabledFor(level):
            return
        frame = sys._getframe(depth)
        exc_info = None if error is None else (type(error), error, error.__traceback__)
        record = self._logger.makeRecord(
            self._logger.name,
            level,
            frame.f_code.co_filename,
            frame.f_lineno,
            event,
            (),
            exc_info,
            extra={"fields": fields},
        )
        self._logger.handle(record)


class _Silent(Log):
    """What `v` returns for a level that is not wanted."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def emit(self, *_: object) -> None:
        """Write nothing."""


_SILENT = _Silent("silent")


def get_logger(name: str) -> Log:
    """Return the logger of the module `name` (pass `__name__`)."""
    return Log(name)


@dataclass(slots=True)
class _Window:
    started: float
    written: int = 0
    suppressed: int = 0


class RateLimited:
    """Lets each key write `per_minute` lines a minute, then counts, then says how many it held.

    `clock` returns seconds and never goes backwards. The summary comes with the first line of the
    key after the minute, or with `flush`, which its owner calls now and then.
    """

    MAX_KEYS = 1024
    """Keys may come from outside: the one used least recently is summed up and forgotten."""

    def __init__(self, log: Log, clock: Callable[[], float], per_minute: int = 10) -> None:
        self._log = log
        self._clock = clock
        self._per_minute = per_minute
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def info(self, key: str, event: str, /, **fields: object) -> None:
        """Log at level info unless `key` has used up its minute."""
        self._admit(key, logging.INFO, event, fields)

    def warning(self, key: str, event: str, /, **fields: object) -> None:
        """Log at level warning unless `key` has used up its minute."""
        self._admit(key, logging.WARNING, event, fields)

    def error(self, key: str, event: str, /, **fields: object) -> None:
        """Log at level error unless `key` has used up its minute."""
        self._admit(key, logging.ERROR, event, fields)

    def flush(self) -> None:
        """Write the summaries of all minutes that are over."""
        now = self._clock()
        over = [key for key, window in self._windows.items() if now - window.started >= 60]
        for key in over:
            self._sum_up(key, self._windows.pop(key), 3)

    def _admit(self, key: str, level: int, event: str, fields: Mapping[str, object]) -> None:
        now = self._clock()
        window = self._windows.get(key)
        if window is not None and now - window.started >= 60:
            del self._windows[key]
            self._sum_up(key, window, 4)
            window = None
        if window is None:
            window = self._windows[key] = _Window(now)
        self._windows.move_to_end(key)
        if window.written < self._per_minute:
            window.written += 1
            self._log.emit(level, event, fields, 3)
        else:
            window.suppressed += 1
        if len(self._windows) > self.MAX_KEYS:
            self._sum_up(*self._windows.popitem(last=False), 4)

    def _sum_up(self, key: str, window: _Window, depth: int) -> None:
        if window.suppressed:
            fields = {"key": key, "suppressed": window.suppressed}
            self._log.emit(logging.WARNING, "similar lines held back", fields, depth)
