"""One event, one line: format, quoting, secrets, verbosity, rate limits."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpoverlay import log as log_module
from udpoverlay.log import RateLimited, get_logger, parse_backtrace_at, parse_vmodule, render

HEADER = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} {1,7}\d+ test_log\.py:\d+\] ")


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log_module.configure(stream=stream)
    yield stream
    log_module.configure()


def lines(out: io.StringIO) -> list[str]:
    """Return what was logged, without headers."""
    return [HEADER.sub("", line, count=1) for line in out.getvalue().splitlines()]


def test_a_line_has_klogs_header_and_fields(out: io.StringIO) -> None:
    get_logger("m").warning("lease lost", subnet="10.5.52.0/24", tries=3, ours=True, why=None)
    (line,) = out.getvalue().splitlines()
    assert HEADER.match(line)
    assert line.startswith("W")
    assert f" {os.getpid():7} " in line
    assert line.endswith("] lease lost subnet=10.5.52.0/24 tries=3 ours=true why=none")


def test_values_that_are_no_plain_words_are_quoted(out: io.StringIO) -> None:
    get_logger("m").info("e", a="two words", b="", c='q"b\\', d="x=y", e=["1", 2], f=0.25)
    assert lines(out) == ['e a="two words" b="" c="q\\"b\\\\" d="x=y" e=1,2 f=0.25']


@given(st.text(), st.text())
def test_no_value_can_forge_a_line_or_drive_a_terminal(event: str, value: str) -> None:
    stream = io.StringIO()
    log_module.configure(stream=stream)
    try:
        get_logger("m").info(event, value=value)
    finally:
        log_module.configure()
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text[:-1].isprintable()


def test_a_huge_value_is_cut(out: io.StringIO) -> None:
    get_logger("m").info("e", value="x" * 100_000)
    assert len(out.getvalue()) < 1200
    assert "(+99000)" in out.getvalue()


def test_secrets_never_appear() -> None:
    fields = {"etcd_password": "hunter2", "bearer_token": "hunter2", "url": "http://u:hunter2@h:1/"}
    text = render(fields)
    assert "hunter2" not in text
    assert text == " etcd_password=*** bearer_token=*** url=http://***@h:1/"
    assert render({"etcd_password": ""}) == ' etcd_password=""'
    assert render({"etcd_endpoints": "http://u:p/w@h:1"}) == " etcd_endpoints=http://***@h:1"


def test_other_libraries_get_the_same_format(out: io.StringIO) -> None:
    logging.getLogger("some.library").error("broken\nhttp://u:hunter2@h/ %s", "x")
    assert lines(out) == ["broken\\nhttp://***@h/ x"]


def test_an_unexpected_exception_is_still_one_line(out: io.StringIO) -> None:
    try:
        raise RuntimeError("gone\nwrong")
    except RuntimeError as error:
        get_logger("m").exception("task failed", error=error, task="watch")
    (line,) = lines(out)
    assert line.startswith(
        'task failed task=watch error="RuntimeError: gone\\nwrong" traceback="Traceback'
    )
    assert "gone\\nwrong" in line


def test_detail_is_silent_unless_asked_for(out: io.StringIO) -> None:
    log_module.configure(verbosity=2, stream=out)
    log = get_logger("udpoverlay.registry.etcd.registry")
    log.v(2).info("wanted")
    log.v(3).info("not wanted")
    assert log.v(2)
    assert not log.v(3)
    assert lines(out) == ["wanted"]


def test_vmodule_raises_the_detail_of_matching_modules(out: io.StringIO) -> None:
    log_module.configure(vmodule="watch=4,kubernetes/*=1,", stream=out)
    assert get_logger("udpoverlay.registry.etcd.watch").v(4)
    assert not get_logger("udpoverlay.registry.etcd.client").v(1)
    assert get_logger("udpoverlay.kubernetes.client").v(1)
    assert not get_logger("udpoverlay.kubernetes.client").v(2)
    assert not get_logger("udpoverlay.control").v(1)


@pytest.mark.parametrize("text", ["etcd", "etcd=", "=1", "etcd=x", "etcd=-1", "etcd=1=2", "a=²"])
def test_a_malformed_vmodule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="filename=N"):
        parse_vmodule(text)


@pytest.mark.parametrize("text", ["x", "x:1", "x.py", "x.py:0", "x.py:-1", "x.py:1:2", ":3"])
def test_a_malformed_backtrace_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"file\.py:234"):
        parse_backtrace_at(text)


def test_a_place_can_be_asked_for_its_call_stack(out: io.StringIO) -> None:
    log = get_logger("m")

    def here() -> None:
        log.info("here")

    line = here.__code__.co_firstlineno + 1
    log_module.configure(backtrace_at=f"test_log.py:{line}", stream=out)
    here()
    log.info("elsewhere")
    first, second = lines(out)
    assert first.startswith(f'here backtrace="test_log.py:{line}:here < test_log.py:')
    assert second == "elsewhere"


def test_a_lost_stream_does_not_stop_the_program() -> None:
    stream = io.StringIO()
    log_module.configure(stream=stream)
    stream.close()
    try:
        get_logger("m").info("not heard")
    finally:
        log_module.configure()


def test_a_record_that_cannot_be_written_does_not_stop_the_program(out: io.StringIO) -> None:
    handlers = logging.getLogger().handlers
    ours = next(one for one in handlers if type(one).__module__.startswith(log_module.__name__))
    ours.handle(logging.makeLogRecord({"msg": "%d files", "args": ("no number",)}))
    assert "unprintable record: TypeError" in out.getvalue()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_key_writes_its_lines_a_minute_then_one_summary(out: io.StringIO) -> None:
    clock = Clock()
    limited = RateLimited(get_logger("m"), clock, per_minute=2)
    for n in range(5):
        limited.warning("compacted", "watch compacted", n=n)
    limited.info("other", "other key")
    clock.now += 60
    limited.warning("compacted", "watch compacted", n=5)
    assert lines(out) == [
        "watch compacted n=0",
        "watch compacted n=1",
        "other key",
        "similar lines held back key=compacted suppressed=3",
        "watch compacted n=5",
    ]


def test_flush_sums_up_keys_that_fell_silent(out: io.StringIO) -> None:
    clock = Clock()
    limited = RateLimited(get_logger("m"), clock, per_minute=1)
    limited.error("k", "e")
    limited.error("k", "e")
    limited.flush()
    assert lines(out) == ["e"]
    clock.now += 61
    limited.flush()
    limited.flush()
    assert lines(out) == ["e", "similar lines held back key=k suppressed=1"]


def test_keys_from_outside_cannot_fill_memory(out: io.StringIO) -> None:
    limited = RateLimited(get_logger("m"), Clock(), per_minute=1)
    limited.info("victim", "e")
    limited.info("victim", "e")
    for n in range(RateLimited.MAX_KEYS):
        limited.info(f"key {n}", "e")
    assert "similar lines held back key=victim suppressed=1" in lines(out)
