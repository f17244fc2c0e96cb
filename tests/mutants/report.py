"""What a run of mutants is told as: progress lines, a summary, a JSON document.

Owns: their words and their width. Must not know: how a verdict came about.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.mutants.crew import Result
from tests.mutants.mutant import Mutant
from tests.mutants.trial import Verdict

__all__ = ["document", "listing", "progress", "summary"]

SCHEMA = 1


def listing(mutants: Sequence[Mutant]) -> str:
    """The names by room, each with its bug."""
    lines: list[str] = []
    for room in dict.fromkeys(mutant.room for mutant in mutants):
        lines += ["", f"{room}:"] if lines else [f"{room}:"]
        for mutant in mutants:
            if mutant.room == room:
                lines += [f"  {mutant.name}", f"      {mutant.bug}"]
    return "\n".join(lines)


def progress(done: int, count: int, result: Result) -> str:
    """One line for one mutant, and one more for what a reader must act on."""
    outcome = result.outcome
    head = f"[{done:{len(str(count))}}/{count}] {outcome.verdict.value:<9} {result.mutant.name}"
    if outcome.verdict.is_kill:
        test = outcome.by.rpartition("::")[2]
        return _fit(f"{head}  {result.seconds:.1f} s  {test}: {outcome.why}".rstrip(": "))
    return f"{head}  {result.seconds:.1f} s\n    {outcome.why}"


def summary(results: Sequence[Result], seconds: float) -> str:
    """A row a room, the sum, and each mutant that no test noticed."""
    rooms = list(dict.fromkeys(result.mutant.room for result in results))
    width = max([len(room) for room in [*rooms, "all"]])
    lines = [f"{'room':<{width}}  mutants  killed  by hang  by crash  survived  skipped  broken"]
    for room in [*rooms, "all"]:
        of = [result for result in results if room in {"all", result.mutant.room}]
        counts = Counter(result.outcome.verdict for result in of)
        kills = sum(count for verdict, count in counts.items() if verdict.is_kill)
        lines.append(
            f"{room:<{width}}  {len(of):>7}  {kills:>6}  {counts[Verdict.HUNG]:>7}"
            f"  {counts[Verdict.CRASHED]:>8}  {counts[Verdict.SURVIVED]:>8}"
            f"  {counts[Verdict.SKIPPED]:>7}  {counts[Verdict.BROKEN]:>6}"
        )
    for result in results:
        if result.outcome.verdict in {Verdict.SURVIVED, Verdict.BROKEN}:
            mutant = result.mutant
            lines += [
                "",
                f"{result.outcome.verdict.value}: {mutant.name} ({mutant.file})",
                f"    {mutant.bug}",
                f"    again: python -m tests.mutants --only {mutant.name}",
            ]
    lines += ["", f"{len(results)} mutants in {seconds:.0f} s"]
    return "\n".join(lines)


def document(results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """The whole run as JSON."""
    return {
        "schema": SCHEMA,
        "seconds": round(seconds, 1),
        "mutants": [
            {
                "name": result.mutant.name,
                "room": result.mutant.room,
                "bug": result.mutant.bug,
                "file": result.mutant.file,
                "verdict": result.outcome.verdict.name.lower(),
                "by": result.outcome.by,
                "why": result.outcome.why,
                "seconds": round(result.seconds, 2),
            }
            for result in results
        ],
    }


def _fit(line: str) -> str:
    """Cut to the width of a terminal; whole where there is no terminal."""
    width = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or len(line) <= width:
        return line
    return f"{line[: width - 1]}…"
