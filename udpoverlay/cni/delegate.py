"""Runs the plugin that does the work: bridge, ptp, ipvlan…, found in CNI_PATH.

Owns: processes. posix_spawn and two pipes: subprocess would cost a third of the start-up time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from udpoverlay.cni.errors import BAD_CONFIG, BAD_ENVIRONMENT, IO_FAILURE, CniError

__all__ = ["UNKNOWN_COMMAND", "DelegateError", "find", "run"]

UNKNOWN_COMMAND = 4
"""What libcni's plugins answer to a CNI_COMMAND that they do not know."""


class DelegateError(CniError):
    """The plugin that we called failed; its own code and words."""


def find(kind: str, environ: Mapping[str, str]) -> str:
    """The path of plugin `kind`. Raises CniError when it is in no folder of CNI_PATH."""
    if not kind or "/" in kind:
        raise CniError(BAD_CONFIG, f"delegate type {kind!r} is not the name of a plugin")
    folders = environ.get("CNI_PATH", "")
    if not folders:
        raise CniError(BAD_ENVIRONMENT, "CNI_PATH is not set", "the container runtime sets it")
    for folder in folders.split(":"):
        path = f"{folder}/{kind}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise CniError(
        BAD_ENVIRONMENT,
        f"the plugin {kind!r} is in none of the folders of CNI_PATH ({folders})",
        "install the CNI plugins (containernetworking-plugins), or set delegate.type",
    )


def run(kind: str, config: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Run plugin `kind` with `config` on its standard input; what it printed.

    Raises DelegateError with the plugin's own error.
    """
    path = find(kind, environ)
    given = json.dumps(config).encode()
    stdin_read, stdin_write = os.pipe()
    stdout_read, stdout_write = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, stdin_read, 0), (os.POSIX_SPAWN_DUP2, stdout_write, 1)]
    try:
        pid = os.posix_spawn(path, [path], dict(environ), file_actions=actions)
    except OSError as error:
        raise CniError(IO_FAILURE, f"{path} does not start: {error.strerror}") from error
    os.close(stdin_read)
    os.close(stdout_write)
    with open(stdin_write, "wb") as stdin:
        try:
            stdin.write(given)
            stdin.flush()
        except BrokenPipeError:
            pass  # it ended without reading all; its exit status tells why
    with open(stdout_read, encoding="utf-8", errors="replace") as stdout:
        printed = stdout.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        raise _error(kind, printed, status)
    return printed


def _error(kind: str, printed: str, status: int) -> DelegateError:
    try:
        said = json.loads(printed)
        code, what = int(said["code"]), str(said["msg"])
        details = str(said.get("details") or "")
    except (ValueError, KeyError, TypeError, RecursionError):
        how = f"status {status}" if status > 0 else f"signal {-status}"
        what = f"the plugin {kind!r} ended with {how}"
        return DelegateError(BAD_ENVIRONMENT, what, printed[:500])
    return DelegateError(code, f"plugin {kind!r}: {what}", details)
