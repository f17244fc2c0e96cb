"""Daemons that are asked for the page, each in threads of its own: one that hangs stops no other.

Owns: how often a daemon is asked, and what stands for it while it does not answer. Must not know:
what the page shows of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from udpoverlay.errors import OperatorError
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.observe.client import AdminClient
from udpoverlay.observe.rates import Look, rates
from udpoverlay.trace.message import record_of
from udpoverlay.trace.origin import Origin
from udpoverlay.web.overview import failed, host_document

__all__ = ["Daemon", "Piece"]

_INTERVAL = 1.0
_PEERS_A_SECOND = 500
"""A daemon with more peers is asked for them less often: its loop has other work."""
_STREAM_PAUSE = 0.1
_AGAIN = 2.0
_HELD_LINES = 4096
_ODD = (AttributeError, KeyError, TypeError, ValueError)
"""What a document of another version leads to."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a stream of packets. Counts are since the last piece."""

    records: tuple[PacketRecord, ...] = ()
    skipped: int = 0
    """Not sent: there were more than the page shows in a second."""
    lost: int = 0
    """Written over before the daemon read them."""
    error: str = ""
    """Why there is nothing now; it is tried again."""


@dataclass
class Daemon:
    """One daemon, by its admin socket."""

    path: str
    name: str = ""
    """As a kept lab calls its host; "": it goes by its public IP."""
    document: dict[str, Any] = field(default_factory=dict)
    """overview.py; of its latest look."""
    origin: Origin | None = None
    """Known once packets were asked for."""

    def __post_init__(self) -> None:
        self.document = failed(self.name or self.path, "", "not asked yet")
        self._client = AdminClient(self.path)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="ask")
        self._before: Look | None = None

    @property
    def public_ip(self) -> str:
        """ "" as long as it has not answered."""
        return str(self.document.get("public_ip", ""))

    @property
    def shown_name(self) -> str:
        """What the page calls it."""
        return self.name or self.public_ip or self.path

    def close(self) -> None:
        """Wait for nothing: what still asks ends with its time-out."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def watch(self) -> None:
        """Look once a second until cancelled; `document` is the result."""
        while True:
            pause = _INTERVAL
            try:
                status = await self._ask(lambda: self._client.get("/v1/status"))
                peers = await self._ask(lambda: self._client.get("/v1/peers"))
                after = Look.at(status, peers)
                flow = rates(self._before or after, after)
                self.document = host_document(self.name, status, peers, flow)
                self._before = after
                pause *= max(1, len(peers["peers"]) // _PEERS_A_SECOND)
            except OperatorError as error:
                self._fail(str(error))
            except _ODD as error:
                self._fail(f"its document is of another version: {type(error).__name__} {error}")
            await asyncio.sleep(pause)

    async def packets(self, text: str, most: int) -> AsyncGenerator[Piece, None]:
        """Packets that match a filter as they pass, at most so many a second; without an end."""
        query = urlencode({"filter": text, "most": most})
        while True:
            with _Follower(self._client, f"/v1/trace?{query}") as follower:
                while not follower.ended or follower.lines:
                    if (piece := self._piece(follower)) is not None:
                        yield piece
                    await asyncio.sleep(_STREAM_PAUSE)
            yield Piece(error=follower.error or "the daemon has ended")
            await asyncio.sleep(_AGAIN)

    async def records(self, text: str, seconds: float) -> list[PacketRecord]:
        """What its flight recorder holds of the last so long. Raises OperatorError."""
        query = urlencode({"filter": text, "since": f"{seconds:.3f}"})
        lines = await self._ask(lambda: list(self._client.lines(f"/v1/records?{query}")))
        try:
            self.origin = Origin.of(lines[0]["origin"])
            return [record_of(line) for line in lines[1:] if "verdict" in line]
        except (IndexError, *_ODD) as error:
            raise OperatorError(f"{self.shown_name}: its records are of another version") from error

    def _ask(self, question: Callable[[], Any]) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, question)

    def _fail(self, error: str) -> None:
        self.document = failed(self.shown_name, self.public_ip, error)
        self._before = None

    def _piece(self, follower: _Follower) -> Piece | None:
        records: list[PacketRecord] = []
        before = follower.skipped, follower.lost
        try:
            for line in follower.take():
                if "origin" in line:
                    self.origin = Origin.of(line["origin"])
                elif "lost" in line:
                    follower.skipped, follower.lost = int(line.get("skipped", 0)), int(line["lost"])
                else:
                    records.append(record_of(line))
        except _ODD:
            return Piece(error="a line of the daemon is no record: it is of another version")
        skipped, lost = follower.skipped - before[0], follower.lost - before[1]
        if not (records or skipped or lost):
            return None
        return Piece(tuple(records), skipped, lost)


class _Follower:
    """Reads a stream in a thread; the stream's own line a second lets it notice its end."""

    def __init__(self, client: AdminClient, url: str) -> None:
        self.lines: deque[dict[str, Any]] = deque(maxlen=_HELD_LINES)
        self.error = ""
        self.ended = False
        self.skipped = self.lost = 0
        self._lines = client.lines(url)
        self._stopped = False
        self._thread = threading.Thread(target=self._read, name="follow", daemon=True)

    def __enter__(self) -> _Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True

    def take(self) -> Iterator[dict[str, Any]]:
        """The lines that came."""
        with contextlib.suppress(IndexError):
            while True:
                yield self.lines.popleft()

    def _read(self) -> None:
        try:
            for line in self._lines:
                if self._stopped:
                    break
                self.lines.append(line)
        except OperatorError as error:
            self.error = str(error)
        finally:
            self._lines.close()  # type: ignore[attr-defined]
            self.ended = True
