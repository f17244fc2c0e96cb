"""One run of tests in the scratch tree, and what it says about a mutant.

Owns: how pytest is started, how long it may take, how its end is read. Must not know: which bug is
planted, how results are shown.

Time: a test may take ten times what it took without the bug, and so long it waits for what must
come (tests/support/patience.py). One that takes longer hangs, which is a way to be noticed, but is
told apart.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

__all__ = ["Baseline", "BaselineError", "Outcome", "Stopped", "Trial", "Verdict", "covers"]

_WHOLE_BASELINE = 1800.0
"""Seconds for all selected tests without a bug; each has pyproject.toml's time-out."""
_PATIENCE = 10.0
LEAST_SECONDS = 6.0
_UNWIND_SECONDS = 15.0
"""From a test's time-out to its own end, before the process is killed."""
_WAITING = 0.7
_LOOK_SECONDS = 0.02
_TIMED_OUT = "Timeout (>"
"""How pytest-timeout begins its message."""


class BaselineError(Exception):
    """The tests do not pass without any bug, so they can say nothing."""


class Stopped(Exception):
    """The run was called off from another thread."""


class Verdict(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    HUNG = "killed (hang)"
    CRASHED = "killed (crash)"
    SURVIVED = "survived"
    SKIPPED = "skipped"
    BROKEN = "broken"

    @property
    def is_kill(self) -> bool:
        """Whether a test noticed."""
        return self in {Verdict.KILLED, Verdict.HUNG, Verdict.CRASHED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """`by` is the test that noticed, `why` its message or the reason for anything else."""

    verdict: Verdict
    by: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Test:
    nodeid: str
    outcome: str
    seconds: float
    message: str


def covers(wide: str, narrow: str) -> bool:
    """Whether pytest's selection `wide` has all of `narrow` in it, and more."""
    return narrow.startswith((f"{wide}::", f"{wide}[", f"{wide}/"))


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the tests do without a bug."""

    tests: tuple[_Test, ...]

    def of(self, selection: str) -> list[_Test]:
        """The tests that a selection names."""
        return [
            test
            for test in self.tests
            if test.nodeid == selection or covers(selection, test.nodeid)
        ]

    def missing(self, selections: Iterable[str]) -> list[str]:
        """Selections that name no test."""
        return [selection for selection in selections if not self.of(selection)]

    def skipped(self, selections: Iterable[str]) -> str | None:
        """Why none of these tests can run here; None when one can."""
        tests = [test for selection in selections for test in self.of(selection)]
        if any(test.outcome == "passed" for test in tests):
            return None
        return tests[0].message if tests else "no such test"

    def limits(self, selections: Iterable[str], least: float) -> dict[str, float]:
        """Seconds, `least` or more, that each of these tests may take with a bug."""
        return {
            test.nodeid: max(least, _PATIENCE * test.seconds)
            for selection in selections
            for test in self.of(selection)
        }

    def seconds(self, selections: Iterable[str]) -> float:
        """The time of all these tests."""
        return sum(test.seconds for selection in selections for test in self.of(selection))


class Trial:
    """Runs tests of the scratch tree `tree`; `kept` is a folder for the plugin's files.

    With a bug even the shortest test gets `least` seconds. Once `stop` is set, every method raises
    Stopped.
    """

    def __init__(
        self,
        tree: Path,
        kept: Path,
        *,
        stop: threading.Event | None = None,
        least: float = LEAST_SECONDS,
    ) -> None:
        self._tree = tree
        self._stop = threading.Event() if stop is None else stop
        self._least = least
        self._outcomes = kept / "outcomes.jsonl"
        self._limits = kept / "limits.json"

    def baseline(self, selections: Sequence[str]) -> Baseline:
        """Run the tests without any bug. Raises BaselineError when one fails, also a second time.

        On a busy machine one of a thousand tests may fail by itself: it must not cost the run.
        """
        status, tests, output = self._run(selections, {}, _WHOLE_BASELINE)
        if failed := _failed(tests):
            again = [test.nodeid for test in failed]
            status, second, output = self._run(again, {}, _WHOLE_BASELINE)
            tests = [*(test for test in tests if test.nodeid not in again), *second]
        if failed := _failed(tests):
            lines = "\n".join(f"  {test.nodeid}: {test.message}" for test in failed)
            raise BaselineError(f"these fail without any bug:\n{lines}")
        if status != 0:
            raise BaselineError(f"pytest ended with {status} without any bug:\n{output[-4000:]}")
        return Baseline(tuple(tests))

    def attempt(self, selections: Sequence[str], baseline: Baseline) -> Outcome:
        """Run the tests with the bug that is in the tree now, until the first one fails."""
        if (reason := baseline.skipped(selections)) is not None:
            return Outcome(Verdict.SKIPPED, why=reason)
        limits = baseline.limits(selections, self._least)
        whole = max(limits.values()) + 3 * baseline.seconds(selections) + _UNWIND_SECONDS
        status, tests, output = self._run(["-x", *selections], limits, whole)
        failed = next((test for test in tests if test.outcome == "failed"), None)
        if failed is not None:
            return _noticed(failed, limits.get(failed.nodeid, 0.0))
        return _without_failure(status, tests, output, whole)

    def _run(
        self, arguments: Sequence[str], limits: Mapping[str, float], whole: float
    ) -> tuple[int | None, list[_Test], str]:
        """Exit status (None: killed after `whole` seconds), what each test did, what was said."""
        self._outcomes.write_bytes(b"")
        self._limits.write_text(json.dumps(limits), encoding="utf-8")
        command = [
            *(sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "tests.mutants.outcomes"),
            *("--hypothesis-seed=0", *arguments),
        ]
        # The copy comes first on the path of every Python process, also of those that tests start;
        # an editable install of the work tree stands behind it.
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(self._tree),
            "MUTANTS_OUTCOMES": str(self._outcomes),
            "MUTANTS_LIMITS": str(self._limits),
        }
        if limits:
            # Shorter, so that a test says what it waited for before its time is over.
            environment["TEST_DEADLINE"] = str(_WAITING * max(limits.values()))
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                command,
                cwd=self._tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            status = _end(process, time.monotonic() + whole, self._stop)
            said.seek(0)
            output = said.read().decode(errors="replace")
        if self._stop.is_set():
            raise Stopped
        lines = self._outcomes.read_text(encoding="utf-8").splitlines()
        return status, [_Test(**json.loads(line)) for line in lines], output


def _end(process: subprocess.Popen[bytes], deadline: float, stop: threading.Event) -> int | None:
    """Wait, then kill what is left of the process's group; its status, None when it had to end."""
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT  # not reaped: its number stays its own
    try:
        while (ended := os.waitid(os.P_PID, process.pid, look)) is None:
            if time.monotonic() > deadline or stop.wait(_LOOK_SECONDS):
                break
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode if ended is not None else None


def _failed(tests: Iterable[_Test]) -> list[_Test]:
    return [test for test in tests if test.outcome in {"failed", "unusable"}]


def _noticed(failed: _Test, limit: float) -> Outcome:
    """A test failed: what it saw, or that it waited too long."""
    if _TIMED_OUT in failed.message:
        return Outcome(Verdict.HUNG, failed.nodeid, f"not done after {limit:.0f} s")
    return Outcome(Verdict.KILLED, failed.nodeid, failed.message)


def _without_failure(
    status: int | None, tests: Sequence[_Test], output: str, limit: float
) -> Outcome:
    """No test failed: all passed, or pytest itself came to an end."""
    if status is None:
        return Outcome(Verdict.HUNG, why=f"pytest not done after {limit:.0f} s")
    if status < 0:
        return Outcome(Verdict.CRASHED, why=f"pytest died of {signal.Signals(-status).name}")
    if status == 0:
        return Outcome(Verdict.SURVIVED, why="every selected test passes")
    unusable = next((test.message for test in tests if test.outcome == "unusable"), "")
    return Outcome(Verdict.BROKEN, why=unusable or output[-1000:].strip())
