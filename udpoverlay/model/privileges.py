"""Settings of what the daemon may still do once it is set up; pure.

Owns: names and defaults. Must not know: how rights are given up (host/privileges/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PrivilegeSettings", "Seccomp"]

Seccomp = Literal["enforce", "warn", "off"]


@dataclass(frozen=True, slots=True)
class PrivilegeSettings:
    """Which rights are given up after set-up."""

    keep_capabilities: bool = False
    """--keep-capabilities: all that the process was started with."""
    seccomp: Seccomp = "enforce"
    """--seccomp: refuse system calls that are not needed, log them, or neither."""

    @property
    def filters(self) -> bool:
        """Whether system calls are looked at."""
        return self.seccomp != "off"
