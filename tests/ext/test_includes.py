"""The folders of ext/ as layers: who includes whom, in headers and in units."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

EXT = Path(__file__).parent.parent.parent / "ext"
ORDER = ("", "packet", "offload", "routes", "trace", "worker")
"""Each folder may include itself and those before it; "" is ext/ itself, the list of verdicts."""
APART = {"traffic": {"traffic"}, "process": {"process"}}
"""The lab's generator and the rights of the process share nothing with the data path."""
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def sources() -> list[Path]:
    """Ours alone: Cython's output begins with an underscore."""
    found = [path for path in EXT.rglob("*.[ch]") if not path.name.startswith("_")]
    return sorted(path.relative_to(EXT) for path in found)


def included(source: Path) -> set[Path]:
    return {Path(name) for name in INCLUDE.findall((EXT / source).read_text())}


def unit(path: Path) -> Path:
    """A header and the file that defines what it declares are one unit."""
    return path.with_suffix("")


def folder(path: Path) -> str:
    return "" if path.parent == Path() else path.parts[0]


def cycle_of(edges: dict[Path, set[Path]]) -> list[Path]:
    """The units of one circle, in its order; empty when there is none."""
    done: set[Path] = set()

    def follow(at: Path, way: list[Path]) -> list[Path]:
        if at in way:
            return [*way[way.index(at) :], at]
        if at in done:
            return []
        for to in sorted(edges.get(at, ())):
            found = follow(to, [*way, at])
            if found:
                return found
        done.add(at)
        return []

    for start in sorted(edges):
        found = follow(start, [])
        if found:
            return found
    return []


def test_every_folder_has_its_place_in_the_order() -> None:
    assert {folder(source) for source in sources()} == {*ORDER, *APART}


@pytest.mark.parametrize("source", sources(), ids=str)
def test_includes_name_existing_files_by_their_path_from_ext(source: Path) -> None:
    assert all((EXT / name).is_file() for name in included(source))


@pytest.mark.parametrize("source", sources(), ids=str)
def test_includes_point_down(source: Path) -> None:
    of = folder(source)
    allowed = APART[of] if of in APART else set(ORDER[: ORDER.index(of) + 1])
    assert {folder(name) for name in included(source)} <= allowed


def test_no_two_units_need_each_other() -> None:
    edges: dict[Path, set[Path]] = {}
    for source in sources():
        needs = {unit(name) for name in included(source)}
        edges.setdefault(unit(source), set()).update(needs - {unit(source)})
    assert cycle_of(edges) == []


def test_a_circle_of_units_is_found() -> None:
    a, b, c = Path("a"), Path("b"), Path("c")
    assert cycle_of({a: {b}, b: {c}, c: {b}}) == [b, c, b]
    assert cycle_of({a: {b, c}, b: {c}}) == []
