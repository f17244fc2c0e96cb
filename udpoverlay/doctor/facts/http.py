"""One HTTP GET: of the daemon's admin socket, or of a server whose clock is asked for.

Owns: the request, its limits, what of the answer is read. Must not know: what it means. A body is
read to the end of the connection: both servers close it when asked to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

__all__ = ["admin", "server_time"]

_SECONDS = 5.0
_MOST_BYTES = 64 << 20
"""A list of 100,000 peers has some 20 MB."""
_HEAD_BYTES = 1 << 14
_DATE = re.compile(rb"^date:[ \t]*([^\r\n]+)", re.IGNORECASE | re.MULTILINE)


async def admin(path: str, document: str) -> Mapping[str, Any] | None:
    """A document of the admin socket at `path`; None where no daemon answers with one."""
    try:
        head, body = await asyncio.wait_for(_unix(path, document), _SECONDS)
        if not re.match(rb"HTTP/1\.[01] 200 ", head):
            return None
        found = json.loads(body)
    except (OSError, ValueError, RecursionError, asyncio.TimeoutError):
        return None
    return found if isinstance(found, dict) else None


async def server_time(url: str, context: ssl.SSLContext | None) -> float | None:
    """Seconds since 1970 by the clock of an HTTP server (`Date`, RFC 9110); None if it is mute.

    Any answer will do: a refusal has the header, too.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    try:
        head = await asyncio.wait_for(
            _head(parts.hostname or "", port, context if secure else None), _SECONDS
        )
        match = _DATE.search(head)
        if match is None:
            return None
        return parsedate_to_datetime(match[1].decode("ascii")).timestamp()
    except (OSError, ValueError, TypeError, asyncio.TimeoutError):
        return None


async def _unix(path: str, document: str) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(_request("admin", document))
        data = bytearray()
        while piece := await reader.read(1 << 16):
            data += piece
            if len(data) > _MOST_BYTES:
                raise ValueError("the answer has no end")
    finally:
        writer.transport.abort()
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    return head, body


async def _head(host: str, port: int, context: ssl.SSLContext | None) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(_request(f"[{host}]" if ":" in host else host, "/version"))
        head = b""
        with contextlib.suppress(asyncio.IncompleteReadError):
            while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
                piece = await reader.read(_HEAD_BYTES)
                if not piece:
                    break
                head += piece
        return head.partition(b"\r\n\r\n")[0]
    finally:
        writer.transport.abort()


def _request(host: str, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii")
