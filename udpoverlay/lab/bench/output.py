"""A file that a bench will write its results to, opened before the first round.

Owns: that it can be written is known early; what is in it stays until there are results; a bench
that fails leaves no empty file behind. Must not know: formats.
"""

from __future__ import annotations

import contextlib
import os
import stat
from types import TracebackType

from udpoverlay.errors import OperatorError

__all__ = ["Output"]


class Output:
    """`path` as the option `flag` gives it. Raises OperatorError when it cannot be written."""

    def __init__(self, flag: str, path: str) -> None:
        self._path = path
        self._made = not os.path.lexists(path)
        try:
            # A FIFO without a reader refuses at once instead of waiting for one.
            flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise OperatorError(
                f"{flag}={path}: cannot write: {error.strerror}",
                fix="name a file in a folder that exists and that you may write to",
            ) from None
        os.set_blocking(self._descriptor, True)
        self._written = False

    def write(self, data: bytes) -> None:
        """Replace what the file holds. Raises OSError, on a full disk for instance."""
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.ftruncate(self._descriptor, 0)
        with open(self._descriptor, "wb", closefd=False) as file:
            file.write(data)
        self._written = True

    def close(self) -> None:
        """Remove the file if we made it and wrote nothing; idempotent."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if self._made and not self._written:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
