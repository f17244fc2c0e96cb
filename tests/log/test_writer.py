"""log/writer.py: a reader that does not read costs lines, never time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from udpoverlay.log.writer import Writer

LINE = "x" * 99 + "\n"
SECONDS = 30.0


def lost_line(lines: int) -> str:
    return f"lost {lines}\n"


class Pipe:
    """A pipe, and the writer on it."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.writers: list[Writer] = []

    def writer(self, fd: int = -1, **options: Any) -> Writer:
        self.writers.append(Writer(self.writing if fd < 0 else fd, lost_line, **options))
        return self.writers[-1]

    def close(self) -> None:
        os.close(self.reading)
        for writer in self.writers:  # else its thread writes to the next file with that number
            assert writer.flush(SECONDS)
            writer.close()
        os.close(self.writing)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def everything(fd: int, until: str) -> str:
    """What comes through a pipe up to a line."""
    data = b""
    while not data.endswith(until.encode()):
        data += os.read(fd, 65536)
    return data.decode()


def stuck(pipe: Pipe) -> Writer:
    """A writer on a full pipe that holds 100 lines and lost one."""
    os.set_blocking(pipe.writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe.writing, b"." * 4096)
    os.set_blocking(pipe.writing, True)
    writer = pipe.writer(queue_bytes=100 * len(LINE))
    for _ in range(101):
        writer.write(LINE)
    assert writer.lost == 1
    return writer


def test_lines_come_in_order(pipe: Pipe) -> None:
    writer = pipe.writer()
    for number in range(100):
        writer.write(f"{number}\n")
    assert writer.flush(SECONDS)
    assert everything(pipe.reading, "99\n").split() == [str(number) for number in range(100)]


def test_renewed_writer_writes_in_order_with_another_thread(pipe: Pipe) -> None:
    writer = stuck(pipe)
    before = writer._thread
    for _ in range(3):
        writer.renew()
    text = ""
    while "lost 1\n" not in text:
        text += os.read(pipe.reading, 65536).decode()
    writer.write("after\n")
    text += everything(pipe.reading, "after\n")
    assert text.lstrip(".").splitlines(keepends=True) == [LINE] * 100 + ["lost 1\n", "after\n"]
    before.join(SECONDS)
    assert not before.is_alive()
    assert writer._thread.is_alive()


def test_a_full_pipe_costs_lines_and_no_time(pipe: Pipe) -> None:
    writer = stuck(pipe)
    started = time.monotonic()
    for _ in range(10_000):
        writer.write(LINE)
    assert not writer.flush(0.01)
    assert time.monotonic() - started < SECONDS
    assert writer.lost == 10_001


def test_lost_lines_are_told_where_they_are_missing(pipe: Pipe) -> None:
    writer = stuck(pipe)
    writer.write(LINE)
    text = os.read(pipe.reading, 1 << 15).decode()  # it flows again, a little
    before = -1
    while before != writer.lost:
        before = writer.lost
        writer.write("after\n")
    text += everything(pipe.reading, "after\n")
    assert text.lstrip(".") == f"{LINE * 100}lost {before}\nafter\n"


def test_lost_lines_are_told_without_another_line(pipe: Pipe) -> None:
    stuck(pipe)
    assert everything(pipe.reading, "lost 1\n").lstrip(".") == f"{LINE * 100}lost 1\n"


def test_a_descriptor_that_refuses_loses_and_recovers(pipe: Pipe) -> None:
    fd = os.dup(pipe.writing)
    os.close(fd)
    writer = pipe.writer(fd)
    for _ in range(3):
        writer.write(LINE)
    assert writer.flush(SECONDS)
    assert writer.lost == 3
    os.dup2(pipe.writing, fd)
    try:
        writer.write("back\n")
        assert everything(pipe.reading, "back\n") == "lost 3\nback\n"
    finally:
        os.close(fd)


def test_a_non_blocking_descriptor_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.writing, False)
    writer = pipe.writer()
    for _ in range(1000):  # more than the pipe holds
        writer.write(LINE)
    writer.write("end\n")
    assert not writer.flush(0.2)  # it waits for room
    assert everything(pipe.reading, "end\n") == LINE * 1000 + "end\n"
    assert writer.lost == 0


def test_close_writes_what_is_queued(pipe: Pipe) -> None:
    writer = pipe.writer()
    writer.write("last\n")
    writer.close()
    assert everything(pipe.reading, "last\n") == "last\n"
