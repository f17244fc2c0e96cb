"""log/limits.py: what is waited for is told regularly."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from udpoverlay import log as log_module
from udpoverlay.log import Waiting, get_logger


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log_module.configure(stream=stream)
    yield stream
    log_module.configure()


def told(out: io.StringIO) -> list[str]:
    return [line.partition("] ")[2] for line in out.getvalue().splitlines()]


def wait(out: io.StringIO, seconds: int, *reasons: str) -> list[str]:
    """What is told when an attempt fails each second, with these reasons in turn."""
    now = 0.0
    waiting = Waiting(get_logger("m"), lambda: now, "waiting for etcd")
    for second in range(seconds):
        now = float(second)
        waiting.still(reasons[second % len(reasons)])
    return told(out)


def test_wait_is_told_at_once_and_every_ten_seconds(out: io.StringIO) -> None:
    assert wait(out, 35, "refused") == [
        f"waiting for etcd waited_seconds={seconds} reason=refused" for seconds in (0, 10, 20, 30)
    ]


def test_new_reason_is_told_at_once(out: io.StringIO) -> None:
    assert wait(out, 3, "refused", "refused", "no key") == [
        "waiting for etcd waited_seconds=0 reason=refused",
        'waiting for etcd waited_seconds=2 reason="no key"',
    ]


def test_reasons_that_always_differ_do_not_pile_up(out: io.StringIO) -> None:
    assert len(wait(out, 600, *map(str, range(600)))) == 60 * Waiting.MOST_REASONS
