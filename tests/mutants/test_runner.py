"""The runner on a project of three files: what it makes of each end that tests can come to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.mutants import outcomes
from tests.mutants.mutant import CatalogueError, Mutant
from tests.mutants.tree import Tree
from tests.mutants.trial import Baseline, BaselineError, Trial, Verdict
from tests.support.cluster import wait_until

PROGRAM = '''\
"""One function."""


def double(number: int) -> int:
    return number * 2
'''
TESTS = """\
import os

import pytest

from program import double


def test_double():
    assert double(4) == 8


def test_elsewhere():
    pass


def test_skipped():
    pytest.skip("no moon")
"""
DOUBLE = "test_program.py::test_double"


class Project:
    """The project and its scratch tree."""

    def __init__(self, folder: Path) -> None:
        source, kept = folder / "source", folder / "kept"
        self.source = source
        (source / "tests" / "mutants").mkdir(parents=True)
        kept.mkdir()
        (source / "program.py").write_text(PROGRAM)
        (source / "test_program.py").write_text(TESTS)
        for package in (source / "tests", source / "tests" / "mutants"):
            (package / "__init__.py").touch()
        shutil.copy(str(outcomes.__file__), source / "tests" / "mutants")
        self.tree = Tree(source, folder / "tree")
        self.tree.sync()
        self.trial = Trial(self.tree.path, kept, least=2.0)
        self.all: Baseline = self.trial.baseline(["test_program.py"])

    def attempt(self, new: str, *tests: str) -> tuple[Verdict, str, str]:
        """What becomes of the mutant whose `double` does `new`."""
        selections = tests or (DOUBLE,)
        mutant = Mutant("m", "b", "program.py", "return number * 2", new, selections)
        with self.tree.planted(mutant):
            outcome = self.trial.attempt(selections, self.all)
        return outcome.verdict, outcome.by, outcome.why


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


def test_failing_test_is_a_kill_with_its_message(project: Project) -> None:
    verdict, by, why = project.attempt("return number * 3")
    assert (verdict, by) == (Verdict.KILLED, DOUBLE)
    assert why.startswith("assert 12 == 8")


def test_mutant_of_the_same_size_and_second_is_not_the_old_bytecode(project: Project) -> None:
    assert project.attempt("return number * 5")[2].startswith("assert 20 == 8")
    assert project.attempt("return number + 4")[0] is Verdict.SURVIVED


def test_passing_tests_are_a_survivor(project: Project) -> None:
    assert project.attempt("return 0", "test_program.py::test_elsewhere")[0] is Verdict.SURVIVED


def test_hang_is_a_kill_that_says_so(project: Project) -> None:
    verdict, by, why = project.attempt("import time; time.sleep(60)")
    assert (verdict, by, why) == (Verdict.HUNG, DOUBLE, "not done after 2 s")


def test_crash_is_a_kill_that_says_so(project: Project) -> None:
    verdict, _, why = project.attempt("import os; os.abort()")
    assert (verdict, why) == (Verdict.CRASHED, "pytest died of SIGABRT")


def test_mutant_that_cannot_be_imported_is_no_kill(project: Project) -> None:
    verdict, _, why = project.attempt("return (")
    assert verdict is Verdict.BROKEN
    assert "SyntaxError" in why


def test_tests_that_cannot_run_here_decide_nothing(project: Project) -> None:
    verdict, _, why = project.attempt("return 0", "test_program.py::test_skipped")
    assert (verdict, why) == (Verdict.SKIPPED, "Skipped: no moon")


def test_process_that_a_test_left_behind_is_ended(project: Project) -> None:
    number = project.tree.path / "left"
    start = f"import subprocess; p = subprocess.Popen(['sleep', '600']); open({str(number)!r}, 'w')"
    assert project.attempt(f"{start}.write(str(p.pid)); return 8")[0] is Verdict.SURVIVED
    state = Path("/proc", number.read_text(), "stat")

    def has_ended() -> bool:
        try:
            return state.read_text().split()[2] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(has_ended, "the process that was left behind ends")  # it was killed a moment ago


def test_failure_without_a_bug_is_named(project: Project) -> None:
    file = project.tree.path / "test_program.py"
    file.write_text(TESTS.replace("== 8", "== 9"))
    with pytest.raises(BaselineError, match=r"test_double: assert 8 == 9"):
        project.trial.baseline([DOUBLE])
    project.tree.sync()
    assert project.trial.baseline([DOUBLE]).missing([DOUBLE, "test_program.py::gone"]) == [
        "test_program.py::gone"
    ]


def test_planting_needs_the_text_once_and_is_undone(project: Project) -> None:
    file = project.tree.path / "program.py"
    for text in ("number", "no such text"):
        with (
            pytest.raises(CatalogueError, match="not once"),
            project.tree.planted(Mutant("m", "b", "program.py", text, "x", (DOUBLE,))),
        ):
            pass
    with project.tree.planted(Mutant("m", "b", "program.py", "* 2", "* 9", (DOUBLE,))):
        assert "* 9" in file.read_text()
    assert file.read_text() == PROGRAM


def test_sync_repairs_what_a_killed_run_left(project: Project) -> None:
    file, extra = project.tree.path / "program.py", project.tree.path / "extra.py"
    file.write_text("rubbish")
    extra.touch()
    (project.tree.path / "kept.so").touch()
    (project.source / "kept.so").touch()
    project.tree.sync()
    assert file.read_text() == PROGRAM
    assert not extra.exists()
    assert (project.tree.path / "kept.so").exists()
