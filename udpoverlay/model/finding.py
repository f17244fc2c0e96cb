"""What was found somewhere: how bad it is, the fact, and what fixes it.

Owns: the value type. Must not know: who looks, or how it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Finding", "Level", "failure", "good", "skipped", "warning"]


class Level(Enum):
    """How bad it is; the value is the word that is shown."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact, and the command or the step that fixes it ("" when nothing is wrong)."""

    level: Level
    fact: str
    fix: str = ""


def good(fact: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, fact)


def warning(fact: str, fix: str) -> Finding:
    """It works, or may work, but not as it should."""
    return Finding(Level.WARNING, fact, fix)


def failure(fact: str, fix: str) -> Finding:
    """The overlay does not work like this."""
    return Finding(Level.FAILURE, fact, fix)


def skipped(fact: str) -> Finding:
    """It could not be looked at here, or does not apply."""
    return Finding(Level.SKIPPED, fact)
