"""loop.py: what signals do to a program, and look-ups of names that nothing waits for."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from udpoverlay.loop import Loop, run, run_until_signal, stacks

SECONDS = 30.0


def signalled(body: str, *signals: int) -> int:
    """Exit status of the program `body`; each line "next" that it prints gets a signal."""
    script = (
        "import asyncio, sys\n"
        "from udpoverlay import loop\n"
        "loop.CANCEL_AGAIN_SECONDS = 0.05\n"
        "async def program(unwinding):\n"
        f"{body}\n"
        "sys.exit(loop.run_until_signal(program, print))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for number in signals:
                while process.stdout.readline() != b"next\n":
                    assert process.poll() is None
                process.send_signal(number)
            return process.wait(60)
        finally:
            process.kill()


ENDLESS_UNDOING = """
    try:
        print('next', flush=True)
        await asyncio.sleep(3600)
    finally:
        unwinding.set()
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
        unwinding.set()
        await asyncio.sleep(2 * loop.CANCEL_AGAIN_SECONDS)
        print('undone', flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_with_0(number: int) -> None:
    assert signalled(UNDOING, number) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_kills(number: int) -> None:
    assert signalled(ENDLESS_UNDOING, signal.SIGTERM, number) == -number


def test_swallowed_cancellation_is_repeated() -> None:
    assert signalled(DEAF_ONCE, signal.SIGTERM) == 0


def test_end_of_the_program_restores_signals() -> None:
    async def program(_: asyncio.Event) -> int:
        return 3

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run_until_signal(program, print) == 3
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# --- names ---------------------------------------------------------------------------------------

NameServer = Callable[..., list[Any]]


@pytest.fixture
def dead_name_server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """getaddrinfo that does not answer until the test ends; yields the names it was asked."""
    asked: list[str] = []
    over = threading.Event()

    def getaddrinfo(host: str, *_: Any) -> list[Any]:
        asked.append(host)
        over.wait(SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked
    over.set()


def on_loop(scenario: Callable[[], Any]) -> None:
    async def program(_: asyncio.Event) -> int:
        await scenario()
        return 0

    assert run_until_signal(program, print) == 0


async def given_up(connecting: asyncio.Future[Any]) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(connecting, 0.1)


def test_dead_name_server_does_not_delay_the_end(dead_name_server: list[str]) -> None:
    async def scenario() -> None:
        await given_up(asyncio.ensure_future(asyncio.open_connection("etcd.invalid", 2379)))

    began = time.monotonic()
    on_loop(scenario)
    assert time.monotonic() - began < SECONDS / 2
    assert dead_name_server == ["etcd.invalid"]


def test_dead_name_server_has_one_thread_a_name(dead_name_server: list[str]) -> None:
    async def scenario() -> None:
        for _ in range(5):
            await given_up(asyncio.ensure_future(asyncio.open_connection("etcd.invalid", 2379)))

    on_loop(scenario)
    assert dead_name_server == ["etcd.invalid"]


def test_name_without_address_is_an_error() -> None:
    async def scenario() -> None:
        for name in ("", "etcd" * 100):
            with pytest.raises(socket.gaierror):
                await asyncio.open_connection(name, 1)

    on_loop(scenario)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_second_address_is_tried(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def two(name: str, *question: Any) -> list[Any]:
        found = real(name, *question)
        refused = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.77", 1))
        return [refused, *found] if name == "localhost" else found

    monkeypatch.setattr(socket, "getaddrinfo", two)

    async def scenario() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            reader, writer = await asyncio.open_connection(host, port, family=socket.AF_INET)
            assert await reader.read() == b""
            writer.close()
        finally:
            server.close()

    on_loop(scenario)


def test_stacks_name_every_task() -> None:
    async def sleeper() -> None:
        await asyncio.sleep(3600)

    async def scenario() -> None:
        task = asyncio.ensure_future(sleeper())
        await asyncio.sleep(0)
        text = stacks()
        assert "in sleeper" in text
        assert "thread MainThread:" in text
        task.cancel()

    on_loop(scenario)


def test_loop_is_uvloops() -> None:
    loop = Loop()
    loop.close()
    assert "uvloop" in Loop.__mro__[1].__module__


def test_work_has_its_result_though_a_look_up_of_a_name_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hung, goes_on = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        hung.set()
        goes_on.wait(SECONDS)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def work() -> str:
        asking = asyncio.ensure_future(asyncio.get_running_loop().getaddrinfo("name.invalid", 2379))
        await asyncio.to_thread(hung.wait, SECONDS)
        asking.cancel()
        return "done"

    try:
        assert run(work()) == "done"
        assert not goes_on.is_set()
    finally:
        goes_on.set()
