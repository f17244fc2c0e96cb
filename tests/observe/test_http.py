"""observe/http.py on real sockets: what it answers, and what clients cannot do to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udpoverlay.observe.http import (
    HttpError,
    HttpServer,
    Limits,
    Request,
    Response,
    tcp_listener,
)

Run = Callable[[Coroutine[Any, Any, None]], None]
PATIENT = Limits(request_seconds=60.0, response_seconds=60.0, linger_seconds=60.0)
HASTY = Limits(request_seconds=0.1, response_seconds=0.1, linger_seconds=0.1)
BIG = 50_000_000
"""Bytes; more than any socket holds."""
SECONDS = 30.0


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


async def answer(request: Request) -> Response:
    if request.path == "/echo":
        return Response(200, request.body)
    if request.path == "/facts":
        return Response.json({"method": request.method, "query": request.query})
    if request.path == "/big":
        return Response(200, bytes(BIG))
    if request.path == "/slow":
        await asyncio.sleep(0.2)
        return Response.text(200, "late")
    if request.path == "/broken":
        raise RuntimeError("broken")
    raise HttpError(404, "Not Found")


@contextlib.asynccontextmanager
async def serving(limits: Limits = PATIENT) -> AsyncIterator[tuple[HttpServer, int]]:
    """A server on TCP; yields it and its port."""
    server = HttpServer(answer, limits=limits)
    listener = tcp_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server.listen(listener)
    try:
        yield server, port
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def response(reader: asyncio.StreamReader, *, body: bool = True) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length) if body else b""


async def ask(port: int, data: bytes) -> tuple[int, bytes]:
    async with client(port) as (reader, writer):
        writer.write(data)
        return await asyncio.wait_for(response(reader), SECONDS)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait until the server closes; whether it sent nothing before."""
    try:
        return await asyncio.wait_for(reader.read(), SECONDS) == b""
    except ConnectionResetError:
        return True


async def test_several_requests_over_one_connection(run: Run) -> None:
    async with serving() as (_, port), client(port) as (reader, writer):
        for _ in range(3):
            writer.write(get("/facts?a=b"))
            assert await response(reader) == (200, b'{"method": "GET", "query": "a=b"}')
        writer.write(get("/nowhere") + get("/facts"))  # both at once
        assert await response(reader) == (404, b"Not Found")
        assert (await response(reader))[0] == 200


async def test_unix_socket_names_the_user(run: Run, tmp_path: Path) -> None:
    async def user(request: Request) -> Response:
        return Response.text(200, str(request.uid))

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    server = HttpServer(user)
    server.listen(listener)
    try:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(get("/"))
        assert await response(reader) == (200, str(os.geteuid()).encode())
        writer.close()
    finally:
        await server.stop()


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
async def test_body_of_a_post(body: bytes) -> None:
    async with serving() as (_, port):
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
        assert await ask(port, head + body) == (200, b"hello")


async def test_body_that_waits_for_continue() -> None:
    async with serving() as (_, port), client(port) as (reader, writer):
        headers = b"Host: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        writer.write(b"POST /echo HTTP/1.1\r\n" + headers)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"ok")
        assert await response(reader) == (200, b"ok")


async def test_head_has_no_body() -> None:
    async with serving() as (_, port), client(port) as (reader, writer):
        writer.write(get("/facts").replace(b"GET", b"HEAD"))
        assert (await response(reader, body=False))[0] == 200
        writer.write(get("/facts"))
        assert (await response(reader))[0] == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"a" * 1_000_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: a\r\n" * 100_000 + b"\r\n", 431),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n" + b"a" * 999_999, 413),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01" + b"\xfc" * 200 + b"\r\n\r\n", 400),  # TLS
    ],
    ids=["long header", "many headers", "long body", "no host", "tls"],
)
async def test_wrong_request_is_told_so(request_: bytes, status: int) -> None:
    async with serving() as (_, port):
        assert (await ask(port, request_))[0] == status
        assert (await ask(port, get("/facts")))[0] == 200


async def test_client_that_still_sends_sees_why_it_is_refused() -> None:
    """Closing with bytes unread would reset the connection under its request."""

    def post(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
            head = f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {BIG}\r\n\r\n"
            client.sendall(head.encode() + bytes(BIG))
            return client.recv(64)

    async with serving() as (_, port):
        asked = asyncio.get_running_loop().run_in_executor(None, post, port)
        assert (await asked).startswith(b"HTTP/1.1 413")


async def test_defect_of_ours_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (_, port):
        assert await ask(port, get("/broken")) == (500, b"internal error")
        assert (await ask(port, get("/facts")))[0] == 200
    assert "internal error; please report it" in caplog.messages


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_half_open_requests_hold_nothing(run: Run) -> None:
    patient = Limits(connections=8, request_seconds=3600.0)
    async with serving(patient) as (server, port), contextlib.AsyncExitStack() as stack:
        for _ in range(130):
            _, writer = await stack.enter_async_context(client(port))
            writer.write(b"GET /facts HTTP/1.1\r\n")
        for _ in range(3):
            assert (await ask(port, get("/facts")))[0] == 200
        assert len(server._connections) <= 8


async def test_request_that_does_not_come_ends_the_connection(run: Run) -> None:
    async with serving(HASTY) as (_, port):
        for data in (
            b"",
            b"GET / HT",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
        ):
            async with client(port) as (reader, writer):
                writer.write(data)
                assert await ended(reader)


async def test_response_that_is_not_taken_ends_the_connection(run: Run) -> None:
    before = descriptors()
    async with serving(HASTY) as (server, port), client(port) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket
        writer.write(get("/big"))
        assert (await ask(port, get("/facts")))[0] == 200
        deadline = time.monotonic() + SECONDS
        while server._connections:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    assert descriptors() <= before + 1  # the loop's own


async def test_busy_connections_are_not_ended_for_new_ones(run: Run) -> None:
    async with serving(Limits(connections=1)) as (_, port), client(port) as (reader, writer):
        writer.write(get("/slow"))
        await asyncio.sleep(0.05)
        assert (await ask(port, get("/facts")))[0] == 200  # in its turn
        assert await response(reader) == (200, b"late")


async def test_stop_lets_an_answer_finish_and_ends_who_waits(run: Run) -> None:
    async with serving() as (server, port), client(port) as idle, client(port) as busy:
        busy[1].write(get("/slow"))
        await asyncio.sleep(0.05)
        await server.stop()
        assert await ended(idle[0])
        assert await response(busy[0]) == (200, b"late")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from([get("/facts"), b"\r\n", b"Host: y", b"\0\xff", b"A" * 999])))
def test_no_bytes_are_an_internal_error(parts: list[bytes]) -> None:
    async def exchange() -> None:
        async with serving(HASTY) as (_, port), client(port) as (reader, writer):
            writer.write(b"".join(parts))
            writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                assert b"HTTP/1.1 500" not in await asyncio.wait_for(reader.read(), SECONDS)

    asyncio.run(exchange())
