"""What a mutant is, and the catalogue of all of them.

Owns: the fields of an entry and the rules that keep the list from rotting: names are unique, the
text to replace stands in its file exactly once. Must not know: how tests are run.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CatalogueError", "Mutant", "check", "load", "occurrences"]


class CatalogueError(Exception):
    """An entry of the catalogue is wrong; the text says which and how."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug that could have been written, and who must notice."""

    name: str
    """Unique; names what is broken, not the line."""
    bug: str
    """One sentence: what a user, an operator or a peer would see."""
    file: str
    """Relative to the root of the project."""
    old: str
    """The text that is replaced; it must stand in `file` exactly once."""
    new: str
    tests: tuple[str, ...]
    """pytest selections (a file, a test, one parameter of it); at least one test must fail."""
    room: str = ""
    """The module of the catalogue; filled in by `load`."""

    @property
    def compiled(self) -> bool:
        """Whether the extensions must be built again."""
        return self.file.startswith("ext/")


def occurrences(mutant: Mutant, root: Path) -> int:
    """How often the text to replace stands in the file; CatalogueError when there is no file."""
    try:
        return (root / mutant.file).read_text(encoding="utf-8").count(mutant.old)
    except FileNotFoundError:
        raise CatalogueError(f"{mutant.name}: there is no {mutant.file}") from None


def check(mutants: Iterable[Mutant], root: Path) -> None:
    """Raise CatalogueError that names every mutant whose text is not in its file exactly once."""
    wrong = [
        f"{mutant.name}: its text stands in {mutant.file} {count} times, not once:\n{mutant.old}"
        for mutant in mutants
        if (count := occurrences(mutant, root)) != 1
    ]
    if wrong:
        raise CatalogueError("\n\n".join(wrong))


def load() -> list[Mutant]:
    """All mutants, room by room. Raises CatalogueError for an entry that cannot be right."""
    from tests.mutants import catalogue  # noqa: PLC0415 - its modules import this one

    found: list[Mutant] = []
    for module in sorted(pkgutil.iter_modules(catalogue.__path__), key=lambda each: each.name):
        entries: Iterable[Mutant] = importlib.import_module(
            f"{catalogue.__name__}.{module.name}"
        ).MUTANTS
        found += [_in_room(entry, module.name) for entry in entries]
    names = [mutant.name for mutant in found]
    for name in names:
        if names.count(name) > 1:
            raise CatalogueError(f"{name}: the name is given twice")
    return found


def _in_room(entry: Mutant, room: str) -> Mutant:
    if entry.old == entry.new:
        raise CatalogueError(f"{entry.name}: nothing is changed")
    if not entry.tests:
        raise CatalogueError(f"{entry.name}: no test is named")
    return Mutant(entry.name, entry.bug, entry.file, entry.old, entry.new, entry.tests, room)
