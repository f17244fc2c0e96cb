"""The scratch copy of the project in which bugs are planted.

Owns: keeping the copy equal to the work tree, planting one bug and taking it out again. Must not
know: which bug, how the extensions are built (build.py), how tests are run.

The copy stays from run to run, so that little has to be built again. What a killed run left behind
is repaired by the next `sync`, which compares contents.
"""

from __future__ import annotations

import contextlib
import filecmp
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.mutants.mutant import Mutant, check

__all__ = ["Tree"]

_NOT_COPIED = {".git", ".venv", "build", "dist", "__pycache__", ".hypothesis", ".benchmarks"}
_GENERATED = ("*.so", "*.egg-info", "*_cache")


class Tree:
    """A copy of the project below `path`."""

    def __init__(self, source: Path, path: Path) -> None:
        self.source = source
        self.path = path

    def sync(self) -> None:
        """Make the copy equal to the source; files that are the same keep their time."""
        wanted = set(_files(self.source))
        for relative in sorted(wanted):
            original, copy = self.source / relative, self.path / relative
            if copy.is_file() and filecmp.cmp(original, copy, shallow=False):
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            _forget_bytecode(copy)
            shutil.copyfile(original, copy)
            copy.chmod(original.stat().st_mode)
        for relative in set(_files(self.path)) - wanted:
            (self.path / relative).unlink()

    @contextlib.contextmanager
    def planted(self, mutant: Mutant) -> Iterator[Path]:
        """The changed file, with the bug in it inside the with block.

        Raises CatalogueError when the text to replace is not there exactly once.
        """
        check([mutant], self.path)
        file = self.path / mutant.file
        text = file.read_text(encoding="utf-8")
        try:
            _write(file, text.replace(mutant.old, mutant.new))
            yield file
        finally:
            _write(file, text)


def _files(root: Path) -> Iterator[Path]:
    """Every file that is part of the project, relative to `root`."""
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name for name in folders if name not in _NOT_COPIED and not _is_generated(Path(name))
        ]
        for name in names:
            relative = (Path(folder) / name).relative_to(root)
            if not _is_generated(relative):
                yield relative


def _is_generated(path: Path) -> bool:
    # What Cython makes of ext/_NAME.pyx stands beside it.
    cython = path.suffix == ".c" and path.name.startswith("_") and path.parts[0] == "ext"
    return cython or any(path.match(pattern) for pattern in _GENERATED)


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    _forget_bytecode(file)


def _forget_bytecode(file: Path) -> None:
    """Bytecode is trusted when size and second of its source match, which they may here."""
    if file.suffix == ".py":
        Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
        # pytest keeps its own, with assertions rewritten.
        for rewritten in (file.parent / "__pycache__").glob(f"{file.stem}.*-pytest-*.pyc"):
            rewritten.unlink()
