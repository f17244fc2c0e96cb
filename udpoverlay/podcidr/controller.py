"""Gives every Node of a cluster its podCIDR, where no controller-manager does.

Owns: the order in which ranges are promised, written and freed, and which taints are removed.
Must not know: which range (cidr_set.py), who acts (election.py).

    Lease taken ──► fresh list of all Nodes ──► allocations: what Nodes have, and what was promised
        │                                          │
        │            Node without podCIDR ◄────────┘ ◄── watch
        │                  │ allocate, promise in the Lease, patch with the Node's version
        ▼                  ▼
    Lease lost: forget everything; begin again when it is ours

Nothing is kept but in the cluster itself: the Nodes have what was allocated.
spec.podCIDR cannot be changed once it is set; the server sees to that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from udpoverlay import aio
from udpoverlay.clock import Clock
from udpoverlay.kubernetes.cidr_set import Pool
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.diagnose import missing_rights, why_denied
from udpoverlay.kubernetes.errors import KubeDenied
from udpoverlay.kubernetes.nodes import Follower, News, NodeFeed
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.podcidr.election import Leadership, LeadershipLost, Promises
from udpoverlay.podcidr.reconciler import NODE_RIGHTS, Reconciler
from udpoverlay.supervisor import Supervisor

__all__ = ["PodCidrController"]

_log = get_logger(__name__)

RETRY = 2.0
"""Seconds after which a Node that a write failed for is tried again."""

DEAF = 900.0
"""Seconds without a word from the server after which a leader counts as unhealthy."""


class PodCidrController:
    """One replica. `run` it; `status` and `healthy` say how it goes."""

    def __init__(
        self,
        client: KubeClient,
        leadership: Leadership,
        pools: Sequence[Pool],
        remove_taints: Collection[str],
        clock: Clock,
    ) -> None:
        self._client = client
        self._leadership = leadership
        self._pools = tuple(pools)
        self._remove_taints = remove_taints
        self._clock = clock
        self._supervisor = Supervisor(clock)
        self._report = RateLimited(_log, clock.monotonic, per_minute=2)
        self._feed: NodeFeed | None = None
        self._reconciler: Reconciler | None = None

    def status(self) -> dict[str, Any]:
        """Facts as JSON; what only the leader knows is null elsewhere."""
        reconciler = self._reconciler
        facts: dict[str, Any] = {
            "schema": 1,
            "identity": self._leadership.identity,
            "leader": self._leadership.leads,
            "holder": self._leadership.holder,
            "troubles": self._troubles(),
            "task_failures": self._supervisor.failures,
            "nodes": None,
            "free": None,
            "starved": None,
            "failed": None,
            "findings": None,
        }
        if reconciler is not None:
            free = zip(self._pools, reconciler.allocator.free(), strict=True)
            facts |= {
                "nodes": len(reconciler.known),
                "free": {str(pool.network): count for pool, count in free},
                "starved": sorted(reconciler.starved),
                "failed": sorted(reconciler.failed),
                "findings": [f"Node {each.node}: {each.text}" for each in reconciler.findings],
            }
        return facts

    def _troubles(self) -> dict[str, str]:
        """What does not work right now, by part."""
        feed = self._feed
        return {**(feed.troubles() if feed is not None else {}), **self._supervisor.troubles()}

    def healthy(self) -> bool:
        """False for a leader that has not heard of the server for long: restart it."""
        feed = self._feed
        return feed is None or self._clock.monotonic() - feed.heard_at < DEAF

    async def run(self) -> None:
        """Act while the Lease is ours, wait for it while it is not; for ever.

        After an unforeseen error the Lease is released, so that another replica may act, and it
        begins again.
        """
        await self._supervisor.run("podcidr", self._life)

    async def _life(self) -> None:
        try:
            while True:
                promises = await self._leadership.acquire()
                try:
                    await aio.first_to_end(self._leadership.keep(), self._act(promises))
                except LeadershipLost as error:
                    _log.warning("not the leader any more", why=error.what)
                finally:
                    self._reconciler = self._feed = None
        finally:
            await self._leadership.release()

    async def _act(self, promises: Promises) -> None:
        """Lead. The list of Nodes is made after the Lease was taken, hence after every write that
        the last holder finished."""
        feed = NodeFeed(self._client, frozenset(), clock=self._clock, on_denied=self._on_denied)
        self._feed = feed
        await aio.first_to_end(
            self._supervisor.run("podcidr-nodes", feed.run), self._serve(feed, promises)
        )

    async def _serve(self, feed: NodeFeed, promises: Promises) -> None:
        follower = feed.follow()
        await follower.next()
        self._reconciler = reconciler = Reconciler(
            self._client, self._leadership, self._pools, self._remove_taints, self._report
        )
        reconciler.inherit(feed.nodes, promises)
        _log.info("leading", nodes=len(feed.nodes), promised=len(promises))
        await reconciler.serve(feed.nodes, feed.nodes, feed.unreadable)
        while True:
            news = await self._news(follower, retry=bool(reconciler.failed))
            if news.lost_history:
                _log.error("the API server was restored from an older copy")
                reconciler.restored()
            names = reconciler.known | feed.nodes.keys() if news.reset else news.names
            await reconciler.serve(feed.nodes, names, feed.unreadable)

    async def _news(self, follower: Follower, *, retry: bool) -> News:
        """What changed; nothing, after a while, when there is something to try again."""
        if not retry:
            return await follower.next()
        await aio.event_or_sleep(follower.changed, RETRY, self._clock.sleep)
        return follower.take()

    async def _on_denied(self, error: KubeDenied) -> None:
        why = why_denied(error, await missing_rights(self._client, NODE_RIGHTS))
        self._report.error("denied", "rights are missing", why=str(why))
