"""A check and what it finds.

    Check(name, run) ──► run(patient) ──► Finding(level, fact, fix), …

A check looks at one concern and changes nothing. It returns findings, the good ones too: a person
wants to see what was looked at. It never raises for what it is there to find; a check that fails
itself is reported as such and the others go on.

Owns: what a check is. Must not know: any check.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from udpoverlay.doctor.patient import Patient
from udpoverlay.model.finding import Finding, Level, failure, good, skipped, warning

__all__ = ["Check", "Finding", "Level", "failure", "good", "skipped", "warning"]


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
