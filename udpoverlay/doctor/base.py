"""A check and what it finds.

    Check(name, run) ──► run(patient) ──► Finding(level, fact, fix), …

A check looks at one concern and changes nothing. It returns findings, the good ones too: a person
wants to see what was looked at. It never raises for what it is there to find; a check that fails
itself is reported as such and the others go on.

Owns: these types. Must not know: any check.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from udpoverlay.doctor.patient import Patient

__all__ = ["Check", "Finding", "Level", "failure", "good", "skipped", "warning"]


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


def _one(_patient: Patient) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class Check:
    """One concern: a name to select it by, a title to show, and the look itself."""

    name: str
    title: str
    run: Callable[[Patient], Awaitable[Sequence[Finding]]]
    parts: Callable[[Patient], int] = _one
    """How many things it looks at one after the other; each has the time of a check."""


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
