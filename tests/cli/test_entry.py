"""cli/entry.py: signals and descriptors before anything else, and the end of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SECONDS = 60.0
PROGRAM = [
    sys.executable,
    "-c",
    "import sys; from udpoverlay.cli.entry import udpoverlayd; sys.exit(udpoverlayd())",
]
READY = "import time; entry._begin(); print('ready', flush=True); time.sleep(3600)"


@contextmanager
def running(body: str = READY, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A process whose first act is `_begin`; it has printed its first line."""
    script = f"from udpoverlay.cli import entry\n{body}\n"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]  # passed through unchanged
    ) as process:
        try:
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_before_anything_began_exits_0(number: int) -> None:
    with running() as process:
        process.send_signal(number)
        assert process.wait(SECONDS) == 0


def test_signals_are_safe_before_anything_is_loaded() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "from udpoverlay.cli import entry; entry._begin()\n"
        "print(len(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert int(done.stdout) < 20


@pytest.mark.parametrize(
    "name", ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGXCPU"]
)
def test_signals_that_flanneld_ignores_are_ignored(name: str) -> None:
    with running() as process:
        process.send_signal(signal.Signals[name])
        time.sleep(0.05)
        assert process.poll() is None


def test_sighup_kills_as_it_kills_flanneld() -> None:
    with running() as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(SECONDS) == -signal.SIGHUP


def test_nohup_is_honoured() -> None:
    with running(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


def test_sigquit_shows_every_stack_and_exits_2() -> None:
    body = (
        "entry._begin()\n"
        "import asyncio\n"
        "from udpoverlay import log, loop\n"
        "log.configure()\n"
        "async def idle():\n"
        "    await asyncio.sleep(3600)\n"
        "async def program(unwinding):\n"
        "    task = asyncio.ensure_future(idle())\n"
        "    print('ready', flush=True)\n"
        "    await task\n"
        "loop.run_until_signal(program, print)\n"
    )
    with running(body) as process:
        process.send_signal(signal.SIGQUIT)
        _, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 2
    assert err.startswith("SIGQUIT: quit\n")
    assert "thread MainThread:" in err
    assert "in idle" in err


def close_0_and_2() -> None:
    os.close(0)
    os.close(2)


def test_closed_descriptors_are_filled() -> None:
    """Else the first socket is number 2, and the log goes into it."""
    body = (
        "import os, sys; entry._begin(); "
        "print('ready', flush=True); "
        "print([os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 2)], flush=True); "
        "sys.stderr.write('unheard'); sys.stderr.flush()"
    )
    with running(body, preexec_fn=close_0_and_2) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "['/dev/null', '/dev/null']\n"
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("words", [["-version"], ["-h"], ["--subnet-lease-renew-margin=0"], ["-x"]])
def test_closed_standard_error_changes_no_exit_code(words: list[str]) -> None:
    statuses = {
        subprocess.run(
            [*PROGRAM, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=SECONDS,
            preexec_fn=(lambda: os.close(2)) if closed else None,
        ).returncode
        for closed in (False, True)
    }
    assert len(statuses) == 1


def test_thread_that_never_ends_does_not_delay_the_end() -> None:
    body = (
        "import threading; entry._begin(); print('ready', flush=True); "
        "threading.Thread(target=threading.Event().wait).start(); entry._end(5)"
    )
    with running(body) as process:
        assert process.wait(SECONDS) == 5


def test_what_was_printed_is_not_lost() -> None:
    body = "entry._begin(); print('first', flush=True); print('last'); entry._end(0)"
    with running(body) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "last\n"
