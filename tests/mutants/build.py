"""The compiled extensions of the scratch tree: built once, then one unit at a time.

Owns: which commands setup.py runs, kept so that a mutant costs one compilation and a link; the
pristine products, put back after each mutant. Must not know: which mutant, how tests are run.

setup.py stays the only place with flags and lists of units: it is run once with its compiler
watched, and again whenever anything in ext/ or setup.py itself has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from tests.mutants.mutant import CatalogueError

__all__ = ["Extensions"]

Command = list[str]

_WATCHED_COMPILER = """\
#!/bin/sh
printf '%s\\0' "$@" >> "$MUTANTS_COMMANDS"
echo >> "$MUTANTS_COMMANDS"
exec $MUTANTS_CC "$@"
"""
"""Stands in the compiler's place: a line for each call, its words ended by NUL."""
_SOURCES = {".c", ".h", ".pyx", ".pxd", ".pxi", ".py"}
_PRODUCTS = ("udpoverlay/*.so", "ext/_*.c", "build/temp*/**/*.o")


class Extensions:
    """What `tree` is tested with; `kept` is the folder for what must outlive a run."""

    def __init__(self, tree: Path, kept: Path) -> None:
        self._tree = tree
        self._compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
        self._commands = kept / "commands"
        self._watched = kept / "cc"
        self._mark = kept / "built-from"
        self._pristine = kept / "pristine"

    def prepare(self) -> None:
        """Have the unchanged extensions in place, built if anything that they are made of changed.

        Raises CatalogueError when they do not build: then nothing can be said about any mutant.
        """
        built_from = self._fingerprint()
        if self._mark.is_file() and self._mark.read_text(encoding="ascii") == built_from:
            self._restore()
            return
        self._mark.unlink(missing_ok=True)
        shutil.rmtree(self._pristine, ignore_errors=True)
        shutil.rmtree(self._tree / "build", ignore_errors=True)
        self._commands.write_bytes(b"")
        self._watched.write_text(_WATCHED_COMPILER, encoding="ascii")
        self._watched.chmod(0o755)
        self._setup(
            "--force",
            CC=str(self._watched),
            MUTANTS_CC=self._compiler,
            MUTANTS_COMMANDS=str(self._commands),
        )
        for product in self._products(self._tree):
            copy = self._pristine / product
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._tree / product, copy)
        self._mark.write_text(built_from, encoding="ascii")

    @contextlib.contextmanager
    def rebuilt(self, changed: Path) -> Iterator[None]:
        """With the changed file compiled in, inside the with block.

        Raises CatalogueError when it does not compile: a bug is one that the compiler lets pass.
        """
        try:
            if changed.suffix in {".pyx", ".pxd", ".pxi"}:
                self._setup()
            else:
                self._compile(changed)
            yield
        finally:
            self._restore()

    def _setup(self, *arguments: str, **environment: str) -> None:
        self._run([sys.executable, "setup.py", "build_ext", "--inplace", *arguments], environment)

    def _compile(self, changed: Path) -> None:
        """Compile one unit, or after a change of a header all, and link what holds them."""
        unit = str(changed.relative_to(self._tree))
        recorded = self._recorded()
        objects: set[str] = set()
        for command in recorded:
            if "-c" in command and (changed.suffix == ".h" or unit in command):
                self._run([*self._compiler.split(), *command])
                objects.add(_output(command))
        if not objects:
            raise CatalogueError(f"{unit} is not part of any extension")
        for command in recorded:
            if "-c" not in command and objects & set(command):
                self._run([*self._compiler.split(), *command])
                self._put_in_place(Path(_output(command)))

    def _recorded(self) -> list[Command]:
        """The compiler's calls without its name, each once: extensions share units."""
        lines = self._commands.read_text(encoding="utf-8").splitlines()
        return [line.rstrip("\0").split("\0") for line in dict.fromkeys(lines)]

    def _put_in_place(self, linked: Path) -> None:
        """setuptools links below build/ and copies; so do we."""
        made, wanted = self._tree / linked, self._tree / "udpoverlay" / linked.name
        if made != wanted:
            shutil.copy2(made, wanted)

    def _run(self, command: Command, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        done = subprocess.run(
            command,
            cwd=self._tree,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CatalogueError(f"the extensions do not build:\n{done.stdout[-4000:]}")

    def _restore(self) -> None:
        for product in self._products(self._pristine):
            shutil.copy2(self._pristine / product, self._tree / product)

    def _products(self, root: Path) -> list[Path]:
        return [file.relative_to(root) for pattern in _PRODUCTS for file in root.glob(pattern)]

    def _fingerprint(self) -> str:
        """What the extensions are made of: their sources, setup.py, and the interpreter."""
        digest = hashlib.sha256(sys.version.encode())
        sources = [*self._tree.glob("ext/**/*"), self._tree / "setup.py"]
        for file in sorted(sources):
            name = file.relative_to(self._tree)
            generated = file.suffix == ".c" and file.name.startswith("_")
            if file.is_file() and file.suffix in _SOURCES and not generated:
                digest.update(f"{name} {file.stat().st_size}\n".encode() + file.read_bytes())
        return digest.hexdigest()


def _output(command: Command) -> str:
    return command[command.index("-o") + 1]
