"""setup.py: what it finds out about the compiler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LINK_ARGUMENTS = """
import json, runpy
import Cython.Build, setuptools
found = []
Cython.Build.cythonize = lambda modules, **_: modules
setuptools.setup = lambda ext_modules, **_: found.extend(ext_modules)
runpy.run_path("setup.py")
print(json.dumps([module.extra_link_args for module in found]))
"""

WITHOUT_ATOMICS = """#!/bin/sh
# Links like a compiler for a CPU without 64-bit atomics.
case " $* " in
    *" -latomic "*) for word; do shift; [ "$word" = -latomic ] || set -- "$@" "$word"; done ;;
    *) echo "undefined reference to __atomic_load_8" >&2; exit 1 ;;
esac
exec cc "$@"
"""


def link_arguments(compiler: str) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", LINK_ARGUMENTS],
        cwd=ROOT,
        env={**os.environ, "CC": compiler},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_libatomic_is_linked_where_programs_need_it(tmp_path: Path) -> None:
    compiler = tmp_path / "cc-without-atomics"
    compiler.write_text(WITHOUT_ATOMICS)
    compiler.chmod(0o755)
    assert all("-latomic" in each for each in link_arguments(str(compiler)))


def test_libatomic_is_not_linked_where_the_cpu_has_the_instructions() -> None:
    assert not any("-latomic" in each for each in link_arguments("cc"))


@pytest.mark.parametrize("cpu", ["powerpc-linux-gnu", "arm-linux-gnueabi", "mipsel-linux-gnu"])
def test_libatomic_is_linked_for_a_real_cpu_without_them(cpu: str) -> None:
    if shutil.which(f"{cpu}-gcc") is None:
        pytest.skip(f"no {cpu}-gcc on PATH")
    assert all("-latomic" in each for each in link_arguments(f"{cpu}-gcc"))
