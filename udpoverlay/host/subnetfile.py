"""The subnet file on disk: what CNI and Docker read, and what remembers our subnet over restarts.

Owns: what the file may be, reading it whole and replacing it atomically (flannel
pkg/subnet/subnet.go, writefile_other.go). Must not know: what is in it (model/subnetenv.py).

As with flanneld a symbolic link is replaced and what it leads to is left alone, and the permissions
of a file that is there already are kept. Only a regular file is ever replaced: root must not turn
/dev/null into one, and must not wait for the writer of a FIFO.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from udpoverlay.errors import OperatorError

__all__ = ["check", "read_text", "write_text"]

_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644
_MOST_BYTES = 1 << 16
"""A subnet file has six lines; whatever is longer is something else."""
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def check(path: str) -> None:
    """Raise OperatorError unless `path` is a regular file, free, or a link to one of the two.

    What cannot be looked at is left to reading and writing, which then say why.
    """
    try:
        info = os.stat(path)
    except OSError:
        return
    _check_regular(path, info)
    for descriptor in range(3):
        try:
            ours = os.fstat(descriptor)
        except OSError:
            continue
        if os.path.samestat(info, ours):
            # /dev/stdout leads to a regular file where our output goes into one.
            raise OperatorError(
                f"subnet-file {path!r} is this program's own input or output",
                fix="name a file of its own, like /run/flannel/subnet.env",
            )


def _check_regular(path: str, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        kind = _KINDS.get(stat.S_IFMT(info.st_mode), "no regular file")
        raise OperatorError(
            f"subnet-file {path!r} is {kind}",
            fix="name a regular file, or one that is not there yet, like /run/flannel/subnet.env",
        )


def read_text(path: str) -> str | None:
    """The file's text, None when there is none; raises OperatorError when it cannot be read."""
    check(path)
    try:
        # Not blocking: it may have become a FIFO since.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused("read", path, error) from error
    with open(descriptor, "rb") as file:
        _check_regular(path, os.fstat(descriptor))
        try:
            data = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise _refused("read", path, error) from error
    if len(data) > _MOST_BYTES:
        raise OperatorError(
            f"subnet-file {path!r} is not a subnet file: over {_MOST_BYTES} bytes",
            fix="name another file, or remove this one",
        )
    return data.decode(errors="replace")


def write_text(path: str, text: str) -> None:
    """Replace the file so that a reader sees the old or the new text, never a part.

    Directories that are missing are made 0755 and a new file is 0644, whatever the umask: others
    read it. Data reach the disk before the name does, so that a power cut cannot leave an empty
    file, which CNI plugins would refuse for ever. Raises OperatorError; then nothing has changed.
    """
    target = Path(path)
    check(path)
    try:
        _make_directories(target.parent)
        mode = _mode_of(target)
        fd, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _refused("write", path, error) from error
    try:
        with open(fd, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise _refused("write", path, error) from error


def _mode_of(target: Path) -> int:
    """The permissions of the file that is replaced; a link is no such file."""
    try:
        info = target.lstat()
    except FileNotFoundError:
        return _FILE_MODE
    return stat.S_IMODE(info.st_mode) & 0o777 if stat.S_ISREG(info.st_mode) else _FILE_MODE


def _make_directories(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_directories(directory.parent)
    directory.mkdir(exist_ok=True)
    directory.chmod(_DIRECTORY_MODE)


def _refused(verb: str, path: str, error: OSError) -> OperatorError:
    return OperatorError(
        f"cannot {verb} subnet-file {path!r}: {error.strerror or error}",
        fix="name a file in a directory that we may write to",
    )
