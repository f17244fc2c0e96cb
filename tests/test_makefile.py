"""The Makefile: what it says of itself and of a machine that lacks something."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Makefile").read_text()

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on PATH")

STUB = """#!/bin/sh
case "$*" in
    *version_info*) exit {old} ;;
    *ensurepip*) exit {no_venv} ;;
    *Python.h*) exit {no_header} ;;
esac
exit 0
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what make reads before it builds, and a folder `bin` with the tools it calls."""
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "echo", "printf", "touch", "rm", "sed", "sort"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def make(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("make")
    assert found is not None
    return subprocess.run(
        [found, *words],
        cwd=tree,
        env={"PATH": str(tree / "bin"), "LANG": "C"},
        capture_output=True,
        text=True,
        check=False,
    )


def add(tree: Path, name: str, text: str) -> None:
    path = tree / "bin" / name
    path.write_text(text)
    path.chmod(0o755)


def test_all_that_is_missing_is_told_at_once_with_one_command(tree: Path) -> None:
    done = make(tree, "build")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[:-1] == [
        "To build, this machine lacks:",
        "  python3 on PATH: Python 3.10 or newer (or run make PYTHON=/path/to/python3)",
        "  a C compiler (cc)",
        "On Debian or Ubuntu: sudo apt-get install python3 python3-venv python3-dev gcc libc6-dev",
    ]
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("old", "no_venv", "no_header", "packages"),
    [
        (1, 0, 0, "python3 python3-venv python3-dev libc6-dev"),
        (0, 1, 1, "python3-venv python3-dev libc6-dev"),
        (0, 0, 1, "python3-dev libc6-dev"),
        (0, 0, 0, "libc6-dev"),
    ],
)
def test_only_what_is_missing_is_named(
    tree: Path, old: int, no_venv: int, no_header: int, packages: str
) -> None:
    add(tree, "python3", STUB.format(old=old, no_venv=no_venv, no_header=no_header))
    add(tree, "cc", "#!/bin/sh\nexit 1\n")  # a compiler that finds no headers
    done = make(tree, "build")
    assert done.returncode == 2
    assert f"On Debian or Ubuntu: sudo apt-get install {packages}\n" in done.stderr


def test_first_line_of_a_build_is_no_command_and_no_error(tree: Path) -> None:
    add(tree, "python3", STUB.format(old=0, no_venv=0, no_header=0))
    add(tree, "cc", "#!/bin/sh\nexit 0\n")
    done = make(tree, "build")
    # The stub makes no environment, so that the first command in it fails.
    assert done.stdout.splitlines()[0] == "setting up .venv, about a minute …"
    assert "missing" not in done.stdout
    assert "lacks" not in done.stderr


def test_help_names_every_target_and_fits_a_terminal() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", TEXT, re.MULTILINE)
    assert targets is not None
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("  make ")]
    assert {line.split()[1] for line in lines} == set(targets[1].split())
    assert max(map(len, lines)) <= 100


def test_every_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", TEXT, re.MULTILINE))
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for words in re.findall(r"^(?:\$ )?make ([a-z ]+)", document.read_text(), re.MULTILINE):
            assert set(words.split()) <= targets, f"{document.name}: make {words}"
