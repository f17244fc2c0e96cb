"""The list of mutants follows the code: every entry can be planted, every test it names exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.mutant import CatalogueError, Mutant, check, load

ROOT = Path(__file__).parents[2]
MUTANTS = load()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_text_to_replace_stands_once(mutant: Mutant) -> None:
    """If you changed that line: adapt the entry in tests/mutants/catalogue/."""
    check([mutant], ROOT)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_selected_tests_exist(mutant: Mutant) -> None:
    for selection in mutant.tests:
        path, _, name = selection.partition("::")
        assert (ROOT / path).exists(), selection
        function = name.rpartition("::")[2].partition("[")[0]
        assert not name or f"def {function}(" in (ROOT / path).read_text(), selection


def test_bug_is_one_sentence_of_what_is_seen() -> None:
    for mutant in MUTANTS:
        assert len(mutant.bug) < 100, mutant.name
        assert not mutant.bug.endswith("."), mutant.name


@pytest.mark.parametrize("text", ["not there", "import"])
def test_text_that_is_not_there_once_is_refused(text: str) -> None:
    mutant = Mutant("no-such", "nothing", "setup.py", text, "x", ("tests",))
    with pytest.raises(CatalogueError, match=r"no-such: its text stands in setup\.py"):
        check([mutant], ROOT)


def test_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(CatalogueError, match=r"gone: there is no udpoverlay/gone\.py"):
        check([Mutant("gone", "nothing", "udpoverlay/gone.py", "a", "b", ("tests",))], ROOT)
