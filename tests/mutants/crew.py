"""Several scratch copies of the project, each with its own extensions, worked in side by side.

Owns: which copy does which piece of work, stopping all of them. Must not know: which mutants there
are, what is made of an outcome.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.mutants.build import Extensions
from tests.mutants.mutant import CatalogueError, Mutant
from tests.mutants.tree import Tree
from tests.mutants.trial import Baseline, Outcome, Trial, Verdict, covers

__all__ = ["Crew", "Result", "shared"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Result:
    """One mutant's end; `seconds` include building."""

    mutant: Mutant
    outcome: Outcome
    seconds: float


class _Workspace:
    """A copy of `source` in `folder`, in which one bug is planted at a time."""

    def __init__(self, source: Path, folder: Path, stop: threading.Event) -> None:
        self._tree = Tree(source, folder / "tree")
        self._extensions = Extensions(self._tree.path, folder)
        self._trial = Trial(self._tree.path, folder, stop=stop)
        folder.mkdir(parents=True, exist_ok=True)

    def prepare(self) -> None:
        """Bring the copy and its extensions up to date. Raises CatalogueError."""
        self._tree.sync()
        self._extensions.prepare()

    def baseline(self, selections: Sequence[str]) -> Baseline:
        """Run these tests without any bug. Raises BaselineError when one fails."""
        return self._trial.baseline(selections)

    def attempt(self, mutant: Mutant, baseline: Baseline) -> Result:
        """What becomes of `mutant`."""
        began = time.monotonic()
        outcome = self._outcome(mutant, baseline)
        return Result(mutant, outcome, time.monotonic() - began)

    def _outcome(self, mutant: Mutant, baseline: Baseline) -> Outcome:
        try:
            with self._tree.planted(mutant) as changed:
                if not mutant.compiled:
                    return self._trial.attempt(mutant.tests, baseline)
                with self._extensions.rebuilt(changed):
                    return self._trial.attempt(mutant.tests, baseline)
        except CatalogueError as error:
            return Outcome(Verdict.BROKEN, why=str(error))


class Crew:
    """`count` workspaces below `folder`; leaving the with block stops what is under way."""

    def __init__(self, source: Path, folder: Path, count: int) -> None:
        self._stop = threading.Event()
        self._workspaces = [
            _Workspace(source, folder / str(number), self._stop) for number in range(1, count + 1)
        ]
        self._free: queue.SimpleQueue[_Workspace] = queue.SimpleQueue()
        for workspace in self._workspaces:
            self._free.put(workspace)
        self._pool = ThreadPoolExecutor(count)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def prepare(self) -> None:
        """Make all copies equal to the project as it is now. Raises CatalogueError."""
        for done in [self._pool.submit(workspace.prepare) for workspace in self._workspaces]:
            done.result()

    def baseline(self, selections: Iterable[str]) -> Baseline:
        """Run these tests without any bug. Raises BaselineError when one fails."""
        shares = shared(selections, len(self._workspaces))
        done = self._each(_Workspace.baseline, shares)
        return Baseline(tuple(test for baseline in done for test in baseline.tests))

    def attempts(self, mutants: Sequence[Mutant], baseline: Baseline) -> Iterator[Result]:
        """What becomes of each mutant, in the order in which that is known."""
        return self._each(lambda workspace, mutant: workspace.attempt(mutant, baseline), mutants)

    def _each(self, do: Callable[[_Workspace, T], R], items: Sequence[T]) -> Iterator[R]:
        def one(item: T) -> R:
            workspace = self._free.get()
            try:
                return do(workspace, item)
            finally:
                self._free.put(workspace)

        for future in as_completed([self._pool.submit(one, item) for item in items]):
            yield future.result()


def shared(selections: Iterable[str], count: int) -> list[list[str]]:
    """Selections in up to `count` shares, each test in one of them.

    The tests of one file share what they start: they stay together.
    """
    given = dict.fromkeys(selections)
    files: dict[str, list[str]] = {}
    for selection in given:
        if not any(covers(other, selection) for other in given):
            files.setdefault(selection.partition("::")[0], []).append(selection)
    shares: list[list[str]] = [[] for _ in range(count)]
    for number, of_file in enumerate(files.values()):
        shares[number % count] += of_file
    return [share for share in shares if share]
