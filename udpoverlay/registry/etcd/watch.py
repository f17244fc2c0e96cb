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
changes than ours did, so resuming at a number would wait for ever or miss what happened.

A watch that is silent may be healthy or dead. At intervals a second, linearizable read asks whether
there are newer or fewer keys than we know; if so and the watch still delivers nothing, it is opened
again. The interval grows with the number of keys (that is: of hosts), so that the cost for etcd
grows with the number of hosts, not with its square.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from udpoverlay.errors import RegistryDenied, RegistryError, RegistryUnavailable
from udpoverlay.registry.etcd.client import EtcdClient, ReplyTooLarge
from udpoverlay.registry.etcd.errors import EtcdCompacted, EtcdFutureRevision
from udpoverlay.registry.etcd.messages import Header, KeyValue, WatchEvent, WatchReply
from udpoverlay.registry.etcd.stream import WatchStream

__all__ = ["Changes", "FollowTiming", "Follower", "Reset", "list_range"]


@dataclass(frozen=True, slots=True)
class FollowTiming:
    """Seconds, and keys a page."""

    first_retry: float = 0.1
    max_retry: float = 5.0
    """flannel's back-off: doubled from the first to the last, first again after data."""
    check_every: float = 60.0
    check_every_per_key: float = 0.06
    """The interval between two checks is the larger of both: 10 minutes at 10,000 hosts."""
    catch_up: float = 2.0
    """How long a watch that is behind may take to deliver before it counts as stalled."""
    page: int = 1000


@dataclass(frozen=True, slots=True)
class Reset:
    """All keys of the range at `revision`; keys not in it are gone.

    `lost`: the store does not continue the history that was followed before.
    """

    kvs: tuple[KeyValue, ...]
    revision: int
    lost: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed, in the store's order."""

    events: tuple[WatchEvent, ...]


class _History(Enum):
    NEW = "nothing was followed yet"
    SAME = "the store continues what we saw"
    LOST = "the store has another history"
    UNKNOWN = "cannot be told without listing"


@dataclass(frozen=True, slots=True)
class _Anchor:
    """The last change that we saw; `before` is the revision a deleted key had, 0 for a put."""

    kv: KeyValue
    before: int = 0


async def list_range(
    client: EtcdClient, key: bytes, range_end: bytes, page: int
) -> tuple[tuple[KeyValue, ...], Header]:
    """Read a range page by page at one revision; the header's revision is that one."""
    while True:
        try:
            return await _list_once(client, key, range_end, page)
        except EtcdCompacted:
            continue  # compacted between two pages: from the start, at a newer revision
        except ReplyTooLarge:
            if page == 1:
                raise
            page = max(1, page // 8)


async def _list_once(
    client: EtcdClient, key: bytes, range_end: bytes, page: int
) -> tuple[tuple[KeyValue, ...], Header]:
    reply = await client.range(key, range_end, limit=page)
    header = reply.header
    kvs = list(reply.kvs)
    while reply.more and range_end:
        start = kvs[-1].key + b"\x00"
        reply = await client.range(start, range_end, limit=page, revision=header.revision)
        kvs += reply.kvs
    return tuple(kvs), header


class Follower:
    """Follows one range (`range_end` b"": exactly one key). Iterate `follow()` once."""

    def __init__(  # noqa: PLR0913 - what it follows, and how its surroundings are reached
        self,
        client: EtcdClient,
        key: bytes,
        range_end: bytes,
        *,
        counters: Counter[str],
        report: Callable[[str, RegistryError], None],
        written_at: int = 0,
        timing: FollowTiming = FollowTiming(),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`report(event, error)` is told of every interruption; it limits its own rate.

        `written_at`: the revision at which the caller wrote `key`, 0 when it did not: then already
        the first listing can tell that the store has lost its history since.
        """
        self._client = client
        self._key = key
        self._range_end = range_end
        self._counters = counters
        self._report = report
        self._timing = timing
        self._sleep = sleep
        self._known: dict[bytes, int] = {key: written_at} if written_at else {}
        self._seen = written_at
        self._cluster = 0
        self._anchor: _Anchor | None = None
        self._received = 0

    async def follow(self) -> AsyncGenerator[Reset | Changes, None]:
        """Yield a Reset first, then Changes and Resets, for ever; only cancellation ends it."""
        delay = self._timing.first_retry
        while True:
            opened = time.monotonic()
            received = self._received
            try:
                history = await self._history()
                if history is _History.SAME and self._anchor is not None:
                    start = self._anchor.kv.mod_revision + 1
                else:
                    reset = await self._reset(history)
                    yield reset
                    start = reset.revision + 1
                stream = await self._client.watch(self._key, self._range_end, start)
                checker = asyncio.ensure_future(self._check(stream))
                try:
                    while True:
                        events = self._take(await stream.read())
                        if events:
                            yield Changes(events)
                finally:
                    checker.cancel()
                    stream.close()
            except EtcdCompacted as error:
                self._anchor = None
                self._counters["watch_compactions"] += 1
                self._report("compacted", error)
            except RegistryError as error:
                if isinstance(error, RegistryDenied):
                    self._client.forget_token()
                self._counters["watch_breaks"] += 1
                self._report("broken", error)
            lived = time.monotonic() - opened
            if self._received != received or lived > self._timing.max_retry:
                delay = self._timing.first_retry
            # Up to a quarter more: thousands of hosts lose one etcd in the same moment.
            await self._sleep(delay * random.uniform(1.0, 1.25))  # noqa: S311 - spread, no secret
            delay = min(delay * 2, self._timing.max_retry)

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
        except EtcdCompacted:
            return _History.UNKNOWN
        except EtcdFutureRevision:
            same = False
        return _History.SAME if same else _History.LOST

    async def _reset(self, history: _History) -> Reset:
        kvs, header = await list_range(self._client, self._key, self._range_end, self._timing.page)
        lost = history is not _History.NEW and (
            history is _History.LOST
            or self._cluster not in (0, header.cluster_id)
            or header.revision < self._seen
            # A change not newer than what we saw, which we did not see.
            or any(
                kv.mod_revision <= self._seen and self._known.get(kv.key) != kv.mod_revision
                for kv in kvs
            )
        )
        self._cluster = header.cluster_id
        self._seen = header.revision
        self._known = {kv.key: kv.mod_revision for kv in kvs}
        newest = max(kvs, key=lambda kv: kv.mod_revision, default=None)
        self._anchor = None if newest is None else _Anchor(newest)
        self._received += 1
        self._counters["watch_snapshots"] += 1
        if lost:
            self._counters["watch_history_lost"] += 1
        return Reset(kvs, header.revision, lost)

    # ------------------------------------------------------------------ the stream

    def _take(self, replies: list[WatchReply]) -> tuple[WatchEvent, ...]:
        """Note what the messages say; raise for the end of the watch."""
        taken: list[WatchEvent] = []
        for reply in replies:
            if reply.compact_revision:
                raise EtcdCompacted(
                    f"etcd keeps no changes before revision {reply.compact_revision}"
                )
            if reply.canceled:
                if "permission denied" in reply.reason or "auth" in reply.reason:
                    raise RegistryDenied(
                        f"etcd denies the watch: {reply.reason}",
                        fix="grant the user's role read on etcd-prefix",
                    )
                raise RegistryUnavailable(f"etcd cancelled the watch: {reply.reason}")
            for event in reply.events:
                self._note(event)
            taken += reply.events
        return tuple(taken)

    def _note(self, event: WatchEvent) -> None:
        kv = event.kv
        if event.deleted:
            before = self._known.pop(kv.key, 0)
            self._anchor = _Anchor(kv, before) if before else None
        else:
            self._known[kv.key] = kv.mod_revision
            self._anchor = _Anchor(kv)
        self._seen = max(self._seen, kv.mod_revision)
        self._received += 1

    # ------------------------------------------------------------------ stalls

    async def _check(self, stream: WatchStream) -> None:
        """Close `stream` when the registry holds what it should have told us and did not."""
        timing = self._timing
        while True:
            pause = max(timing.check_every, timing.check_every_per_key * len(self._known))
            await self._sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - spread, no secret
            try:
                behind = await self._is_behind()
                if not behind:
                    continue
                received = self._received
                await self._sleep(timing.catch_up)
                if self._received != received or not await self._is_behind():
                    continue
            except RegistryError as error:
                self._report("check failed", error)
                continue
            self._counters["watch_stalls"] += 1
            self._report(
                "stalled", RegistryUnavailable(f"etcd at {stream.endpoint}: the watch fell silent")
            )
            stream.close()
            return

    async def _is_behind(self) -> bool:
        """Whether the store, asked apart from the watch, has newer or fewer keys than we know."""
        reply = await self._client.range(
            self._key, self._range_end, newer_than=self._seen, keys_only=True, limit=1
        )
        if reply.header.cluster_id != self._cluster or reply.header.revision < self._seen:
            return True
        if reply.header.revision == self._seen:
            return False
        return bool(reply.kvs) or reply.count != len(self._known)
