"""What a check may look at: files, programs, sockets, the daemon's settings, the registry.

Owns: the access, bounded in time and size. Must not know: what is healthy.
`root` stands in front of every path, so that a test can show a host that it made.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from udpoverlay.errors import KernelError, UdpOverlayError
from udpoverlay.firewall import command
from udpoverlay.host.interfaces import Choice
from udpoverlay.model.config import DaemonConfig
from udpoverlay.model.netconf import NetConf
from udpoverlay.registry.base import Registry

__all__ = ["Patient"]

_MOST_BYTES = 1 << 20


@dataclass(slots=True)
class Patient:
    """One host as the checks see it; what an earlier check learned is kept for the later ones."""

    config: DaemonConfig
    root: Path = Path("/")
    peer: str = ""
    """--peer: a public or an overlay address, "" for none."""
    registry: Registry | None = None
    netconf: NetConf | None = None
    choice: Choice | None = None
    learned: dict[str, UdpOverlayError] = field(default_factory=dict)
    """By name, why something could not be learned."""

    def path(self, path: str) -> Path:
        """The place of an absolute path below `root`."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str | None:
        """The text of a file; None when it is not there or cannot be read."""
        try:
            with self.path(path).open(encoding="utf-8", errors="replace") as file:
                return file.read(_MOST_BYTES)
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return self.path(path).exists()

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted; empty when it is not there."""
        try:
            return sorted(os.listdir(self.path(folder)))
        except OSError:
            return []

    def sysctl(self, name: str) -> str | None:
        """The value of a setting named with slashes, such as net/ipv4/ip_forward."""
        text = self.read(f"/proc/sys/{name}")
        return None if text is None else text.strip()

    async def output(self, argv: Sequence[str], seconds: float = 5.0) -> str | None:
        """What a program prints; None when it is not installed, fails or takes too long."""
        try:
            done = await command.run(argv, seconds=seconds)
        except KernelError:
            return None
        except asyncio.TimeoutError:
            return None
        return done.stdout if done.status == 0 else None
