"""What an ADD gave its delegate, kept for DEL, CHECK and GC: `<dataDir>/<container id>`.

The folder and the file are those of flannel's plugin, so that either plugin removes what the other
added. One key more than flannel's says which interface it was, for GC; delegates ignore it.
"""

from __future__ import annotations

import json
import os
from typing import Any

from udpoverlay.cni.errors import BAD_ENVIRONMENT, IO_FAILURE, CniError

__all__ = ["IFNAME_KEY", "forget", "known", "load", "save"]

IFNAME_KEY = "udpoverlay.ifName"
_MAX = 1 << 20


def _path(folder: str, container: str) -> str:
    if not container or "/" in container or container in {".", ".."}:
        raise CniError(BAD_ENVIRONMENT, f"CNI_CONTAINERID {container!r} is not an id")
    return f"{folder}/{container}"


def save(folder: str, container: str, config: dict[str, Any]) -> None:
    """Keep `config`, on the disk before this returns. Raises CniError."""
    path = _path(folder, container)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        new = f"{path}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(config, file)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, path)
    except OSError as error:
        raise CniError(
            IO_FAILURE,
            f"cannot write {path}: {error.strerror}",
            "make the folder writable, or set dataDir in the network configuration",
        ) from error


def load(folder: str, container: str) -> dict[str, Any] | None:
    """What was kept; None when nothing was, or when it cannot be read as JSON."""
    try:
        with open(_path(folder, container), encoding="utf-8") as file:
            config = json.loads(file.read(_MAX))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot read {folder}/{container}: {error.strerror}") from error
    except (ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def forget(folder: str, container: str) -> None:
    """Remove what was kept, if anything."""
    try:
        os.remove(_path(folder, container))
    except OSError:
        return


def known(folder: str) -> list[str]:
    """The containers of which something is kept."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.endswith(".new"))
    except OSError:
        return []
