"""Two scratch copies of a project of two files at work side by side."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from tests.mutants import outcomes
from tests.mutants.crew import Crew, shared
from tests.mutants.mutant import Mutant
from tests.mutants.trial import Stopped, Verdict
from tests.support.cluster import wait_until

PROGRAM = "def double(number):\n    return number * 2\n"
TESTS = "from program import double\n\n\ndef test_double():\n    assert double(4) == 8\n"
SETUP = "from setuptools import setup\n\nsetup(name='program', py_modules=['program'])\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "tests" / "mutants").mkdir(parents=True)
    for name, text in {
        "setup.py": SETUP,
        "program.py": PROGRAM,
        "test_program.py": TESTS,
        "tests/__init__.py": "",
        "tests/mutants/__init__.py": "",
    }.items():
        (source / name).write_text(text)
    shutil.copy(str(outcomes.__file__), source / "tests" / "mutants")
    return source


def mutant(name: str, new: str) -> Mutant:
    return Mutant(name, "b", "program.py", "return number * 2", new, ("test_program.py",))


def test_each_mutant_is_tried_in_a_copy_of_its_own(source: Path, tmp_path: Path) -> None:
    mutants = [mutant(str(factor), f"return number * {factor}") for factor in range(6)]
    with Crew(source, tmp_path / "copies", 2) as crew:
        crew.prepare()
        results = list(crew.attempts(mutants, crew.baseline(["test_program.py"])))
    assert len(results) == len(mutants)
    for result in results:
        factor = int(result.mutant.name)
        if factor == 2:
            assert result.outcome.verdict is Verdict.SURVIVED
        else:
            assert result.outcome.why.startswith(f"assert {4 * factor} == 8")


def test_run_that_is_left_ends_what_it_started(source: Path, tmp_path: Path) -> None:
    number = tmp_path / "number"
    hang = (
        f"import os, time; open({str(number)!r}, 'w').write(f'{{os.getpid()}} '); time.sleep(600)"
    )
    left: list[BaseException] = []

    def run() -> None:
        try:
            next(attempts)
        except Stopped as stopped:
            left.append(stopped)

    with Crew(source, tmp_path / "copies", 1) as crew:
        crew.prepare()
        attempts = crew.attempts([mutant("hang", hang)], crew.baseline(["test_program.py"]))
        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: number.exists() and number.read_text().endswith(" "), "a test hangs")
    thread.join(60)
    assert len(left) == 1
    assert not Path("/proc", number.read_text().strip()).exists()
    assert PROGRAM in (tmp_path / "copies" / "1" / "tree" / "program.py").read_text()


def test_shares_keep_the_tests_of_a_file_together_and_have_each_once() -> None:
    given = [
        "t/a.py::one",
        "t/b.py",
        "t/b.py::two",
        "t/a.py::three[4]",
        "t/a.py::three",
        "u",
        "u/c.py",
    ]
    assert shared(given, 2) == [["t/a.py::one", "t/a.py::three", "u"], ["t/b.py"]]
    assert shared(["t/a.py"], 3) == [["t/a.py"]]
