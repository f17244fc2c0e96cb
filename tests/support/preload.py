"""Runs a module of the tests in a process of its own with a small C library preloaded."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

__all__ = ["run_preloaded"]

ROOT = Path(__file__).parent.parent.parent


def run_preloaded(
    module: str,
    source: str,
    variable: str,
    directory: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
) -> tuple[str, bytes]:
    """What `module` prints, and what is left in the file that it shares with tests/c/`source`.

    What is preloaded into this process already (a sanitizer's library) stays in front.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the preloaded library with")
    library, shared = _library(compiler, source), directory / "shared"
    shared.write_bytes(bytes(4096))
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "LD_PRELOAD": ":".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library)])),
            variable: str(shared),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, shared.read_bytes()


@functools.cache
def _library(compiler: str, source: str) -> Path:
    """tests/c/`source` as a shared library, built once a run."""
    library = Path(_folder().name) / f"{source}.so"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", library, ROOT / "tests/c" / source], check=True
    )
    return library


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()
