"""web/server.py: who gets in, what a browser is told, and what odd daemons lead to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.admin import documents
from tests.support.pumprig import send_recorded as send
from tests.support.records import ORIGIN
from udpoverlay.dataplane.recorder import Recorder
from udpoverlay.errors import OperatorError
from udpoverlay.observe.admin import AdminServer
from udpoverlay.observe.trace import Traces
from udpoverlay.web.hosts import Daemon
from udpoverlay.web.server import MOST_A_SECOND, serving


class Answer:
    def __init__(self, status: int, headers: dict[str, str], reader: asyncio.StreamReader) -> None:
        self.status, self.headers, self.reader = status, headers, reader

    async def body(self) -> bytes:
        return await self.reader.readexactly(int(self.headers["content-length"]))

    async def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.body())
        return found

    async def line(self) -> dict[str, Any]:
        """The next object of a stream."""
        while True:
            text = await self.reader.readline()
            assert text, "the stream ended"
            if text.startswith(b"{"):
                found: dict[str, Any] = json.loads(text)
                return found


class Site:
    """The page, asked as a browser or a stranger would."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.port is not None
        self.port, self.token = parts.port, parts.path.strip("/")
        self._writers: list[asyncio.StreamWriter] = []

    async def ask(
        self, name: str = "", *, path: str = "", host: str = "", method: str = "GET"
    ) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        self._writers.append(writer)
        path = path or f"/{self.token}/{name}"
        host = host or f"127.0.0.1:{self.port}"
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        status = int((await reader.readline()).split()[1])
        headers = {}
        while (line := await reader.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return Answer(status, headers, reader)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def page(*paths: Path) -> AsyncIterator[Site]:
    async with serving([Daemon(str(path)) for path in paths]) as url:
        site = Site(url)
        try:
            yield site
        finally:
            site.close()


@asynccontextmanager
async def a_daemon(path: Path, recorder: Recorder | None = None) -> AsyncIterator[dict[str, Any]]:
    known: dict[str, Any] = documents()
    served = {url: lambda url=url: known[url] for url in known}
    streams = Traces(recorder, lambda: ORIGIN).by_path()
    server = AdminServer(str(path), served, streams=streams)
    await server.start()
    try:
        yield known
    finally:
        await server.stop()


@pytest.mark.parametrize("name", ["", "main.js", "page.css", "live", "packets", "packet?key=1"])
async def test_nothing_is_shown_without_the_whole_token(tmp_path: Path, name: str) -> None:
    async with page(tmp_path / "none") as site:
        wrong = (site.token[:-1], site.token + "x", "", "x", "%00", site.token.swapcase(), "ä")
        for token in wrong:
            answer = await site.ask(path=f"/{token}/{name}")
            assert answer.status in {403, 400}, token
            assert b"token" not in await answer.body()
        assert (await site.ask(path=f"/{site.token}")).status == 403  # not even a redirect


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "[::1]:{port}"]
)
async def test_name_that_leads_here_is_refused(tmp_path: Path, host: str) -> None:
    async with page(tmp_path / "none") as site:
        assert (await site.ask(host=host.format(port=site.port))).status == 403
        assert (await site.ask(host=f"localhost:{site.port}")).status == 200


@pytest.mark.parametrize("name", ["", "main.js", "page.css", "live", "nosuch", "packet?key=7"])
async def test_browser_is_told_to_trust_nothing_else(tmp_path: Path, name: str) -> None:
    async with page(tmp_path / "none") as site:
        headers = (await site.ask(name)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_page_changes_nothing(tmp_path: Path, method: str) -> None:
    async with page(tmp_path / "none") as site:
        assert (await site.ask(method=method)).status == 405


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("nosuch", 404, "Not Found"),
        ("../server.py", 404, "Not Found"),
        ("packets?filter=prot", 400, "did you mean proto?"),
        ("packets?filter", 400, "no query"),
        ("packets?" + "&".join(f"a{n}=1" for n in range(9)), 400, "no query"),
        ("packet", 404, "no longer held"),
        ("packet?key=-1", 404, "no longer held"),
        ("packet?key=" + "9" * 400, 404, "no longer held"),
        ("packet?key=%F0%9D%9F%99", 404, "no longer held"),
    ],
)
async def test_odd_question_gets_an_error_with_its_reason(
    tmp_path: Path, name: str, status: int, words: str
) -> None:
    async with page(tmp_path / "none") as site:
        answer = await site.ask(name)
        assert (answer.status, words in (await answer.document())["error"]) == (status, True)


async def test_daemon_that_is_gone_is_said_so_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with page(path) as site:
        live = await site.ask("live")
        while "no daemon on this host" not in (found := await live.line())["hosts"][0]["error"]:
            assert found["hosts"][0]["error"] == "not asked yet"
        async with a_daemon(path):
            while (found := await live.line())["hosts"][0]["error"]:
                pass
            assert found["hosts"][0]["public_ip"] == "192.0.2.1"
        while not (found := await live.line())["hosts"][0]["error"]:
            pass
        assert found["hosts"][0]["name"] == "192.0.2.1"  # still known by its address


@pytest.mark.parametrize(
    "status",
    [{"schema": 1}, {"schema": 9}, {"schema": 1, "node": []}, {"schema": 1, "uptime_seconds": "x"}],
)
async def test_odd_document_of_one_daemon_leaves_the_others_alone(
    tmp_path: Path, status: dict[str, Any]
) -> None:
    odd, sound = tmp_path / "odd", tmp_path / "sound"
    async with a_daemon(odd) as known, a_daemon(sound), page(odd, sound) as site:
        known["/v1/status"] = status
        live = await site.ask("live")
        while True:
            one, other = (await live.line())["hosts"]
            if "version" in one["error"] and not other["error"]:
                return


async def test_packets_come_with_a_key_that_opens_one(tmp_path: Path) -> None:
    recorder = Recorder(1, 64)
    async with a_daemon(tmp_path / "s", recorder), page(tmp_path / "s") as site:
        stream = await site.ask("packets?filter=drops")
        rows: list[dict[str, Any]] = []
        while not rows:
            send(recorder, 1, "10.5.200.1")  # no peer has it
            send(recorder, 1)
            rows = (await stream.line())["packets"]
        assert {row["verdict"] for row in rows} == {"outbound_no_route"}
        answer = await site.ask(f"packet?key={rows[0]['key']}")
        found = await answer.document()
        assert [step["state"] for step in found["way"]] == ["stopped"] + 3 * ["not reached"]
        assert found["layers"][0]["kind"] == "inner"
        assert bytes.fromhex(found["data"])[0] == 0x45


async def test_flood_is_shown_in_part_and_the_rest_is_counted(tmp_path: Path) -> None:
    recorder = Recorder(1, 4096)
    async with a_daemon(tmp_path / "s", recorder), page(tmp_path / "s") as site:
        stream = await site.ask("packets")
        while not (await stream.line())["packets"]:
            send(recorder, 1)
        send(recorder, 3 * MOST_A_SECOND)
        shown = skipped = 0
        while shown + skipped < 3 * MOST_A_SECOND:
            found = await stream.line()
            shown += len(found["packets"])
            skipped += found["skipped"]
        assert shown <= 2 * MOST_A_SECOND
        assert skipped >= MOST_A_SECOND


async def test_reader_that_goes_frees_its_stream_at_the_daemon(tmp_path: Path) -> None:
    recorder = Recorder(1, 64)
    async with a_daemon(tmp_path / "s", recorder), page(tmp_path / "s") as site:
        for _ in range(6):  # a daemon has room for four
            stream = await site.ask("packets")
            while not (await stream.line())["packets"]:
                send(recorder, 1)
            site.close()


async def test_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with page(tmp_path / "none") as site:
        with pytest.raises(OperatorError, match=f"127.0.0.1:{site.port}.*--port"):
            async with serving([], site.port):
                pass


async def test_defect_of_ours_is_logged_without_the_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own line of a defect has the path, which begins with the token."""

    def broken(_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("udpoverlay.web.server._query", broken)
    async with page(tmp_path / "none") as site:
        assert (await site.ask("packet?key=1")).status == 500
        [record] = [each for each in caplog.records if "internal error" in each.getMessage()]
        assert site.token not in f"{caplog.text}{record.__dict__}"
