"""The steady state allocates nothing: neither on the C heap nor on Python's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_packets_allocate_nothing(tmp_path: Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the counting malloc with")
    library = tmp_path / "count_malloc.so"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", library, ROOT / "tests/c/count_malloc.c"],
        check=True,
    )
    shared = tmp_path / "count"
    shared.write_bytes(bytes(4096))
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.count_allocations"],
        cwd=ROOT,
        env={
            **os.environ,
            "LD_PRELOAD": str(library),
            "COUNT_MALLOC": str(shared),
            "PYTHONMALLOC": "pymalloc",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    c_heap, python_heap = map(int, done.stdout.split())
    assert int.from_bytes(shared.read_bytes()[:8], sys.byteorder) > 1000, "malloc was not counted"
    assert c_heap == 0
    # The counter objects of this measurement itself.
    assert python_heap < 2000
