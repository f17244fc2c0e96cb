"""What conftest.py promises to all tests: `async def` ones, and a shell that changes nothing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

ROOT = Path(__file__).parent.parent


@pytest.fixture
def seven() -> int:
    return 7


@pytest.mark.parametrize("number", [7])
async def test_async_test_runs_in_a_uvloop_with_its_fixtures(seven: int, number: int) -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    await asyncio.sleep(0)
    assert seven == number


class TestInAClass:
    async def test_async_method_runs(self, seven: int) -> None:
        assert seven == 7


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


INNER = """
import asyncio, os, pytest, signal, subprocess, sys

async def test_fails():
    await asyncio.sleep(0)
    raise AssertionError

@pytest.mark.deadline(0.05)
async def test_takes_too_long():
    await asyncio.Event().wait()

def test_environment():
    assert not [name for name in os.environ if name.startswith("FLANNELD_")]
    assert "NOTIFY_SOCKET" not in os.environ
    assert os.environ["UDPOVERLAY_TEST_ETCDS"] == "/nowhere/etcd"
    assert os.environ["UDPOVERLAY_FUZZ_SECONDS"] == "0.1"

def test_signals():
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        script = f"import os, time; os.kill(os.getpid(), {number}); time.sleep(9)"
        done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
        assert done.returncode == -number
    os.kill(os.getpid(), signal.SIGINT)
"""


def test_shell_of_the_tests_changes_nothing_for_what_they_start(tmp_path: Path) -> None:
    """As after `nohup make test &` in a shell with settings of its own; async tests can fail."""
    inner = tmp_path / "test_inner.py"
    inner.write_text(INNER)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            "pyproject.toml",
            "-p",
            "tests.conftest",
            str(inner),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            **{"FLANNELD_IFACE": "wrong", "NOTIFY_SOCKET": "/wrong", "WORD": "wrong"},
            **{"UDPOVERLAY_TEST_ETCDS": "/nowhere/etcd", "UDPOVERLAY_FUZZ_SECONDS": "0.1"},
        },
        preexec_fn=_ignore_signals,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert re.search(r"^E +AssertionError", done.stdout, re.MULTILINE)
    assert re.search(r"^E .*TimeoutError", done.stdout, re.MULTILINE)
