"""daemon.py and signals: what ends it, and what a second one does."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# --- signals -----------------------------------------------------------------------------------


def signalled(body: str, *signals: int) -> int:
    """Exit status of a process whose daemon is `body`; each line "next" it prints gets a signal."""
    script = (
        "import asyncio, sys\n"
        "from udpoverlay import daemon\n"
        "daemon.CANCEL_AGAIN_SECONDS = 0.05\n"
        "class Fake:\n"
        "    unwinding = False\n"
        "    async def run(self):\n"
        f"{body}\n"
        "sys.exit(asyncio.run(daemon._until_signal(Fake())))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for number in signals:
                assert process.stdout.readline() == b"next\n"
                process.send_signal(number)
            return process.wait(60)
        finally:
            process.kill()


ENDLESS_UNDOING = """
        try:
            print('next', flush=True)
            await asyncio.sleep(3600)
        finally:
            self.unwinding = True
            print('next', flush=True)
            await asyncio.sleep(3600)
"""
DEAF_ONCE = """
        try:
            print('next', flush=True)
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
        await asyncio.sleep(3600)
"""
UNDOING = """
        try:
            print('next', flush=True)
            await asyncio.sleep(3600)
        finally:
            self.unwinding = True
            await asyncio.sleep(2 * daemon.CANCEL_AGAIN_SECONDS)
            print('undone', flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_0(number: int) -> None:
    assert signalled(UNDOING, number) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_kills(number: int) -> None:
    assert signalled(ENDLESS_UNDOING, signal.SIGTERM, number) == -number


def test_a_library_that_swallows_a_cancellation_cannot_keep_it_alive() -> None:
    assert signalled(DEAF_ONCE, signal.SIGTERM) == 0


def test_sighup_kills_as_it_kills_flanneld() -> None:
    assert signalled(ENDLESS_UNDOING, signal.SIGHUP) == -signal.SIGHUP
