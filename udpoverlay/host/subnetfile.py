"""The subnet file on disk: what CNI and Docker read, and what remembers our subnet over restarts.

Owns: reading it whole and replacing it atomically with exact modes (flannel pkg/subnet/subnet.go,
writefile_other.go). Must not know: what is in it (model/subnetenv.py).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from udpoverlay.errors import OperatorError

__all__ = ["read_text", "write_text"]

_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644
_MOST_BYTES = 1 << 16
"""A subnet file has six lines; whatever is longer is something else."""


def read_text(path: str) -> str | None:
    """The file's text, None when there is none; raises OperatorError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
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

    Directories that are missing are made 0755 and the file is 0644, whatever the umask: others read
    it. Data reach the disk before the name does, so that a power cut cannot leave an empty file,
    which CNI plugins would refuse for ever. Raises OperatorError; then nothing has changed.
    """
    target = Path(path)
    try:
        _make_directories(target.parent)
        fd, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _refused("write", path, error) from error
    try:
        with open(fd, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fchmod(file.fileno(), _FILE_MODE)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise _refused("write", path, error) from error


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
