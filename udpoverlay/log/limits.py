"""Lines that could repeat without end.

Owns: how many of them are written. Must not know: what they say.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from udpoverlay.log.logger import Log

__all__ = ["RateLimited", "Waiting"]


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


class Waiting:
    """Tells what is waited for: at once, then every ten seconds, and whenever the reason is new.

    `clock` returns seconds and never goes backwards.
    """

    EVERY = 10.0
    MOST_REASONS = 5
    """Between two regular lines; a reason may hold a number that is always another."""

    def __init__(self, log: Log, clock: Callable[[], float], event: str) -> None:
        self._log = log
        self._clock = clock
        self._event = event
        self._began = clock()
        self._window = self._began
        self._reasons: set[str] = set()

    def still(self, reason: str) -> None:
        """Call after each attempt that failed."""
        now = self._clock()
        if now - self._window >= self.EVERY:
            self._window = now
            self._reasons.clear()
        if reason in self._reasons or len(self._reasons) == self.MOST_REASONS:
            return
        self._reasons.add(reason)
        fields = {"waited_seconds": int(now - self._began), "reason": reason}
        self._log.emit(logging.WARNING, self._event, fields, 2)
