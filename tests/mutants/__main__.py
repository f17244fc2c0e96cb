"""`python -m tests.mutants`: plants each bug of the catalogue and sees that a test notices.

Owns: the options, the order of a run, the exit status. Must not know: how a bug is planted
(tree.py) or noticed (trial.py), what runs side by side (crew.py).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import fnmatch
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tests.mutants import report
from tests.mutants.crew import Crew, Result
from tests.mutants.mutant import CatalogueError, Mutant, check, load
from tests.mutants.trial import BaselineError, Verdict

ROOT = Path(__file__).parents[2]
SCRATCH = ROOT / "build" / "mutants"

ALL_NOTICED, NOT_NOTICED, CANNOT_SAY = 0, 1, 2
_MOST_JOBS = 4
"""By default: more of them make tests that measure time fail by themselves."""

EPILOG = """\
exit status: 0 each bug was noticed, 1 one was not, 2 the list or the tests are not in order

examples:
  python -m tests.mutants --list
  python -m tests.mutants --only routes                 one room
  python -m tests.mutants --only 'ttl-*' --json out.json
  python -m tests.mutants --quick --seed 7              one of each room
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words`; the exit status."""
    options = _parser().parse_args(words)
    # As by an interrupt: what was begun is undone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        mutants = _selected(load(), options.only, options.quick, options.seed)
        if options.list:
            print(report.listing(mutants))
            return ALL_NOTICED
        with _lock(SCRATCH), _output(options.json) as output:
            return _run(mutants, output, options.jobs)
    except (CatalogueError, BaselineError) as error:
        print(f"mutants: {error}", file=sys.stderr)
        return CANNOT_SAY
    except OSError as error:
        print(f"mutants: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return CANNOT_SAY
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description="Plants realistic bugs in a copy of the project, one at a time, and runs the "
        "tests that must notice.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="print the bugs and end")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="a mutant or a room, * and ? allowed; may be repeated",
    )
    parser.add_argument("--quick", action="store_true", help="one mutant of each room, by the seed")
    parser.add_argument(
        "--seed", default=None, help="what --quick chooses by (default: the present commit)"
    )
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=min(_MOST_JOBS, len(os.sched_getaffinity(0))),
        metavar="N",
        help="mutants at a time, each in a scratch copy of its own (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all results there")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _selected(
    mutants: list[Mutant], only: Sequence[str], quick: bool, seed: str | None
) -> list[Mutant]:
    """The mutants to run, in the order of the catalogue."""
    for pattern in only:
        if not any(_matches(mutant, pattern) for mutant in mutants):
            raise CatalogueError(f"--only {pattern}: no mutant and no room has this name")
    if only:
        mutants = [each for each in mutants if any(_matches(each, pattern) for pattern in only)]
    if not quick:
        return mutants
    seed = _commit() if seed is None else seed
    print(f"one mutant of each room, --seed {seed}")
    choose = random.Random(seed)
    rooms = dict.fromkeys(mutant.room for mutant in mutants)
    return [choose.choice([each for each in mutants if each.room == room]) for room in rooms]


def _matches(mutant: Mutant, pattern: str) -> bool:
    return fnmatch.fnmatchcase(mutant.name, pattern) or fnmatch.fnmatchcase(mutant.room, pattern)


def _commit() -> str:
    """So that a commit is always checked with the same mutants, and the next one with others."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else "0"


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One run at a time: they would plant in the same scratch copies."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CatalogueError(f"another run has {folder}: wait for it") from None
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[TextIO | None]:
    """Opened before the work begins: a wrong path costs nothing."""
    if path is None:
        yield None
        return
    with open(path, "w", encoding="utf-8") as file:
        yield file


def _run(mutants: Sequence[Mutant], output: TextIO | None, jobs: int) -> int:
    began = time.monotonic()
    check(mutants, ROOT)
    results: list[Result] = []
    with Crew(ROOT, SCRATCH, min(jobs, len(mutants))) as crew:
        _say(f"scratch copies and extensions in {SCRATCH.relative_to(ROOT)} …")
        crew.prepare()
        selections = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
        _say(f"the tests without any bug ({len(selections)} selections) …")
        baseline = crew.baseline(selections)
        for mutant in mutants:
            if missing := baseline.missing(mutant.tests):
                raise CatalogueError(f"{mutant.name}: there is no test {', '.join(missing)}")
        try:
            for result in crew.attempts(mutants, baseline):
                results.append(result)
                _say(report.progress(len(results), len(mutants), result))
        finally:
            results.sort(key=lambda result: mutants.index(result.mutant))
            seconds = time.monotonic() - began
            if output is not None:
                json.dump(report.document(results, seconds), output, indent=2)
                output.write("\n")
    _say("\n" + report.summary(results, seconds))
    verdicts = {result.outcome.verdict for result in results}
    if Verdict.BROKEN in verdicts:
        return CANNOT_SAY
    return NOT_NOTICED if Verdict.SURVIVED in verdicts else ALL_NOTICED


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
