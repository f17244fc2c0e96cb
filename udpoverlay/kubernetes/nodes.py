"""All Nodes of a cluster, kept in memory: list, watch, resume; no gap and no event lost.

Owns: resourceVersions, bookmarks, 410 Gone, reconnecting, and what changed since a follower looked
last. Must not know: what a Node means (registry/kubernetes/annotations.py), who follows.

    list (in pages) ──► reset ──► watch from its version ──► changed names … changed names
        ▲                            │ ended, broken, silent
        │ 410 Gone, refused twice,   ▼
        │ or the server is older  watch again from the last version or bookmark
        └ than what we saw      ◄────┘

What is known is replaced by what can be read, and by nothing else: a list that is not whole, an
event that cannot be read, a Node that can only be named leave everything as it was.

A follower gets the *names* of Nodes that changed and reads them from here when it gets round to
it. However slow it is, it holds one name a Node: flannel's event queue (EVENT_QUEUE_DEPTH) has no
counterpart because there is nothing that could overflow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from udpoverlay import aio
from udpoverlay.clock import SYSTEM_CLOCK, Clock
from udpoverlay.errors import RegistryDenied, RegistryError, RegistryUnavailable
from udpoverlay.kubernetes.client import MAX_NODES, KubeClient
from udpoverlay.kubernetes.codec import OddNode, WatchEvent
from udpoverlay.kubernetes.errors import KubeDenied, KubeGone, KubeUndecodable
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
        self.changed = asyncio.Event()
        """Set while there is news."""

    def note(self, name: str) -> None:
        """Node `name` changed."""
        self._names.add(name)
        self.changed.set()

    def start_over(self, lost_history: bool) -> None:
        """Continuity was lost: everything has to be looked at."""
        self._names.clear()
        self._reset = True
        self._lost = self._lost or lost_history
        self.changed.set()

    async def next(self) -> News:
        """Wait for the next news; all that came since the last call is one."""
        await self.changed.wait()
        return self.take()

    def take(self) -> News:
        """The news that is there, possibly none."""
        news = News(self._reset, frozenset(self._names), self._lost)
        self._names.clear()
        self._reset = self._lost = False
        self.changed.clear()
        return news


@dataclass(frozen=True, slots=True)
class FeedTiming:
    """Seconds."""

    first_retry: float = 0.2
    max_retry: float = 10.0
    denied_retry: float = 30.0
    """Rights do not come back by themselves; asking is cheap but not free."""


class NodeFeed:
    """The cache. Keep `run()` running; `nodes` is complete once `synced` is set.

    Should `run()` end by an unforeseen error, run it again: it lists, and every follower looks at
    everything.
    """

    def __init__(
        self,
        client: KubeClient,
        keep: frozenset[str],
        *,
        timing: FeedTiming = FeedTiming(),
        clock: Clock = SYSTEM_CLOCK,
        on_denied: Callable[[KubeDenied], Awaitable[None]] | None = None,
    ) -> None:
        """`keep` names the annotations worth holding; `on_denied` may explain a refusal."""
        self.nodes: dict[str, NodeView] = {}
        self.unreadable: dict[str, str] = {}
        """Nodes that can only be named, and why. In `nodes` they are what they were, or missing."""
        self.revision = ""
        """The version up to which `nodes` is complete."""
        self.synced = asyncio.Event()
        self.trouble: RegistryError | None = None
        """Why the feed is not following right now; None while it is."""
        self.heard_at = clock.monotonic()
        """When the server said something last, by `clock`."""
        self._client = client
        self._keep = keep
        self._timing = timing
        self._clock = clock
        self._on_denied = on_denied
        self._followers: list[Follower] = []
        self._events = 0
        self._lost = False
        self._highest = 0
        """The newest version that the server ever sent."""
        self._refused = 0
        self._report = RateLimited(_log, clock.monotonic, per_minute=2)

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

    def troubles(self) -> dict[str, str]:
        """Why Nodes are not followed, and which cannot be read; {} when neither."""
        found = {"nodes": str(self.trouble) if self.trouble is not None else ""}
        if self.unreadable:
            first, more = min(self.unreadable), len(self.unreadable) - 1
            why = f"Node {first} cannot be read: {self.unreadable[first]}"
            found["unreadable"] = f"{why}, nor can {more} more" if more else why
        return {part: why for part, why in found.items() if why}

    def age(self) -> float | None:
        """Seconds since the server last said something; None: `nodes` is not complete yet."""
        return self._clock.monotonic() - self.heard_at if self.synced.is_set() else None

    async def run(self) -> None:
        """Keep `nodes` true for ever; only cancellation, or an unforeseen error, ends it."""
        timing, clock = self._timing, self._clock
        # With jitter: thousands of hosts lose one API server in the same moment.
        backoff = aio.Backoff(timing.first_retry, timing.max_retry)
        denials = 0
        while True:
            began, events = clock.monotonic(), self._events
            try:
                await self._follow_once()
            except KubeGone:
                self._client.counters["watch_compactions"] += 1
                self.revision = ""
            except RegistryError as error:
                self._broken(error)
            except Exception:
                # It may have struck between two halves of a change.
                self.revision = ""
                raise
            # An API server that has just started denies everything until it has read its roles.
            denials = denials + 1 if isinstance(self.trouble, KubeDenied) else 0
            if denials > 1 and isinstance(self.trouble, KubeDenied) and self._on_denied is not None:
                await self._on_denied(self.trouble)
            if self._events != events or clock.monotonic() - began > timing.max_retry:
                backoff.reset()
            denied = isinstance(self.trouble, RegistryDenied)
            await clock.sleep(backoff.next(timing.denied_retry if denied else None))

    def _broken(self, error: RegistryError) -> None:
        """A list or watch came to a bad end; decide whether to go on from where it was."""
        self.trouble = error
        self._client.counters["watch_breaks"] += 1
        self._report.warning(type(error).__name__, "nodes cannot be followed", error=str(error))
        transient = isinstance(error, RegistryUnavailable | RegistryDenied)
        if transient and not isinstance(error, KubeUndecodable):
            return
        # A server that refuses to go on from this version, or says something unreadable after it,
        # may do so for ever: the second time, begin again.
        self._refused += 1
        if self._refused > 1 and self.revision:
            self._client.counters["relists"] += 1
            self.revision = ""

    async def _follow_once(self) -> None:
        """List if needed, then watch until the watch ends or breaks."""
        if self._lost or not self.revision:
            await self._list()
        opened = asyncio.Event()
        await aio.first_to_end(self._read(opened), self._check(opened))

    async def _read(self, opened: asyncio.Event) -> None:
        before = self._events
        stream = self._client.watch_nodes(self.revision, opened, self._keep)
        async with aclosing(stream) as events:
            async for event in events:
                self._events += 1
                self._take(event)
                self._heard()
        if self._events == before:
            # A server that works sends a bookmark every minute, and one before it ends a watch.
            raise KubeUndecodable("a watch of Nodes ended without a single event")

    async def _check(self, opened: asyncio.Event) -> None:
        """Return when the server's present version lies before one that it sent already.

        A watch from a future version would wait for it silently. Asked once a watch, after it was
        opened: a server that is replaced in between cannot slip through.
        """
        await opened.wait()
        seen = _number(self.revision)
        now = await self._client.node_version()
        self._heard()
        if 0 < _number(now) < seen:
            self._lost = True
            return
        await asyncio.Event().wait()

    async def _list(self) -> None:
        found: dict[str, NodeView] = {}
        unreadable: dict[str, str] = {}
        revision = ""
        async with aclosing(self._client.node_pages(self._keep)) as pages:
            async for page in pages:
                revision = page.revision
                found.update((view.name, view) for view in page.nodes)
                for odd in page.odd:
                    unreadable[odd.name] = odd.why
                    if (known := self._known(odd)) is not None:
                        found[odd.name] = known
        self._client.counters["lists"] += 1
        lost = self._lost or 0 < _number(revision) < self._highest
        if lost:
            self._client.counters["history_lost"] += 1
        self._lost, self._highest, self._refused = False, _number(revision), 0
        self.nodes, self.unreadable = found, unreadable
        self.revision = revision
        self._heard()
        self.synced.set()
        for follower in self._followers:
            follower.start_over(lost)

    def _heard(self) -> None:
        self.heard_at = self._clock.monotonic()
        if self.trouble is not None:
            self.trouble = None
            _log.info("nodes are followed again")

    def _take(self, event: WatchEvent) -> None:
        self.revision = event.revision
        self._highest = max(self._highest, _number(event.revision))
        self._refused = 0
        if event.kind == "BOOKMARK":
            return
        if event.kind == "DELETED":
            self._delete(event)
        elif event.node is not None:
            view = event.node
            before = self.nodes.get(view.name)
            if before is None and len(self.nodes) >= MAX_NODES:
                self._known(OddNode(view.name, view.uid, event.revision, "too many Nodes"))
                return
            self.nodes[view.name] = view
            was_unreadable = self.unreadable.pop(view.name, None) is not None
            if was_unreadable or not view.same_facts(before):
                self._tell(view.name)
        elif event.odd is not None:
            self.unreadable[event.odd.name] = event.odd.why
            if self._known(event.odd) is None and self.nodes.pop(event.odd.name, None) is not None:
                self._tell(event.odd.name)

    def _delete(self, event: WatchEvent) -> None:
        gone = event.node or event.odd
        assert gone is not None  # the codec gives one or the other
        self.unreadable.pop(gone.name, None)
        known = self.nodes.get(gone.name)
        if known is not None and known.uid == gone.uid:
            del self.nodes[gone.name]
            self._tell(gone.name)

    def _known(self, odd: OddNode) -> NodeView | None:
        """What a Node that cannot be read was before; None when it is another one of its name."""
        self._client.counters["skipped_entries"] += 1
        self._report.warning("unreadable", "node skipped", node=odd.name, why=odd.why)
        known = self.nodes.get(odd.name)
        return known if known is not None and known.uid == odd.uid else None

    def _tell(self, name: str) -> None:
        for follower in self._followers:
            follower.note(name)


def _number(revision: str) -> int:
    """A version as a number, 0 when it is none; newer ones are larger (KEP-5504)."""
    return int(revision) if revision.isascii() and revision.isdecimal() else 0
