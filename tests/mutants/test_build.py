"""The builder on an extension of two units: one unit a mutant, and everything back afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.build import Extensions
from tests.mutants.mutant import CatalogueError

SETUP = """\
from setuptools import Extension, setup

setup(
    name="udpoverlay",
    packages=["udpoverlay"],
    ext_modules=[
        Extension("udpoverlay._tiny", ["ext/tiny.c", "ext/unit/answer.c"], include_dirs=["ext"])
    ],
)
"""
MODULE = """\
#include <Python.h>
#include "unit/answer.h"
static PyObject *answer_of(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyLong_FromLong(answer() + OFFSET);
}
static PyMethodDef methods[] = {{"answer", answer_of, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_tiny", .m_methods = methods};
PyMODINIT_FUNC PyInit__tiny(void) { return PyModule_Create(&module); }
"""
HEADER = "enum { OFFSET = 0 };\nint answer(void);\n"
UNIT = '#include "unit/answer.h"\nint answer(void) { return 42; }\n'


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    (tree / "udpoverlay").mkdir()
    (tree / "ext" / "unit").mkdir(parents=True)
    for name, text in {
        "setup.py": SETUP,
        "udpoverlay/__init__.py": "",
        "ext/tiny.c": MODULE,
        "ext/unit/answer.h": HEADER,
        "ext/unit/answer.c": UNIT,
    }.items():
        (tree / name).write_text(text)
    return tree


@pytest.fixture(scope="module")
def extensions(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Extensions:
    made = Extensions(tree, tmp_path_factory.mktemp("kept"))
    made.prepare()
    return made


def answer(tree: Path) -> int:
    """What a fresh process gets."""
    script = "from udpoverlay import _tiny; print(_tiny.answer())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tree, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def rebuilt(tree: Path, extensions: Extensions, file: str, text: str) -> int:
    """The answer with `text` in `file`."""
    changed = tree / file
    before = changed.read_text()
    changed.write_text(text)
    try:
        with extensions.rebuilt(changed):
            return answer(tree)
    finally:
        changed.write_text(before)


def test_changed_unit_is_compiled_in_and_taken_out(tree: Path, extensions: Extensions) -> None:
    assert rebuilt(tree, extensions, "ext/unit/answer.c", UNIT.replace("42", "43")) == 43
    assert answer(tree) == 42


def test_changed_header_reaches_every_unit(tree: Path, extensions: Extensions) -> None:
    changed = HEADER.replace("OFFSET = 0", "OFFSET = 100")
    assert rebuilt(tree, extensions, "ext/unit/answer.h", changed) == 142
    assert answer(tree) == 42


def test_unit_that_does_not_compile_is_an_error(tree: Path, extensions: Extensions) -> None:
    with pytest.raises(CatalogueError, match="do not build"):
        rebuilt(tree, extensions, "ext/unit/answer.c", "rubbish")
    assert answer(tree) == 42


def test_file_of_no_extension_is_an_error(tree: Path, extensions: Extensions) -> None:
    (tree / "ext" / "unit" / "other.c").touch()
    with pytest.raises(CatalogueError, match="not part of any extension"):
        rebuilt(tree, extensions, "ext/unit/other.c", "")


def test_unchanged_sources_are_not_built_again(tree: Path, tmp_path: Path) -> None:
    Extensions(tree, tmp_path).prepare()
    (tmp_path / "cc").unlink()
    (tree / "setup.py").touch()
    Extensions(tree, tmp_path).prepare()
    assert not (tmp_path / "cc").exists()
    assert answer(tree) == 42
