"""How a bench's results are shown: tables for people, one JSON object for programs.

Owns: columns and the JSON schema (docs/reference/bench.md). Must not know: how they came about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from udpoverlay.lab.bench.runner import METRICS, Runner
from udpoverlay.lab.bench.targets import Outcome
from udpoverlay.lab.tables import grid, table

__all__ = ["REFERENCES", "SCHEMA", "Bench", "as_json", "show"]

SCHEMA = 1
REFERENCES = ("vxlan", "per-packet")
"""The paths that all are compared with."""


@dataclass(slots=True)
class Bench:
    """A bench that has been run."""

    runner: Runner
    link: str
    facts: Mapping[str, Any]
    about: Mapping[str, str]
    """Path → one line about it."""
    versions: Mapping[str, str]
    skipped: Mapping[str, str]
    """Path → why it did not take part."""
    outcomes: list[Outcome] = field(default_factory=list)


def as_json(bench: Bench) -> dict[str, Any]:
    """The object of `--json`; within one schema number keys are only added."""
    runner = bench.runner
    results = [
        {
            "path": row.path,
            "test": METRICS[row.metric].test,
            "metric": row.metric,
            "unit": METRICS[row.metric].unit,
            "higher_is_better": METRICS[row.metric].higher_is_better,
            "samples": list(row.samples.values()),
            "median": row.median,
            "spread": row.spread,
            "ratios": {
                reference: runner.ratio(row.path, reference, row.metric) for reference in REFERENCES
            },
        }
        for row in runner.rows.values()
    ]
    return {
        "schema": SCHEMA,
        "machine": dict(bench.facts),
        "settings": {"link": bench.link, **asdict(runner.plan)},
        "paths": [
            {
                "name": name,
                "about": bench.about.get(name, ""),
                "version": bench.versions.get(name, ""),
            }
            for name in runner.names()
        ],
        "results": results,
        "targets": [
            {
                **asdict(outcome.target),
                "measured": outcome.measured,
                "met": outcome.met,
                "aim_met": outcome.aim_met,
            }
            for outcome in bench.outcomes
        ],
        "failures": [
            {"path": path, "test": test, "reason": reason}
            for (path, test), reason in runner.failures.items()
        ],
        "skipped": dict(bench.skipped),
    }


def _figure(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _measured(runner: Runner) -> list[str]:
    return [key for key in METRICS if any((path, key) in runner.rows for path in runner.names())]


def show(console: Console, bench: Bench) -> None:
    """Print the figures, the ratios, and the targets."""
    facts = bench.facts
    console.print(
        f"Linux {facts['kernel']}, {facts['cores']} × {facts['cpu'] or facts['architecture']}, "
        f"link {bench.link}, {bench.runner.plan.congestion or facts['congestion']}, "
        f"load before {facts['load_before']}; "
        f"rounds: {bench.runner.plan.rounds}, runs of {bench.runner.plan.seconds:g} s\n",
        highlight=False,
    )
    _show_figures(console, bench.runner)
    for reference in REFERENCES:
        if reference in bench.runner.names():
            _show_ratios(console, bench.runner, reference)
    if bench.outcomes:
        console.print(_targets(bench))
    for (path, test), reason in bench.runner.failures.items():
        console.print(f"{test} on {path} failed: {reason}", style="red", highlight=False)
    for path, reason in bench.skipped.items():
        console.print(f"{path} did not take part: {reason}", style="dim", highlight=False)


def _title(runner: Runner, key: str) -> str:
    return METRICS[key].title.replace("N streams", f"{runner.plan.streams} streams")


def _show_figures(console: Console, runner: Runner) -> None:
    keys = _measured(runner)

    def cell(path: str, key: str) -> str:
        row = runner.rows.get((path, key))
        return "" if row is None else f"{_figure(row.median)} ±{row.spread:.0%}"

    grid(
        console,
        "median ± half the range",
        [f"{_title(runner, key)}, {METRICS[key].unit}" for key in keys],
        {name: [cell(name, key) for key in keys] for name in runner.names()},
    )


def _show_ratios(console: Console, runner: Runner, reference: str) -> None:
    # What is lost when a sender sends without limit compares nothing.
    keys = [
        key
        for key in _measured(runner)
        if (reference, key) in runner.rows and not key.endswith("_loss")
    ]

    def label(key: str) -> str:
        better = "more" if METRICS[key].higher_is_better else "less"
        return f"{_title(runner, key)}, {better} is better"

    def cell(path: str, key: str) -> str:
        ratio = runner.ratio(path, reference, key)
        return "" if ratio is None else f"{ratio:.2f}"

    grid(
        console,
        f"against {reference} = 1, same round",
        list(map(label, keys)),
        {name: [cell(name, key) for key in keys] for name in runner.names() if name != reference},
    )


def _targets(bench: Bench) -> Table:
    shown = table("targets")
    shown.add_column("")
    for heading in ("path", "against"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("must", "aim", "measured"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    for outcome in bench.outcomes:
        target = outcome.target
        sign = "≥" if target.higher_is_better else "≤"
        verdict = "[green]aim met[/]" if outcome.aim_met else "[green]met[/]"
        shown.add_row(
            target.what,
            target.path,
            target.reference,
            f"{sign} {target.must:.3g}",
            f"{sign} {target.aim:.3g}",
            f"{outcome.measured:.3g}",
            verdict if outcome.met else "[red]missed[/]",
        )
    return shown
