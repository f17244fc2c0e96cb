"""An open watch: lines of JSON from etcd's gateway, as messages.

Owns: cutting the stream into messages, noticing that the peer is gone. Must not know: endpoints,
what is watched, when to open it again.
"""

from __future__ import annotations

import asyncio
import json
import socket

import aiohttp

from udpoverlay.errors import RegistryUnavailable
from udpoverlay.registry.etcd import messages
from udpoverlay.registry.etcd.errors import connection_error, reply_error
from udpoverlay.registry.etcd.messages import WatchReply, error_of

__all__ = ["WatchStream"]

_MAX_LINE = 64 << 20
"""Bytes of one watch message; etcd cuts its own at about 2 MB (base64 and JSON included: 3 MB)."""


class WatchStream:
    """An open watch: whole messages as they come. Close it with `close`."""

    def __init__(self, endpoint: str, response: aiohttp.ClientResponse) -> None:
        self.endpoint = endpoint
        self._response = response
        self._rest = b""
        _detect_dead_peer(response)

    async def read(self) -> list[WatchReply]:
        """All messages that have arrived, at least one; RegistryUnavailable at its end."""
        while True:
            try:
                chunk = await self._response.content.readany()
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                raise connection_error(self.endpoint, error, "", "") from error
            if not chunk:
                raise RegistryUnavailable(f"etcd at {self.endpoint} ended the watch")
            head, newline, tail = chunk.rpartition(b"\n")
            if not newline:
                self._rest += chunk
                if len(self._rest) > _MAX_LINE:
                    raise RegistryUnavailable(
                        f"etcd at {self.endpoint}: a watch message has more than {_MAX_LINE} bytes"
                    )
                continue
            lines, self._rest = (self._rest + head).split(b"\n"), tail
            replies = [self._reply(line) for line in lines if line.strip()]
            if replies:
                return replies

    def close(self) -> None:
        """End the watch at once; a pending `read` fails."""
        self._response.close()

    def _reply(self, line: bytes) -> WatchReply:
        try:
            message = json.loads(line)
            if "error" in message:
                code, text = error_of(message["error"])
                raise reply_error(self.endpoint, 0, code, text)
            return messages.watch_reply(message["result"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryUnavailable(
                f"etcd at {self.endpoint} sent a watch message that cannot be read"
            ) from error


def _detect_dead_peer(response: aiohttp.ClientResponse) -> None:
    """Let the kernel notice a silent peer in about 20 s: a quiet watch sends nothing by itself."""
    connection = response.connection
    transport = connection.transport if connection is not None else None
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
