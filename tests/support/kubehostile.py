"""Raw HTTP between a client and the API double: answers that no server gives, and honest ones.

client ──► HostileApi ──► API double
             │ reply(request) is bytes: written as they are, and the connection closed
             └ None: the double answers
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.kubeapi import KubeApi

LIMIT = 1 << 20


@dataclass(frozen=True)
class Asked:
    """What a client wants."""

    method: str
    path: str
    watch: bool


Reply = Callable[[Asked], bytes | None]


class HostileApi:
    """`async with HostileApi(api) as hostile`: clients of `hostile.url`."""

    def __init__(self, api: KubeApi) -> None:
        self.url = ""
        self.reply: Reply = lambda asked: None
        self.served: list[Asked] = []
        """What got a hostile answer."""
        self._api = api
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> HostileApi:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=LIMIT)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Break every connection there is."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # RuntimeError is uvloop's for a client that has gone.
            gone = (OSError, RuntimeError, asyncio.IncompleteReadError, asyncio.CancelledError)
            with contextlib.suppress(*gone):
                await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = await reader.readexactly(length)
        method, target = head.split(b" ", 2)[:2]
        path = target.partition(b"?")[0].decode()
        asked = Asked(method.decode(), path, b"watch=1" in target)
        raw = self.reply(asked)
        if raw is not None:
            self.served.append(asked)
            writer.write(raw)
            await writer.drain()
            writer.write_eof()
            # A connection that is reset takes what was written with it: let the client read first.
            await asyncio.wait_for(reader.read(), 5)
            return
        back, forth = await asyncio.open_connection(self._api.address, self._api.port)
        try:
            forth.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
            while chunk := await back.read(1 << 16):
                writer.write(chunk)
                await writer.drain()
            writer.write_eof()
        finally:
            forth.transport.abort()


def http(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A well-formed answer with any body; underscores stand for hyphens."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def bomb(size: int) -> bytes:
    """`size` bytes of spaces, compressed as small as gzip can."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    block = b" " * (1 << 20)
    data = b"".join(packer.compress(block) for _ in range(size >> 20))
    return data + packer.flush()


_DEEP = b'{"kind":"NodeList","metadata":{"resourceVersion":"1"},"items":' + b"[" * 100_000
_TWICE = (
    b'{"kind":"NodeList","kind":"NodeList","metadata":{},"metadata":null,"items":[],"items":{}}'
)
_STATUS = json.dumps({"kind": "Status", "code": 500, "message": "m" * 10_000}).encode()
_OK = b"HTTP/1.1 200 OK\r\n"

HOSTILE: dict[str, bytes] = {
    # well-formed HTTP, odd bodies
    "empty": http(b""),
    "bare object": http(b"{}"),
    "null": http(b"null"),
    "array": http(b"[]"),
    "text": http(b'"x"'),
    "number": http(b"1e999"),
    "huge number": http(b"9" * 100_000),
    "not UTF-8": http(b'{"kind":"\xff\xfe"}'),
    "deep": http(_DEEP),
    "duplicate keys": http(_TWICE),
    "truncated": http(b'{"kind":"NodeList","metadata":{"resourceVersion":"1"},"items":[{"meta'),
    "null items": http(b'{"kind":"NodeList","metadata":{"resourceVersion":"1"},"items":null}'),
    "nameless items": http(b'{"kind":"NodeList","metadata":{"resourceVersion":"1"},"items":[{}]}'),
    "no version": http(b'{"kind":"NodeList","metadata":{},"items":[]}'),
    "wrong types": http(b'{"kind":7,"metadata":[],"items":"x","status":1e999,"type":{}}'),
    "html": http(b"<html>portal: please log in</html>", Content_Type="text/html"),
    "lines of nonsense": http(b"\n".join(b"nonsense %d" % i for i in range(1000))),
    "an endless line": http(b'{"type":"ADDED","object":{"a":"' + b"x" * (40 << 20)),
    # refusals
    "redirect": http(b"", "302 Found", Location="http://198.51.100.1:1/secret?token=x"),
    "redirect to itself": http(b"", "301 Moved Permanently", Location="/api/v1/nodes"),
    "redirect to nonsense": http(b"", "307 Temporary Redirect", Location="http://[::1"),
    "no content": b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
    "bad request": http(b"\xff", "400 Bad Request"),
    "unauthorized": http(_DEEP, "401 Unauthorized"),
    "forbidden": http(b'{"message":{"a":1},"reason":[],"code":"x"}', "403 Forbidden"),
    "not found": http(b"404 page not found\n", "404 Not Found"),
    "conflict": http(b'{"reason":7}', "409 Conflict"),
    "gone": http(b"{}", "410 Gone"),
    "invalid": http(b"[]", "422 Unprocessable Entity"),
    "too many": http(b"", "429 Too Many Requests", Retry_After="1e999"),
    "server error": http(_STATUS, "500 Internal Server Error"),
    "status of no class": http(b"{}", "999 What"),
    # odd HTTP
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/0.9": b"<html></html>",
    "bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "continue for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    "long header": _OK + b"X-A: " + b"a" * (1 << 20) + b"\r\n\r\n",
    "many headers": _OK + b"".join(b"X-%d: a\r\n" % i for i in range(50_000)) + b"\r\n",
    "header with NUL": _OK + b"X-A: \x00\x01\r\n\r\n",
    "header not UTF-8": _OK + b"X-\xff: \xff\r\nContent-Length: 2\r\n\r\n{}",
    "cookies": http(b"{}", Set_Cookie="=;;;\"\\x; path=\x01; expires=never; max-age=1e999"),
    "negative length": _OK + b"Content-Length: -5\r\n\r\n{}",
    "two lengths": _OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "length too long": _OK + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "length a lie": _OK + b"Content-Length: 5000\r\n\r\n{}",
    "huge chunk": _OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFFFF\r\n{}",
    "bad chunk": _OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "chunks without end": _OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    # compression
    "gzip bomb": http(bomb(256 << 20), Content_Encoding="gzip"),
    "gzip of nonsense": http(gzip.compress(b"nonsense"), Content_Encoding="gzip"),
    "gzip truncated": http(gzip.compress(b"{}" * 1000)[:20], Content_Encoding="gzip"),
    "no gzip": http(b"{}", Content_Encoding="gzip"),
    "brotli": http(b"{}", Content_Encoding="br"),
    "gzip twice": http(gzip.compress(gzip.compress(b"{}")), Content_Encoding="gzip, gzip"),
    "a refusal that is a bomb": http(bomb(64 << 20), "403 Forbidden", Content_Encoding="gzip"),
}  # fmt: skip
