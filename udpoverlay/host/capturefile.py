"""Files that packets are written to: by a command that a person runs, and by a daemon.

Owns: what may be written over (a regular file, no other) and who may read it (its owner: packets
hold what others said). Must not know: what is in the file.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterable
from typing import BinaryIO

from udpoverlay.errors import OperatorError

__all__ = ["CaptureFile", "write_whole"]

_MODE = 0o600
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class CaptureFile:
    """A file that grows while others read it; a file that was there is emptied first."""

    def __init__(self, path: str) -> None:
        """Raises OperatorError."""
        self._path = path
        _check(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, _MODE)
        except OSError as error:
            raise _refused(path, error) from error
        self._file: BinaryIO = os.fdopen(descriptor, "wb", buffering=0)
        try:
            _check_regular(path, os.fstat(descriptor))
            os.ftruncate(descriptor, 0)
        except BaseException:
            self._file.close()
            raise

    def write(self, data: bytes) -> None:
        """All of `data`, at once for who reads along. Raises OperatorError."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise _refused(self._path, error) from error

    def close(self) -> None:
        """Idempotent."""
        self._file.close()


def write_whole(path: str, pieces: Iterable[bytes]) -> None:
    """Write a file, so that it is there whole or not at all. Raises OperatorError."""
    _check(path)
    try:
        directory, name = os.path.split(path)
        # 0600, whatever the umask.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory or ".")
    except OSError as error:
        raise _refused(path, error) from error
    try:
        with open(descriptor, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):
            raise _refused(path, error) from error
        raise


def _check(path: str) -> None:
    try:
        info = os.lstat(path)
    except (OSError, ValueError):
        return  # opening it says why
    _check_regular(path, info)


def _check_regular(path: str, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        kind = _KINDS.get(stat.S_IFMT(info.st_mode), "no regular file")
        raise OperatorError(
            f"{path!r} is {kind}, which is not written over",
            fix="name a regular file, or one that is not there yet",
        )


def _refused(path: str, error: OSError) -> OperatorError:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    fix = "make room, or name a file elsewhere" if full else "name a file that we may write"
    return OperatorError(f"cannot write {path!r}: {error.strerror or error}", fix=fix)
