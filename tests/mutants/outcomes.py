"""A pytest plugin: appends what became of each test to the file that MUTANTS_OUTCOMES names.

Owns: the lines, one JSON object each: nodeid, outcome (passed, failed, skipped, unusable), seconds,
message. Written at once, so that they are there when the process is killed or crashes. The other
way round, MUTANTS_LIMITS names a JSON object that says how many seconds each test may take.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

_RAISED = re.compile(r"\w[\w.]*(Error|Exception|Interrupt)\b")


def _write(nodeid: str, outcome: str, seconds: float, message: str) -> None:
    line = {"nodeid": nodeid, "outcome": outcome, "seconds": seconds, "message": message}
    with open(os.environ["MUTANTS_OUTCOMES"], "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _message(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The line that says what was wrong; of a traceback that a test quotes, its last one."""
    if isinstance(report.longrepr, tuple):  # a skip: file, line, reason
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(crash.message if crash is not None else report.longrepr or "").strip().splitlines()
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    if lines and "Traceback (most" in lines[0]:
        errors.append(next((line for line in lines[:0:-1] if _RAISED.match(line)), lines[-1]))
    return [*errors[-1:], *lines, ""][0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its own time-out (pytest-timeout's mark); one that is not named keeps its."""
    limits = json.loads(Path(os.environ["MUTANTS_LIMITS"]).read_text(encoding="utf-8"))
    for item in items:
        if item.nodeid in limits:
            # In front: the closest mark counts, and a test may bring one.
            item.add_marker(pytest.mark.timeout(limits[item.nodeid]), append=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell of a call, and of a set-up or a teardown that was not simply right."""
    if report.when == "call" or report.outcome != "passed":
        _write(report.nodeid, report.outcome, report.duration, _message(report))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Tell of a module that cannot even be imported."""
    if report.failed:
        _write(report.nodeid, "unusable", 0.0, _message(report))
