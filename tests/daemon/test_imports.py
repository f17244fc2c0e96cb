"""What a daemon with etcd loads: each library costs every host memory and start-up time."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
before = set(sys.modules)
import udpoverlay.cli.entry, udpoverlay.cli.daemon_command, udpoverlay.daemon
print(*sorted(set(sys.modules) - before))
"""
LIBRARIES = ["aiohttp", "argparse", "ctypes", "msgspec", "pyroute2", "rich", "unittest", "yaml"]
ROOMS = ("lab", "podcidr", "kubernetes", "registry.kubernetes", "doctor", "cni", "cli.main")


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    return done.stdout.decode().split()


@pytest.mark.parametrize("library", LIBRARIES)
def test_library_is_not_loaded(loaded: list[str], library: str) -> None:
    assert library not in loaded


def test_code_of_ours_for_something_else_is_not_loaded(loaded: list[str]) -> None:
    unwanted = tuple(f"udpoverlay.{room}" for room in ROOMS)
    assert [name for name in loaded if name.startswith(unwanted)] == []
