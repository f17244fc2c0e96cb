"""log/writer.py: a reader that does not read costs lines, never time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import pytest

from udpoverlay.log.writer import Writer

LINE = "x" * 99 + "\n"
SECONDS = 30.0


def lost_line(lines: int) -> str:
    return f"lost {lines}\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's reading and writing end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def everything(fd: int, until: str) -> str:
    """What comes through a pipe up to a line."""
    data = b""
    while not data.endswith(until.encode()):
        data += os.read(fd, 65536)
    return data.decode()


def stuck(pipe: tuple[int, int]) -> Writer:
    """A writer on a full pipe that holds 100 lines and lost one."""
    os.set_blocking(pipe[1], False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe[1], b"." * 4096)
    os.set_blocking(pipe[1], True)
    writer = Writer(pipe[1], lost_line, queue_bytes=100 * len(LINE))
    for _ in range(101):
        writer.write(LINE)
    assert writer.lost == 1
    return writer


def test_lines_come_in_order(pipe: tuple[int, int]) -> None:
    writer = Writer(pipe[1], lost_line)
    for number in range(100):
        writer.write(f"{number}\n")
    assert writer.flush(SECONDS)
    assert everything(pipe[0], "99\n").split() == [str(number) for number in range(100)]


def test_a_full_pipe_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    writer = stuck(pipe)
    started = time.monotonic()
    for _ in range(10_000):
        writer.write(LINE)
    assert not writer.flush(0.01)
    assert time.monotonic() - started < SECONDS
    assert writer.lost == 10_001


def test_lost_lines_are_told_where_they_are_missing(pipe: tuple[int, int]) -> None:
    writer = stuck(pipe)
    writer.write(LINE)
    text = os.read(pipe[0], 1 << 15).decode()  # it flows again, a little
    before = -1
    while before != writer.lost:
        before = writer.lost
        writer.write("after\n")
    text += everything(pipe[0], "after\n")
    assert text.lstrip(".") == f"{LINE * 100}lost {before}\nafter\n"


def test_lost_lines_are_told_without_another_line(pipe: tuple[int, int]) -> None:
    stuck(pipe)
    assert everything(pipe[0], "lost 1\n").lstrip(".") == f"{LINE * 100}lost 1\n"


def test_a_descriptor_that_refuses_loses_and_recovers(pipe: tuple[int, int]) -> None:
    fd = os.dup(pipe[1])
    os.close(fd)
    writer = Writer(fd, lost_line)
    for _ in range(3):
        writer.write(LINE)
    assert writer.flush(SECONDS)
    assert writer.lost == 3
    os.dup2(pipe[1], fd)
    try:
        writer.write("back\n")
        assert everything(pipe[0], "back\n") == "lost 3\nback\n"
    finally:
        os.close(fd)


def test_a_non_blocking_descriptor_loses_nothing(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    writer = Writer(pipe[1], lost_line)
    for _ in range(1000):  # more than the pipe holds
        writer.write(LINE)
    writer.write("end\n")
    assert everything(pipe[0], "end\n") == LINE * 1000 + "end\n"
    assert writer.lost == 0


def test_close_writes_what_is_queued(pipe: tuple[int, int]) -> None:
    writer = Writer(pipe[1], lost_line)
    writer.write("last\n")
    writer.close()
    assert everything(pipe[0], "last\n") == "last\n"
