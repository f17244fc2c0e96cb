"""Streams of records: packets as they pass, and those that the flight recorder still holds.

Owns: what a request may ask, how many streams there are at once, how much of the event loop's time
each takes. Must not know: how records are made (dataplane/recorder.py), who reads them.

    GET /v1/trace?filter=…&each=1&most=100   from now on, until the reader goes
    GET /v1/records?filter=…&since=30        what is held, of the last seconds

A reader that is slow is not waited for: the rings go on, and it is told how many records it lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Protocol

from udpoverlay import _fastpath as fp
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.observe.http import HttpError, Stream
from udpoverlay.observe.status import SCHEMA_VERSION
from udpoverlay.trace.filter import Filter, FilterError, parse_filter
from udpoverlay.trace.message import record_document
from udpoverlay.trace.origin import Origin

__all__ = ["MOST_STREAMS", "Reader", "Traces", "held"]

MOST_STREAMS = 4
"""At once: each costs the event loop some of its time."""
_CONTENT_TYPE = "application/x-ndjson; charset=utf-8"
_PAUSE_SECONDS = 0.05
"""Between two looks at the rings."""
_TELL_SECONDS = 1.0
"""A line at least so often, by which a reader that has gone is noticed."""
_BATCH = 128
"""Records between which others get their turn."""
_MOST_SINCE = 10**9

Position = tuple[int, ...]
_Lines = AsyncGenerator[bytes, None]


class _Reading(Protocol):
    @property
    def records(self) -> Sequence[PacketRecord]: ...

    @property
    def position(self) -> Position: ...

    @property
    def lost(self) -> int: ...


class Reader(Protocol):
    """The flight recorder, see dataplane.recorder."""

    @property
    def rings(self) -> fp.Recorder:
        """Its memory."""

    def read(
        self, position: Position | None = None, *, most: int = 4096, drops_only: bool = False
    ) -> _Reading:
        """Records from `position` on."""

    def end(self) -> Position:
        """Behind the latest."""


def held(recorder: Reader, *, drops_only: bool = False) -> Iterator[_Reading]:
    """All that the rings hold now, in pieces; what comes meanwhile does not prolong it."""
    end = recorder.end()
    position: Position | None = None
    before: Position = (0,) * len(end)
    while True:
        reading = recorder.read(position, drops_only=drops_only)
        if reading.records or reading.lost:
            yield reading
        before, position = position or before, reading.position
        if all(
            now >= last or now == start
            for now, last, start in zip(position, end, before, strict=True)
        ):
            return


class Traces:
    """Answers the requests for streams. `recorder` None: there is none."""

    def __init__(self, recorder: Reader | None, origin: Callable[[], Origin]) -> None:
        self._recorder = recorder
        self._origin = origin
        self._open = 0
        self._each = 0
        """Streams that want every packet."""

    def by_path(self) -> dict[str, Callable[[Mapping[str, str]], Stream]]:
        """Each stream under the path that it is asked for by."""
        return {"/v1/trace": self.live, "/v1/records": self.held}

    def live(self, query: Mapping[str, str]) -> Stream:
        """`GET /v1/trace`. Raises HttpError."""
        wanted = _filter(query, "filter", "each", "most")
        each = query.get("each", "0")
        if each not in {"0", "1"}:
            raise HttpError(400, f"each is 0 or 1, not {each[:20]!r}")
        budget = _Budget(_most(query["most"]) if "most" in query else None)
        recorder = self._begin()
        return Stream(_CONTENT_TYPE, self._live(recorder, wanted, each == "1", budget))

    def held(self, query: Mapping[str, str]) -> Stream:
        """`GET /v1/records`. Raises HttpError."""
        wanted = _filter(query, "filter", "since")
        since = _seconds(query["since"]) if "since" in query else None
        recorder = self._begin()
        first = 0 if since is None else time.time_ns() - int(since * 1e9)
        return Stream(_CONTENT_TYPE, self._held(recorder, wanted, first))

    def _begin(self) -> Reader:
        if self._recorder is None:
            raise HttpError(
                409, "it has no flight recorder (--flight-recorder=0, or a backend without packets)"
            )
        if self._open >= MOST_STREAMS:
            raise HttpError(503, f"{MOST_STREAMS} streams are open, which is the most at once")
        return self._recorder

    async def _live(self, recorder: Reader, wanted: Filter, each: bool, budget: _Budget) -> _Lines:
        counts = _Counts()
        position = recorder.end()
        with self._counted(recorder, each):
            yield self._head()
            told = time.monotonic()
            while True:
                reading = recorder.read(position, drops_only=wanted.drops_only)
                position = reading.position
                counts.lost += reading.lost
                budget.refill(time.monotonic())
                async for lines in _lines(reading.records, wanted, counts, budget):
                    yield lines
                    told = time.monotonic()
                if reading.lost or time.monotonic() - told >= _TELL_SECONDS:
                    yield counts.line()
                    told = time.monotonic()
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _held(self, recorder: Reader, wanted: Filter, first: int) -> _Lines:
        counts = _Counts()
        with self._counted(recorder, False):
            yield self._head()
            for reading in held(recorder, drops_only=wanted.drops_only):
                counts.lost += reading.lost
                records = [record for record in reading.records if record.time_ns >= first]
                async for lines in _lines(records, wanted, counts, _Budget(None)):
                    yield lines
            yield counts.line(end=True)

    @contextlib.contextmanager
    def _counted(self, recorder: Reader, each: bool) -> Iterator[None]:
        """A stream is open meanwhile."""
        self._open += 1
        self._each += each
        recorder.rings.each = self._each > 0
        try:
            yield
        finally:
            self._open -= 1
            self._each -= each
            recorder.rings.each = self._each > 0

    def _head(self) -> bytes:
        return _line({"schema": SCHEMA_VERSION, "origin": self._origin().document()})


class _Counts:
    """Of one stream."""

    def __init__(self) -> None:
        self.seen = self.matched = self.skipped = self.lost = 0

    def line(self, **more: object) -> bytes:
        counts = {"seen": self.seen, "matched": self.matched, "skipped": self.skipped}
        return _line({**counts, "lost": self.lost, **more})


class _Budget:
    """How many records a second one stream sends; `most` None: all."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._left = 0
        self._since = float("-inf")

    def refill(self, now: float) -> None:
        """Once a second."""
        if self._most is not None and now - self._since >= 1:
            self._left, self._since = self._most, now

    def take(self, count: int) -> int:
        """So many of `count` may be sent."""
        if self._most is None:
            return count
        taken = min(count, self._left)
        self._left -= taken
        return taken


async def _lines(
    records: Sequence[PacketRecord], wanted: Filter, counts: _Counts, budget: _Budget
) -> _Lines:
    """The lines of the records that are wanted, behind the counts with them."""
    for start in range(0, len(records), _BATCH):
        batch = records[start : start + _BATCH]
        found = [record for record in batch if wanted.wants(record)]
        counts.seen += len(batch)
        counts.matched += len(found)
        sent = budget.take(len(found))
        counts.skipped += len(found) - sent
        del found[sent:]
        if found:
            yield counts.line() + b"".join(_line(record_document(record)) for record in found)
        await asyncio.sleep(0)


def _line(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _filter(query: Mapping[str, str], *known: str) -> Filter:
    for name in query:
        if name not in known:
            raise HttpError(400, f"unknown parameter {name[:40]!r}: use {' or '.join(known)}")
    try:
        return parse_filter(query.get("filter", ""))
    except FilterError as error:
        raise HttpError(400, str(error)) from error


def _most(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) > 0):
        raise HttpError(400, f"most is a number of records a second, not {text[:40]!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MOST_SINCE:
        raise HttpError(400, f"since is a number of seconds, not {text[:40]!r}")
    return seconds
