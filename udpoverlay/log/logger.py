"""What a module logs with.

Owns: levels, and the place in the source that a line names. Must not know: format, streams.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

from udpoverlay.log.detail import SETTINGS

__all__ = ["Log", "get_logger"]


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
        return self if level <= SETTINGS.level_of(self._path) else _SILENT

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
        """Log an unexpected exception, with its traceback inside the same line."""
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
