"""The page's server: on the loopback, behind a token, from daemons' admin sockets.

    GET /TOKEN/                 the page; its other files beside it
    GET /TOKEN/live             a line of JSON a second: every daemon (overview.py)
    GET /TOKEN/packets?filter=  lines of JSON: packets as they pass
    GET /TOKEN/packet?key=      one of them: its bytes explained, its way

Owns: who gets in, which headers a browser is told, how much a page is sent. Must not know: how a
daemon is asked, how the page looks.

The admin socket is root's, and any user of this host can connect to its loopback: so the path
begins with a token that only the person who started it has. A name that leads here by a foreign
DNS server (rebinding) is refused by the Host header; what the page may load or send to is said by
its Content-Security-Policy: nothing but this server.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import json
import secrets
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from importlib import resources
from typing import Any

from udpoverlay import aio
from udpoverlay.errors import OperatorError
from udpoverlay.log import get_logger
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.observe.http import (
    HttpError,
    HttpServer,
    Limits,
    Request,
    Response,
    Stream,
    tcp_listener,
)
from udpoverlay.trace.document import document
from udpoverlay.trace.filter import FilterError, parse_filter
from udpoverlay.trace.flow import flow_of
from udpoverlay.web.hosts import Daemon, Piece
from udpoverlay.web.packet import detail, row
from udpoverlay.web.way import Records, way

__all__ = ["MOST_A_SECOND", "Page", "new_token", "serving"]

_log = get_logger(__name__)

LOOPBACK = "127.0.0.1"
MOST_A_SECOND = 100
"""Packets of one daemon that a page is sent; the rest is counted."""
_KEPT = 20_000
"""Packets that can be looked at closely: those of a few pages."""
_PAUSE = 0.25
_TELL_SECONDS = 1.0
_WAY_SECONDS = 5.0
"""Beyond a packet's age, for clocks that differ."""
_LINES = "application/x-ndjson; charset=utf-8"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class _Kept:
    """The packets that pages were sent, by the key that they ask for one by."""

    def __init__(self) -> None:
        self._found: OrderedDict[int, tuple[Daemon, PacketRecord]] = OrderedDict()
        self._keys = itertools.count(1)

    def add(self, daemon: Daemon, record: PacketRecord) -> int:
        """Its key."""
        key = next(self._keys)
        self._found[key] = (daemon, record)
        while len(self._found) > _KEPT:
            self._found.popitem(last=False)
        return key

    def get(self, text: str) -> tuple[Daemon, PacketRecord]:
        """Raises HttpError."""
        key = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else -1
        if key not in self._found:
            raise HttpError(404, "this packet is no longer held: choose a later one")
        return self._found[key]


def new_token() -> str:
    """A secret for the URL; 192 bits."""
    return secrets.token_urlsafe(24)


class Page:
    """Answers the requests of the page for `daemons`."""

    def __init__(self, daemons: Sequence[Daemon], token: str, authority: str) -> None:
        self._daemons = tuple(daemons)
        self._token = token
        self._authorities = {authority, authority.replace(LOOPBACK, "localhost")}
        self._files = {
            file.name: Response(200, file.read_bytes(), _TYPES[_suffix(file.name)], _HEADERS)
            for file in resources.files("udpoverlay.web").joinpath("page").iterdir()
            if _suffix(file.name) in _TYPES
        }
        self._kept = _Kept()

    async def answer(self, request: Request) -> Response | Stream:
        """Any request. Raises HttpError."""
        name = self._name(request)
        try:
            return await self._of(name, _query(request.query))
        except HttpError as error:
            raise HttpError(error.status, error.reason, *_HEADERS) from error
        except Exception as error:
            # Caught here: what is logged of a request elsewhere has its path, with the token.
            _log.exception("internal error; please report it", error=error, file=name[:40])
            raise HttpError(500, "internal error", *_HEADERS) from error

    def _name(self, request: Request) -> str:
        """What is asked for, behind the token."""
        token, slash, name = request.path.removeprefix("/").partition("/")
        # Compared whole, so that the time tells nothing of how much was right.
        if not hmac.compare_digest(token.encode(), self._token.encode()) or not slash:
            raise HttpError(403, "open the whole URL that `udpoverlay web` printed", *_HEADERS)
        if request.host not in self._authorities:
            raise HttpError(403, "this page is at 127.0.0.1 alone", *_HEADERS)
        if request.method not in {"GET", "HEAD"}:
            raise HttpError(405, "Method Not Allowed", ("Allow", "GET, HEAD"), *_HEADERS)
        return name

    async def _of(self, name: str, query: dict[str, str]) -> Response | Stream:
        if name == "live":
            return Stream(_LINES, self._live(), headers=_HEADERS)
        if name == "packets":
            text = query.get("filter", "")
            try:
                parse_filter(text)
            except FilterError as error:
                raise HttpError(400, str(error)) from error
            return Stream(_LINES, self._packets(text), headers=_HEADERS)
        if name == "packet":
            return await self._packet(query.get("key", ""))
        if (found := self._files.get(name or "index.html")) is not None:
            return found
        raise HttpError(404, "Not Found")

    async def _live(self) -> AsyncGenerator[bytes, None]:
        while True:
            yield _line({"hosts": [daemon.document for daemon in self._daemons]})
            await asyncio.sleep(_TELL_SECONDS)

    async def _packets(self, text: str) -> AsyncGenerator[bytes, None]:
        queue: asyncio.Queue[tuple[Daemon, Piece]] = asyncio.Queue(len(self._daemons) * 2)
        tasks = [
            asyncio.ensure_future(self._follow(daemon, text, queue)) for daemon in self._daemons
        ]
        loop = asyncio.get_running_loop()
        told = float("-inf")
        try:
            while True:
                pieces = [queue.get_nowait() for _ in range(queue.qsize())]
                if pieces or loop.time() - told >= _TELL_SECONDS:
                    yield _line(self._lines(pieces))
                    told = loop.time()
                await asyncio.sleep(_PAUSE)
        finally:
            await aio.end(tasks)

    @staticmethod
    async def _follow(
        daemon: Daemon, text: str, queue: asyncio.Queue[tuple[Daemon, Piece]]
    ) -> None:
        async with contextlib.aclosing(daemon.packets(text, MOST_A_SECOND)) as pieces:
            async for piece in pieces:
                await queue.put((daemon, piece))

    def _lines(self, pieces: Sequence[tuple[Daemon, Piece]]) -> dict[str, Any]:
        found = [(daemon, record) for daemon, piece in pieces for record in piece.records]
        found.sort(key=lambda each: each[1].time_ns)
        return {
            "packets": [
                row(record, self._kept.add(daemon, record), daemon.shown_name)
                for daemon, record in found
            ],
            "skipped": sum(piece.skipped for _, piece in pieces),
            "lost": sum(piece.lost for _, piece in pieces),
            "errors": {daemon.shown_name: piece.error for daemon, piece in pieces if piece.error},
        }

    async def _packet(self, text: str) -> Response:
        daemon, record = self._kept.get(text)
        steps = way(record, daemon.public_ip, await self._records(record))
        found = detail(record, daemon.shown_name, daemon.origin, steps, self._called)
        return Response(200, _line(found), "application/json; charset=utf-8", _HEADERS)

    def _called(self, public_ip: str) -> str:
        """What the page calls the host with that address."""
        for daemon in self._daemons:
            if public_ip and daemon.public_ip == public_ip:
                return daemon.shown_name
        return public_ip

    async def _records(self, record: PacketRecord) -> Records:
        """What the other host of a packet has of its flow, where that is asked."""
        found: dict[str, list[PacketRecord]] = {}
        flow = flow_of(record.data)
        for daemon in self._daemons:
            if flow is None or not record.remote or daemon.public_ip != record.remote:
                continue
            shown = document(record)
            text = f"src {shown['source']} and dst {shown['destination']} and proto {flow.protocol}"
            age = max(0.0, (time.time_ns() - record.time_ns) / 1e9)
            with contextlib.suppress(OperatorError):  # then it says nothing
                found[daemon.public_ip] = await daemon.records(text, age + _WAY_SECONDS)
        return found


def _line(found: dict[str, Any]) -> bytes:
    return json.dumps(found, separators=(",", ":")).encode() + b"\n"


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def _query(text: str) -> dict[str, str]:
    try:
        pairs = urllib.parse.parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=4
        )
    except ValueError as error:
        raise HttpError(400, f"no query: {error}") from error
    return dict(pairs)


@contextlib.asynccontextmanager
async def serving(daemons: Sequence[Daemon], port: int = 0) -> AsyncIterator[str]:
    """Serve the page until the end of the block; its URL. Raises OperatorError."""
    try:
        listener = tcp_listener(LOOPBACK, port)
    except OSError as error:
        raise OperatorError(
            f"cannot listen on {LOOPBACK}:{port}: {error.strerror}",
            fix="name another port with --port, or none",
        ) from error
    token = new_token()
    authority = f"{LOOPBACK}:{listener.getsockname()[1]}"
    server = HttpServer(Page(daemons, token, authority).answer, _error_page, Limits())
    server.listen(listener)
    watches = [asyncio.ensure_future(daemon.watch()) for daemon in daemons]
    try:
        yield f"http://{authority}/{token}/"
    finally:
        await aio.end(watches)
        await server.stop()
        for daemon in daemons:
            daemon.close()


def _error_page(status: int, reason: str) -> Response:
    return Response(
        status,
        json.dumps({"error": reason}).encode(),
        "application/json; charset=utf-8",
        (),
    )
