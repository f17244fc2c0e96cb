"""The file in which a daemon that a service manager runs notes what it leaves: beside its socket.

Owns: that a reader sees all of the old or all of the new text, and that it is our own. Must not
know: what is in it (model/legacy.py), when it is written.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile

__all__ = ["StateFile"]

_MODE = 0o600
_MOST_BYTES = 64 << 20


class StateFile:
    """The file `path`; "" for a path: there is none."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def beside(cls, admin_socket: str) -> StateFile:
        """Where a daemon with that admin socket has it."""
        if not admin_socket:
            return cls("")
        return cls(os.path.join(os.path.dirname(os.path.abspath(admin_socket)), "handover.json"))

    def read(self) -> bytes | None:
        """What is in it; None: there is none that we would trust. Raises OSError."""
        if not self.path:
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags)
        except FileNotFoundError:
            return None
        with open(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            private = info.st_uid in {0, os.geteuid()} and not stat.S_IMODE(info.st_mode) & 0o022
            if not stat.S_ISREG(info.st_mode) or not private or info.st_size > _MOST_BYTES:
                return None
            return file.read(_MOST_BYTES)

    def write(self, data: bytes) -> None:
        """Raises OSError; then the old text stays."""
        if not self.path:
            return
        folder, name = os.path.split(self.path)
        os.makedirs(folder, mode=0o755, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, _MODE)
                file.write(data)
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def remove(self) -> None:
        """Whether it is there or not."""
        if self.path:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
