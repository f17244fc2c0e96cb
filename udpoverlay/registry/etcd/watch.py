"""Following a range of etcd keys for ever: list, watch, resume; no gap and no false end.

Owns: revisions, compaction, reconnecting, noticing a stalled watch and a store that lost history.
Must not know: what a key or value means, leases, who follows.

    list at one revision ──► Reset ──► watch from the next revision ──► Changes … Changes
         ▲                                   │ broken, cancelled, stalled
         │ compacted, or not the             ▼
         └ same history (Reset.lost) ◄── is it still the history that we saw? ──► resume: Changes …

After a broken watch the last change that we saw is read back at its own revision. The same answer:
the store has the history that we know, and the watch resumes right after that change. Anything else
means a store that was wiped, replaced or restored from an older snapshot; its revisions count other
changes than ours did, so resuming at a number would wait for ever or miss what happened. After a
message that cannot be read there is no such last change: what it said is found by listing again.

A watch that is silent may be healthy or dead. At intervals it is asked for a sign of life (etcd's
progress request); without an answer the member is left for another one. What stands between, such
as etcd's own gRPC proxy, may know no such request: where a read on the same connection is answered
and shows nothing that the watch should have sent, the watch is left alone.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar

from udpoverlay.aio import Backoff
from udpoverlay.clock import SYSTEM_CLOCK, Clock
from udpoverlay.errors import RegistryDenied, RegistryError, RegistryUnavailable
from udpoverlay.registry.etcd.channel import within
from udpoverlay.registry.etcd.client import EtcdClient
from udpoverlay.registry.etcd.errors import EtcdCompacted, ReplyTooLarge
from udpoverlay.registry.etcd.listing import Part, pages
from udpoverlay.registry.etcd.messages import (
    BadMessage,
)
from udpoverlay.registry.etcd.stream import WatchStream
from udpoverlay.registry.etcd.values import (
    KeyValue,
    WatchEvent,
    WatchReply,
    in_range,
)

__all__ = ["Changes", "Entries", "FollowTiming", "Follower", "Range", "Reset"]

_SLICE = 250
"""Entries read before the event loop gets a turn: about 5 ms."""
_LONGEST_KEY = 512
"""Bytes; what others write under longer keys is reported, but not remembered."""
_PATIENCE = 12
"""Times the usual interval between two checks of a peer that knows no progress request."""


@dataclass(frozen=True, slots=True)
class FollowTiming:
    """Seconds, and keys a page."""

    first_retry: float = 0.1
    max_retry: float = 5.0
    """flannel's back-off: doubled from the first to the last, first again after data."""
    check_every: float = 5.0
    check_every_per_key: float = 0.002
    """The interval between two checks of a silent watch is the larger of both, so that the cost for
    etcd does not grow with the number of hosts: 500 a second at 10,000 hosts."""
    answer: float = 2.0
    """How long a sign of life may take."""
    page: int = 1024


class Entries(Protocol):
    """What a listing is read into, page by page."""

    def add(self, kv: KeyValue) -> None:
        """Take one key."""


E = TypeVar("E", bound=Entries)


@dataclass(frozen=True, slots=True)
class Reset(Generic[E]):
    """All keys of the range at `revision`; keys not in it are gone.

    `lost`: the store does not continue the history that was followed before.
    """

    entries: E
    revision: int
    lost: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed, in the store's order."""

    events: tuple[WatchEvent, ...]


class Range(NamedTuple):
    """What is followed: the keys watched, and the parts in which they are listed.

    The first part is what is of use; changes outside it are reported, but not remembered.
    """

    key: bytes
    end: bytes
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, key: bytes) -> Range:
        """Exactly one key."""
        return cls(key, b"", (Part(key),))


class _History(Enum):
    NEW = "nothing was followed yet"
    SAME = "the store continues what we saw"
    LOST = "the store has another history"
    UNKNOWN = "not known without listing"


@dataclass(frozen=True, slots=True)
class _Anchor:
    """The last change that we saw; `before` is the revision a deleted key had, 0 for a put."""

    kv: KeyValue
    before: int = 0


def _close(stream: WatchStream, _: object) -> None:
    stream.close()


class Follower(Generic[E]):
    """Follows one range.

    Iterate `follow()`; should it end by an unforeseen error, `begin_again` and iterate it
    once more: it lists, and still knows what it saw.
    """

    def __init__(  # noqa: PLR0913 - what it follows, and how its surroundings are reached
        self,
        client: EtcdClient,
        followed: Range,
        collect: Callable[[], E],
        *,
        counters: Counter[str],
        report: Callable[[str, RegistryError], None],
        written_at: int = 0,
        timing: FollowTiming = FollowTiming(),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`collect()` makes what the next listing is read into.

        `report(event, error)` is called for every interruption; it limits its own rate.
        `written_at`: the revision at which the caller wrote the key, 0 when it did not: then even
        the first listing can tell that the store has lost its history since.
        """
        self._client = client
        self._range = followed
        self._useful = followed.parts[0]
        self._collect = collect
        self._counters = counters
        self._report = report
        self._timing = timing
        self._clock = clock
        self._known: dict[bytes, int] = {followed.key: written_at} if written_at else {}
        self._seen = written_at
        self._cluster = 0
        self._count = 0
        self._anchor: _Anchor | None = None
        self._received = 0
        self._no_progress: set[str] = set()
        self.trouble = ""
        """Why nothing is followed right now, "" while it is."""
        self.heard_at: float | None = None
        """When etcd last said something, on the clock's monotonic side."""

    def begin_again(self) -> None:
        """Trust nothing that was half done: list next."""
        self._anchor = None

    async def follow(self) -> AsyncGenerator[Reset[E] | Changes, None]:
        """Yield a Reset first, then Changes and Resets, for ever; only cancellation ends it."""
        backoff = Backoff(self._timing.first_retry, self._timing.max_retry)
        while True:
            opened = self._clock.monotonic()
            received = self._received
            try:
                history = await self._history()
                if history is _History.SAME and self._anchor is not None:
                    start = self._anchor.kv.mod_revision + 1
                else:
                    reset = await self._reset(history)
                    yield reset
                    start = reset.revision + 1
                stream = await self._client.watch(self._range.key, self._range.end, start)
                checker = asyncio.ensure_future(self._check(stream))
                # Should it fail, nothing would look after the watch: that ends with it.
                checker.add_done_callback(partial(_close, stream))
                try:
                    while True:
                        replies = await stream.read()
                        self.trouble = ""
                        self.heard_at = self._clock.monotonic()
                        events, end = self._take(replies)
                        if events:
                            yield Changes(events)
                        if end is not None:
                            raise end
                finally:
                    stream.close()
                    if checker.done() and not checker.cancelled():
                        checker.result()
                    checker.cancel()
            except EtcdCompacted as error:
                self._anchor = None
                self._counters["watch_compactions"] += 1
                self._report("compacted", error)
            except RegistryError as error:
                self._broken(error)
            lived = self._clock.monotonic() - opened
            if self._received != received or lived > self._timing.max_retry:
                backoff.reset()
            await self._clock.sleep(backoff.next())

    def _broken(self, error: RegistryError) -> None:
        """Note the end of a watch, or why there was none."""
        if isinstance(error, RegistryDenied):
            self._client.forget_token()
        unavailable = isinstance(error, RegistryUnavailable) and not isinstance(error, BadMessage)
        if not unavailable:
            # What we asked has no answer, or one that cannot be read: resuming would ask it again.
            self._anchor = None
        self._counters["watch_breaks"] += 1
        self.trouble = str(error)
        self._report("broken", error)

    # ------------------------------------------------------------------ list and resume

    async def _history(self) -> _History:
        """Whether the store still has the last change that we saw, at the revision it had."""
        if not self._seen:
            return _History.NEW
        anchor = self._anchor
        if anchor is None:
            return _History.UNKNOWN
        at = anchor.kv.mod_revision
        try:
            now = await self._client.range(anchor.kv.key, revision=at)
            same = now.header.cluster_id == self._cluster and now.header.revision >= self._seen
            if anchor.before:
                earlier = await self._client.range(anchor.kv.key, revision=at - 1)
                revisions = [kv.mod_revision for kv in earlier.kvs]
                same = same and not now.kvs and revisions == [anchor.before]
            else:
                same = same and now.kvs == (anchor.kv,)
        except (EtcdCompacted, ReplyTooLarge):
            return _History.UNKNOWN
        return _History.SAME if same else _History.LOST

    async def _reset(self, history: _History) -> Reset[E]:
        while True:
            try:
                return await self._list(history)
            except EtcdCompacted:
                continue  # compacted between two pages: from the start, at a newer revision

    async def _list(self, history: _History) -> Reset[E]:
        entries = self._collect()
        known: dict[bytes, int] = {}
        newest: KeyValue | None = None
        unseen = False
        first = None
        number = 0
        async for part, page in pages(self._client, self._range.parts, self._timing.page):
            first = first or page
            for kv in page.kvs:
                number += 1
                if number % _SLICE == 0:
                    await asyncio.sleep(0)
                entries.add(kv)
                if part.names_only or len(kv.key) > _LONGEST_KEY:
                    continue
                known[kv.key] = kv.mod_revision
                # A change not newer than what we saw, which we did not see.
                if kv.mod_revision <= self._seen and self._known.get(kv.key) != kv.mod_revision:
                    unseen = True
                if newest is None or kv.mod_revision > newest.mod_revision:
                    newest = kv
        assert first is not None  # a listing has a page, if an empty one
        header = first.header
        lost = history is not _History.NEW and (
            history is _History.LOST
            or self._cluster not in (0, header.cluster_id)
            or header.revision < self._seen
            or unseen
        )
        self._cluster = header.cluster_id
        self._seen = header.revision
        self._known = known
        self._count = first.count
        self._anchor = None if newest is None else _Anchor(newest)
        self._received += 1
        self._counters["watch_snapshots"] += 1
        if lost:
            self._counters["watch_history_lost"] += 1
        return Reset(entries, header.revision, lost)

    # ------------------------------------------------------------------ the stream

    def _take(
        self, replies: list[WatchReply]
    ) -> tuple[tuple[WatchEvent, ...], RegistryError | None]:
        """Note what the messages say: the changes in them, and how the watch ended, if it did."""
        taken: list[WatchEvent] = []
        for reply in replies:
            anchor = self._anchor
            for event in reply.events:
                anchor = self._note(event, anchor)
            if not reply.fragment:
                # Until then more changes of the same revision are to come: not a point to resume.
                self._anchor = anchor
            taken += reply.events
            if reply.compact_revision:
                return tuple(taken), EtcdCompacted(
                    f"etcd keeps no changes before revision {reply.compact_revision}"
                )
            if reply.canceled:
                return tuple(taken), RegistryUnavailable(
                    f"etcd cancelled the watch: {reply.reason}"
                )
        return tuple(taken), None

    def _note(self, event: WatchEvent, anchor: _Anchor | None) -> _Anchor | None:
        """Remember a change; return the last one that can be read back."""
        kv = event.kv
        self._received += 1
        self._seen = max(self._seen, kv.mod_revision)
        if not in_range(kv.key, self._useful.key, self._useful.end):
            return anchor
        self._count += (kv.version == 1) - event.deleted
        if event.deleted:
            before = self._known.pop(kv.key, 0)
            return _Anchor(kv, before) if before else anchor
        if len(kv.key) > _LONGEST_KEY:
            return anchor
        self._known[kv.key] = kv.mod_revision
        return _Anchor(kv)

    # ------------------------------------------------------------------ stalls

    async def _check(self, stream: WatchStream) -> None:
        """Leave the member when it gives no sign of life, or holds back what it should tell."""
        timing = self._timing
        while True:
            pause = max(timing.check_every, timing.check_every_per_key * self._count)
            if stream.endpoint in self._no_progress:
                pause *= _PATIENCE
            heard = stream.heard
            await self._clock.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - spread, no secret
            if stream.heard != heard or await self._is_alive(stream):
                continue
            self._counters["watch_stalls"] += 1
            self._client.leave(stream.endpoint)
            stream.close(RegistryUnavailable(f"etcd at {stream.endpoint}: the watch fell silent"))
            return

    async def _is_alive(self, stream: WatchStream) -> bool:
        heard = stream.heard
        self._counters["watch_checks"] += 1
        try:
            for _ in range(2):  # etcd drops the request of a watch that has yet to catch up
                await stream.ask()
                await self._clock.sleep(self._timing.answer / 2)
                if stream.heard != heard:
                    self._no_progress.discard(stream.endpoint)
                    return True
            if await within(self._timing.answer, self._is_behind(stream.endpoint)):
                return False
        except (RegistryError, asyncio.TimeoutError):
            return False
        self._no_progress.add(stream.endpoint)
        return True

    async def _is_behind(self, endpoint: str) -> bool:
        """Whether the store, asked apart from the watch, has newer or fewer keys than we know."""
        reply = await self._client.range(
            self._useful.key,
            self._useful.end,
            newer_than=self._seen,
            keys_only=True,
            limit=1,
            endpoint=endpoint,
        )
        if reply.header.cluster_id != self._cluster or reply.header.revision < self._seen:
            return True
        if reply.header.revision == self._seen:
            return False
        return bool(reply.kvs) or reply.count != self._count
