"""Builds and runs one test program of tests/c (without sanitizers: `make ctest` has those)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["run_c_test"]

ROOT = Path(__file__).parent.parent.parent


def run_c_test(name: str, directory: Path) -> str:
    """The last line of tests/c/`name`.c, "N passed, N failed"; what failed is the test's output."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the test with")
    units = [
        unit
        for unit in ROOT.glob("ext/**/*.c")
        if not unit.name.startswith("_") and unit.parent.name != "traffic"
    ]
    program = directory / name
    built = subprocess.run(
        [
            *(compiler, "-std=gnu11", "-O1", "-pthread", "-Iext", "-Itests/c"),
            *("-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc", "-o", str(program)),
            *(f"tests/c/{name}.c", "tests/c/harness.c", *map(str, units)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.splitlines()[-1]
