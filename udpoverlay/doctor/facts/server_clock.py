"""The clock of an HTTP server, by one GET.

Owns: the request, its limits, what of the answer is read. Must not know: what it means.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

__all__ = ["server_time"]

_SECONDS = 5.0
_HEAD_BYTES = 1 << 14
_DATE = re.compile(rb"^date:[ \t]*([^\r\n]+)", re.IGNORECASE | re.MULTILINE)


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
