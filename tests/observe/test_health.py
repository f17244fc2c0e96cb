"""observe/health.py: what a probe gets, compared with what flanneld (Go's net/http) sends."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from udpoverlay.errors import OperatorError
from udpoverlay.observe.health import Health, health_server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def ask(port: int, path: str, method: str = "GET") -> tuple[str, dict[str, str], bytes]:
    """Status line, headers in lower case, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.lower().split(": ", 1) for line in lines), body


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Health, int]]:
    port = free_port()
    async with health_server("127.0.0.1", port) as health:
        yield health, port


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_healthz_is_flannelds_at_any_time_and_by_any_method(method: str) -> None:
    async with serving() as (_health, port):
        status, headers, body = await ask(port, "/healthz", method)
        assert status == "HTTP/1.1 200 OK"
        assert headers["content-type"] == "text/plain; charset=utf-8"
        assert headers["content-length"] == "19"
        assert body == (b"" if method == "HEAD" else b"flanneld is running")


async def test_readyz_turns_with_readiness() -> None:
    async with serving() as (health, port):
        status, _, body = await ask(port, "/readyz")
        assert (status, body) == ("HTTP/1.1 503 Service Unavailable", b"flanneld is not ready yet")
        health.ready = True
        status, _, body = await ask(port, "/readyz")
        assert (status, body) == ("HTTP/1.1 200 OK", b"flanneld is ready")


async def test_other_paths_are_gos_404() -> None:
    async with serving() as (_health, port):
        for path in ("/", "/metricsz", "/healthz/"):
            status, headers, body = await ask(port, path)
            assert status == "HTTP/1.1 404 Not Found"
            assert headers["x-content-type-options"] == "nosniff"
            assert body == b"404 page not found\n"


async def test_statusz_says_more() -> None:
    async with serving() as (health, port):
        assert json.loads((await ask(port, "/statusz"))[2]) == {"ready": False}
        health.details = lambda: {"peers": 3}
        status, headers, body = await ask(port, "/statusz")
        assert status == "HTTP/1.1 200 OK"
        assert headers["content-type"].startswith("application/json")
        assert json.loads(body) == {"ready": False, "peers": 3}


async def test_metrics_come_once_there_is_something_to_count() -> None:
    async with serving() as (health, port):
        assert (await ask(port, "/metrics"))[0] == "HTTP/1.1 503 Service Unavailable"
        health.metrics = lambda: b"up 1\n"
        status, headers, body = await ask(port, "/metrics")
        assert (status, body) == ("HTTP/1.1 200 OK", b"up 1\n")
        assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_port_zero_serves_nothing() -> None:
    async with health_server("256.0.0.0", 0) as health:
        assert not health.ready


async def test_port_that_is_taken_is_named_with_the_fix() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match=f"port {port}: Address already in use"):
            async with health_server("127.0.0.1", port):
                pass


async def test_address_that_is_none_is_named() -> None:
    with pytest.raises(OperatorError, match=r"cannot serve health on 256\.0\.0\.1"):
        async with health_server("256.0.0.1", free_port()):
            pass
