"""The daemon's settings as its flags and environment give them."""

from __future__ import annotations

from udpoverlay.cli import daemon_flags
from udpoverlay.model.config import DaemonConfig


def config(*words: str, **environ: str) -> DaemonConfig:
    _, options = daemon_flags.read(list(words), environ)
    assert options.complaints == []
    return options.config(environ)
