"""observe/trace.py on a real admin socket and real rings: streams, and what hostile readers get."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.aio import until
from tests.support.pumprig import send_recorded as send
from tests.support.records import ORIGIN
from udpoverlay.dataplane.recorder import Recorder
from udpoverlay.observe.admin import AdminServer
from udpoverlay.observe.http import Limits
from udpoverlay.observe.trace import MOST_STREAMS, Traces
from udpoverlay.trace.message import record_of

ELSEWHERE = "10.5.200.1"
"""No peer has it."""
SECONDS = 20.0


@pytest.fixture(autouse=True)
def tells_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a reader that has gone is noticed soon."""
    monkeypatch.setattr("udpoverlay.observe.trace._TELL_SECONDS", 0.05)


@asynccontextmanager
async def serving(
    path: Path, recorder: Recorder | None, limits: Limits | None = None
) -> AsyncIterator[AdminServer]:
    streams = Traces(recorder, lambda: ORIGIN).by_path()
    server = AdminServer(str(path), {"/v1/status": lambda: {"schema": 1}}, limits, streams=streams)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class Reader:
    """One client of a stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.status = 0

    async def line(self) -> dict[str, Any] | None:
        """The next object; None at the end."""
        while text := await self.reader.readline():
            if text.startswith(b"{"):
                found: dict[str, Any] = json.loads(text)
                return found
        return None

    async def until_record(self) -> dict[str, Any]:
        while (found := await self.line()) is not None:
            if "verdict" in found:
                return found
        raise AssertionError("the stream ended")


@asynccontextmanager
async def asking(path: Path, url: str) -> AsyncIterator[Reader]:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 20)
    try:
        writer.write(f"GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        found = Reader(reader, writer)
        found.status = int((await reader.readline()).split()[1])
        while await reader.readline() != b"\r\n":
            pass
        yield found
    finally:
        writer.close()


async def all_of(path: Path, url: str) -> tuple[int, list[dict[str, Any]]]:
    async with asking(path, url) as reader:
        found = []
        if reader.status != 200:
            body = await reader.reader.readuntil(b"}")
            return reader.status, [json.loads(body)]
        while (line := await reader.line()) is not None:
            found.append(line)
        return reader.status, found


async def test_dump_has_what_the_rings_hold_and_says_that_it_is_whole(tmp_path: Path) -> None:
    recorder = Recorder(1, 64)
    send(recorder, 3)
    send(recorder, 1, ELSEWHERE)
    async with serving(tmp_path / "s", recorder):
        status, found = await all_of(tmp_path / "s", "/v1/records")
        assert status == 200
        head, *lines, last = found
        assert (head["schema"], head["origin"]["address"]) == (1, ORIGIN.address)
        records = [record_of(line) for line in lines if "verdict" in line]
        held = [each._replace(time_ns=0) for each in recorder.read().records]
        assert sorted(each._replace(time_ns=0) for each in records) == sorted(held)
        assert last == {"seen": 4, "matched": 4, "skipped": 0, "lost": 0, "end": True}


async def test_dump_takes_a_filter_and_a_time(tmp_path: Path) -> None:
    recorder = Recorder(1, 64)
    send(recorder, 3)
    send(recorder, 1, ELSEWHERE)
    async with serving(tmp_path / "s", recorder):
        _, found = await all_of(tmp_path / "s", f"/v1/records?filter={quote('drops and udp')}")
        assert [line["verdict"] for line in found if "verdict" in line] == ["outbound_no_route"]
        await asyncio.sleep(0.02)  # they are older than what is asked for
        _, found = await all_of(tmp_path / "s", "/v1/records?since=0.001")
        assert [line for line in found if "verdict" in line] == []
        _, found = await all_of(tmp_path / "s", "/v1/records?since=60")
        assert found[-1]["matched"] == 4


async def test_trace_begins_now_and_shows_what_comes(tmp_path: Path) -> None:
    recorder = Recorder(1, 64)
    send(recorder, 5)
    async with (
        serving(tmp_path / "s", recorder),
        asking(tmp_path / "s", "/v1/trace?filter=drops") as reader,
    ):
        head = await reader.line()
        assert head is not None
        send(recorder, 2)
        send(recorder, 1, ELSEWHERE)
        assert (await reader.until_record())["verdict"] == "outbound_no_route"


async def test_trace_with_a_limit_counts_what_it_leaves_out(tmp_path: Path) -> None:
    recorder = Recorder(1, 64)
    async with (
        serving(tmp_path / "s", recorder),
        asking(tmp_path / "s", "/v1/trace?most=5&filter=udp") as reader,
    ):
        assert await reader.line() is not None
        send(recorder, 40)
        records, counts = 0, {"matched": 0}
        while counts["matched"] < 40 or records < 5:
            found = await reader.line()
            assert found is not None
            records += "verdict" in found
            counts = counts if "verdict" in found else found
        assert (records, counts["skipped"], counts["lost"]) == (5, 35, 0)
        found = None
        while not found or "verdict" not in found:  # in the next second
            send(recorder, 1)
            found = await reader.line()


async def test_trace_of_each_packet_asks_for_it_while_it_lasts(tmp_path: Path) -> None:
    recorder = Recorder(1, 64)
    async with serving(tmp_path / "s", recorder):
        async with asking(tmp_path / "s", "/v1/trace"), asking(tmp_path / "s", "/v1/trace?each=1"):
            assert recorder.rings.each
        await until(lambda: not recorder.rings.each)


async def test_reader_that_is_slow_loses_records_and_is_told(tmp_path: Path) -> None:
    recorder = Recorder(1, 64)
    async with (
        serving(tmp_path / "s", recorder),
        asking(tmp_path / "s", "/v1/trace") as reader,
    ):
        assert await reader.line() is not None
        send(recorder, 300)  # in one turn of the loop: the rings hold 64
        lost = 0
        while lost == 0:
            found = await reader.line()
            assert found is not None
            lost = found.get("lost", 0)
        assert lost > 200


async def test_reader_that_takes_nothing_is_left_and_others_are_served(tmp_path: Path) -> None:
    recorder = Recorder(1, 4096)
    send(recorder, 2000)
    limits = Limits(response_seconds=0.3)
    async with serving(tmp_path / "s", recorder, limits):
        readers = [
            await asyncio.open_unix_connection(str(tmp_path / "s"), limit=1)
            for _ in range(MOST_STREAMS)
        ]
        for _, writer in readers:
            writer.write(b"GET /v1/records HTTP/1.1\r\nHost: x\r\n\r\n")
        while True:
            status, _ = await all_of(tmp_path / "s", "/v1/records?filter=drops")
            assert (await all_of(tmp_path / "s", "/v1/status"))[0] == 200
            if status == 200:
                break
            assert status == 503
            await asyncio.sleep(0.02)
        for _, writer in readers:
            writer.close()


async def test_streams_at_once_are_few_and_their_end_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serving(path, Recorder(1, 64)):
        opened = [asking(path, "/v1/trace") for _ in range(MOST_STREAMS)]
        for each in opened:
            assert (await each.__aenter__()).status == 200
        status, [refusal] = await all_of(path, "/v1/trace")
        assert (status, refusal["error"][:18]) == (503, "4 streams are open")
        await opened.pop().__aexit__(None, None, None)
        statuses = [503]
        while statuses[-1] != 200:
            statuses.append((await all_of(path, "/v1/records"))[0])
        assert set(statuses) == {200, 503}
        for each in opened:
            await each.__aexit__(None, None, None)


async def test_stopping_ends_a_trace_at_once(tmp_path: Path) -> None:
    limits = Limits(stop_seconds=SECONDS)  # which answers may take
    async with (
        serving(tmp_path / "s", Recorder(1, 64), limits) as server,
        asking(tmp_path / "s", "/v1/trace") as reader,
    ):
        started = time.monotonic()
        await server.stop()
        while await reader.line() is not None:
            pass
        assert time.monotonic() - started < SECONDS / 2


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("/v1/trace?filter=prot", 400, "column 1"),
        ("/v1/trace?filter=" + "(" * 100, 400, "parentheses in each other"),
        ("/v1/trace?filter=" + "a" * 3000, 400, "2,048 may be"),
        ("/v1/trace?filter=" + "a" * 20000, 431, ""),
        ("/v1/trace?filter=%FF", 400, "no query"),
        ("/v1/trace?filter", 400, "no query"),
        ("/v1/trace?filter=drops&filter=udp", 400, "once"),
        ("/v1/trace?" + "&".join(f"a{n}=1" for n in range(20)), 400, "no query"),
        ("/v1/trace?since=5", 400, "unknown parameter"),
        ("/v1/trace?each=2", 400, "each is 0 or 1"),
        ("/v1/trace?most=0", 400, "most is a number of records"),
        ("/v1/trace?most=1e3", 400, "most is a number of records"),
        ("/v1/records?most=1", 400, "unknown parameter"),
        ("/v1/records?since=-1", 400, "number of seconds"),
        ("/v1/records?since=nan", 400, "number of seconds"),
        ("/v1/records?since=1e300", 400, "number of seconds"),
        ("/v1/records?each=1", 400, "unknown parameter"),
    ],
)
async def test_hostile_request_is_refused_with_its_reason(
    tmp_path: Path, url: str, status: int, words: str
) -> None:
    async with serving(tmp_path / "s", Recorder(1, 64)):
        found, [refusal] = await all_of(tmp_path / "s", url)
        assert (found, words in refusal["error"]) == (status, True), refusal


async def test_daemon_without_a_recorder_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", None):
        status, [refusal] = await all_of(tmp_path / "s", "/v1/trace")
        assert status == 409
        assert "--flight-recorder=0" in refusal["error"]
