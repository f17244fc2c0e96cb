"""Imports point down only: docs/architecture.md's floors, asserted."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "udpoverlay"

FLOORS = {
    "_version": 0,
    "errors": 0,  # below all: also the pure rules say who is to blame
    "gocompat": 0,
    "redact": 0,
    "model": 1,
    "_fastpath": 2,
    "_pure": 2,
    "_traffic": 2,
    "log": 1,
    "clock": 2,
    "aio": 1,
    "supervisor": 3,
    "loop": 3,
    "peers": 3,
    "registry": 3,
    "kubernetes": 3,
    "host": 3,
    "registry/etcd": 4,
    "registry/kubernetes": 4,
    "dataplane": 4,
    "control": 4,
    "observe": 4,
    "firewall": 4,
    "doctor/facts": 5,
    "doctor/patient": 6,
    "doctor/base": 7,
    "doctor/checks": 8,
    "doctor": 9,
    "decode": 2,
    "wireshark": 0,  # files for another program
    "trace": 3,
    "reach": 4,
    "reach/live": 5,
    "backend": 5,
    "facts": 6,
    "handover": 6,
    "podcidr": 5,
    "web": 5,
    "lab/message": 5,
    "lab/actions": 6,
    "lab": 7,
    "lab/bench": 8,
    "daemon": 8,
    "cli": 10,
    "cni": 10,
}
"""A floor for each room: a module on the top level, a folder, a sub-folder. Imports point down;
rooms of one floor do not import each other."""
PURE = {"decode", "errors", "gocompat", "model", "peers", "reach", "redact", "trace"}
PURE_MUST_NOT_IMPORT = {"asyncio", "socket", "os", "time", "logging", "subprocess", "threading"}
ONLY_IN = {
    "msgspec": {"kubernetes"},
    "pyroute2": {"host", "lab/actions"},
    "pytun": {"dataplane"},
    "uvloop": {"loop"},
    "h11": {"observe"},
    "prometheus_client": {"observe"},
    "argparse": {"cli", "wireshark"},
    "grpclib": {"registry/etcd"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def room(parts: tuple[str, ...]) -> str:
    """The longest prefix of a module's path that has a floor of its own."""
    for length in range(len(parts), 0, -1):
        if (name := "/".join(parts[:length])) in FLOORS:
            return name
    return parts[0]


def part(path: Path) -> str:
    return room(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path: Path) -> set[str]:
    """Dotted names of every module that `path` imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floor"
            found.add(node.module or "")
            if node.module == "udpoverlay":
                found.update(f"udpoverlay.{alias.name}" for alias in node.names)
    return found


def parts_imported(path: Path) -> set[str]:
    return {
        room(tuple(name.split(".")[1:])) for name in imports(path) if name.startswith("udpoverlay.")
    } & set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_imports_only_from_floors_below_its_own(path: Path) -> None:
    own = part(path)
    if own == "__init__":
        return
    for other in parts_imported(path) - {own}:
        assert FLOORS[other] < FLOORS[own], f"{own} must not import {other}"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_belongs_to_a_floor(path: Path) -> None:
    assert part(path) in FLOORS or part(path) in {"__init__", "__main__"}


@pytest.mark.parametrize("path", [path for path in MODULES if part(path) in PURE], ids=relative)
def test_the_pure_floor_does_no_io_and_reads_no_clock(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & PURE_MUST_NOT_IMPORT


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_foreign_library_is_used_in_one_place(library: str) -> None:
    users = {
        part(path)
        for path in MODULES
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users <= ONLY_IN[library]


def test_only_programs_read_the_environment_or_exit() -> None:
    """The command line is one; the lab's agents, the CNI plugin, Wireshark's are others."""
    for path in MODULES:
        if part(path).split("/")[0] in {"cli", "cni", "lab", "wireshark"}:
            continue
        text = path.read_text()
        assert "os.environ" not in text, path
        assert "sys.exit" not in text, path


def test_every_module_can_be_imported_first() -> None:
    """A circular import shows only when its module comes first, so each one does once."""
    names = [
        ".".join(("udpoverlay", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for path in MODULES
        if path.name != "__main__.py"
    ]
    script = (
        "import importlib, sys\n"
        "compiled = ('udpoverlay._fastpath', 'udpoverlay._pure', 'udpoverlay._traffic')\n"
        f"for name in {names!r}:\n"
        "    for loaded in list(sys.modules):\n"
        "        if loaded.startswith('udpoverlay') and not loaded.startswith(compiled):\n"
        "            del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_cni_plugin_needs_only_the_standard_library_and_its_own_room() -> None:
    """It starts once for every pod: each import costs each pod time."""
    for path in MODULES:
        if part(path) != "cni":
            continue
        roots = {name.split(".")[0] for name in imports(path)} - {"udpoverlay"}
        assert roots <= sys.stdlib_module_names, path
        assert parts_imported(path) <= {"cni"}, path
