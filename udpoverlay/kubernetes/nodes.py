"""All Nodes of a cluster, kept in memory: list, watch, resume; no gap and no event lost.

Owns: resourceVersions, bookmarks, 410 Gone, reconnecting, and what changed since a follower looked
last. Must not know: what a Node means (model/annotations.py), who follows.

    list (in pages) ──► reset ──► watch from its version ──► changed names … changed names
        ▲                            │ ended, broken, silent
        │ 410 Gone, or the server    ▼
        └ is older than what we saw ◄── watch again from the last version or bookmark

A follower is told the *names* of Nodes that changed and reads them from here when it gets round to
it. However slow it is, it holds one name a Node: flannel's event queue (EVENT_QUEUE_DEPTH) has no
counterpart because there is nothing that could overflow.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from udpoverlay.errors import RegistryDenied, RegistryError
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.errors import KubeDenied, KubeGone
from udpoverlay.kubernetes.node import NodeView
from udpoverlay.log import RateLimited, get_logger

__all__ = ["Follower", "News", "NodeFeed"]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class News:
    """What a follower has to look at: everything (`reset`), or the named Nodes."""

    reset: bool
    names: frozenset[str]
    lost_history: bool = False
    """The server was restored from an older copy: what is missing was forgotten, not deleted."""


class Follower:
    """One reader's place in the stream; get it with NodeFeed.follow()."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._reset = False
        self._lost = False
        self._changed = asyncio.Event()

    def note(self, name: str) -> None:
        """Node `name` changed."""
        self._names.add(name)
        self._changed.set()

    def start_over(self, lost_history: bool) -> None:
        """Continuity was lost: everything has to be looked at."""
        self._names.clear()
        self._reset = True
        self._lost = self._lost or lost_history
        self._changed.set()

    async def next(self) -> News:
        """Wait for the next news; all that came since the last call is one."""
        await self.wait()
        return self.take()

    async def wait(self) -> None:
        """Wait until there is news, and leave it there."""
        await self._changed.wait()

    def take(self) -> News:
        """The news that is there, possibly none."""
        news = News(self._reset, frozenset(self._names), self._lost)
        self._names.clear()
        self._reset = self._lost = False
        self._changed.clear()
        return news


@dataclass(frozen=True, slots=True)
class FeedTiming:
    """Seconds."""

    first_retry: float = 0.2
    max_retry: float = 10.0
    denied_retry: float = 30.0
    """Rights do not come back by themselves; asking is cheap but not free."""


class NodeFeed:
    """The cache. Start `run()` as a task; `nodes` is complete once `synced` is set."""

    def __init__(  # noqa: PLR0913 - time is a parameter in two forms
        self,
        client: KubeClient,
        keep: frozenset[str],
        *,
        timing: FeedTiming = FeedTiming(),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        on_denied: Callable[[KubeDenied], Awaitable[None]] | None = None,
    ) -> None:
        """`keep` names the annotations worth holding; `on_denied` may explain a refusal."""
        self.nodes: dict[str, NodeView] = {}
        self.revision = ""
        """The version up to which `nodes` is complete."""
        self.synced = asyncio.Event()
        self.trouble: RegistryError | None = None
        """Why the feed is not following right now; None while it is."""
        self.heard_at = clock()
        """When the server said something last, by `clock`."""
        self._client = client
        self._keep = keep
        self._timing = timing
        self._sleep = sleep
        self._clock = clock
        self._on_denied = on_denied
        self._followers: list[Follower] = []
        self._events = 0
        self._lost = False
        self._report = RateLimited(_log, clock, per_minute=2)

    def follow(self) -> Follower:
        """Begin to follow; the first news is a reset once the feed is synced."""
        follower = Follower()
        self._followers.append(follower)
        if self.synced.is_set():
            follower.start_over(False)
        return follower

    def leave(self, follower: Follower) -> None:
        """Stop following."""
        self._followers.remove(follower)

    async def run(self) -> None:
        """Keep `nodes` true for ever; only cancellation ends it."""
        timing = self._timing
        delay = timing.first_retry
        denials = 0
        while True:
            began, events = self._clock(), self._events
            try:
                await self._follow_once()
            except KubeGone:
                self._client.counters["watch_compactions"] += 1
                self.revision = ""
            except RegistryError as error:
                self.trouble = error
                self._client.counters["watch_breaks"] += 1
                self._report.warning(
                    type(error).__name__, "nodes cannot be followed", error=str(error)
                )
            # An API server that has just started denies everything until it has read its roles.
            denials = denials + 1 if isinstance(self.trouble, KubeDenied) else 0
            if denials > 1 and isinstance(self.trouble, KubeDenied) and self._on_denied is not None:
                await self._on_denied(self.trouble)
            if self._events != events or self._clock() - began > timing.max_retry:
                delay = timing.first_retry
            # Up to a quarter more: thousands of hosts lose one API server in the same moment.
            await self._sleep(delay * random.uniform(1.0, 1.25))  # noqa: S311 - spread, no secret
            denied = isinstance(self.trouble, RegistryDenied)
            delay = min(delay * 2, timing.denied_retry if denied else timing.max_retry)

    async def _follow_once(self) -> None:
        """List if needed, then watch until the watch ends or breaks."""
        if self._lost or not self.revision:
            await self._list(lost_history=self._lost)
            self._lost = False
        opened = asyncio.Event()
        works = [
            asyncio.ensure_future(self._read(opened)),
            asyncio.ensure_future(self._check(opened)),
        ]
        try:
            await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            for work in works:
                if work.done():
                    work.result()
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def _read(self, opened: asyncio.Event) -> None:
        async with aclosing(self._client.watch_nodes(self.revision, opened)) as events:
            async for event in events:
                self._events += 1
                self._heard()
                self._take(event.kind, event.object)

    async def _check(self, opened: asyncio.Event) -> None:
        """Return when the server's present version lies before what it told us already.

        A watch from a future version would wait for it silently. Asked once a watch, after it was
        opened: a server that is replaced in between cannot slip through.
        """
        await opened.wait()
        seen = self.revision
        now = await self._client.node_version()
        self._heard()
        if now.isdecimal() and seen.isdecimal() and int(now) < int(seen):
            self._client.counters["history_lost"] += 1
            self._lost = True
            return
        await asyncio.Event().wait()

    async def _list(self, *, lost_history: bool) -> None:
        found: dict[str, NodeView] = {}
        revision = ""
        async with aclosing(self._client.node_pages()) as pages:
            async for page in pages:
                revision = str((page.get("metadata") or {}).get("resourceVersion") or "")
                for item in page.get("items") or ():
                    view = self._view(item)
                    if view is not None:
                        found[view.name] = view
        self._client.counters["lists"] += 1
        self.nodes = found
        self.revision = revision
        self._heard()
        self.synced.set()
        for follower in self._followers:
            follower.start_over(lost_history)

    def _heard(self) -> None:
        self.heard_at = self._clock()
        if self.trouble is not None:
            self.trouble = None
            _log.info("nodes are followed again")

    def _take(self, kind: str, obj: dict[str, Any]) -> None:
        meta = obj.get("metadata")
        revision = meta.get("resourceVersion") if isinstance(meta, dict) else None
        if isinstance(revision, str) and revision:
            self.revision = revision
        if kind == "BOOKMARK":
            return
        if kind == "DELETED":
            name = meta.get("name") if isinstance(meta, dict) else None
            if isinstance(name, str) and self.nodes.pop(name, None) is not None:
                self._tell(name)
            return
        view = self._view(obj)
        if view is None:
            return
        before = self.nodes.get(view.name)
        self.nodes[view.name] = view
        if not view.same_facts(before):
            self._tell(view.name)

    def _view(self, obj: Any) -> NodeView | None:
        """The Node's facts; one that cannot be read stays what it was, and is counted."""
        try:
            return NodeView.from_object(obj, self._keep)
        except (ValueError, AttributeError) as error:
            self._client.counters["skipped_entries"] += 1
            meta = obj.get("metadata") if isinstance(obj, dict) else None
            name = str(meta.get("name")) if isinstance(meta, dict) else "?"
            self._report.warning("unreadable", "node skipped", node=name, error=str(error))
            return self.nodes.get(name)

    def _tell(self, name: str) -> None:
        for follower in self._followers:
            follower.note(name)
