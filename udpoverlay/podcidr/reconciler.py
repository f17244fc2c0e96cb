"""What the leader does: knows who has which podCIDR, and writes those that are missing.

Owns: what a Node needs (a range, a taint less), the order promise → write, and what each refusal of
a write means. Must not know: who acts (election.py), when to look again (controller.py).

A range is written with the version of the Node that was looked at, so a write that comes late finds
another Node, or one that has its range, and is refused. A write whose answer was lost stays
promised until the Node shows what became of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from netaddr import IPNetwork

from udpoverlay import aio
from udpoverlay.errors import OutOfSubnets, RegistryError
from udpoverlay.kubernetes.cidr_set import CidrAllocator, Finding, Pool
from udpoverlay.kubernetes.client import Json, KubeClient
from udpoverlay.kubernetes.diagnose import Right, missing_rights, why_denied
from udpoverlay.kubernetes.errors import KubeDenied, KubeInvalid, KubeModified, KubeNotFound
from udpoverlay.kubernetes.node import NodeView, NotALease, parse_cidr
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.podcidr.election import Leadership, LeadershipLost, Promise, Promises

__all__ = ["NODE_RIGHTS", "Reconciler"]

_log = get_logger(__name__)

NODE_RIGHTS = tuple(Right(verb, "nodes") for verb in ("get", "list", "watch", "patch"))

BATCH = 100
"""Nodes promised in one write of the Lease; an annotation holds some thousand."""

TOGETHER = 8
"""Writes under way at once."""

ATTEMPTS = 5
"""A Node that changes between look and write is looked at again, so often."""

Networks = tuple[IPNetwork, ...]

_Change = Callable[[NodeView], Json | None]
"""The part of spec to write, given the Node as it is; None when nothing is to be done."""


class Reconciler:
    """Made when the Lease became ours, thrown away when it no longer is."""

    def __init__(
        self,
        client: KubeClient,
        leadership: Leadership,
        pools: Sequence[Pool],
        remove_taints: Collection[str],
        report: RateLimited,
    ) -> None:
        self.allocator = CidrAllocator(pools)
        self.starved: set[str] = set()
        """Nodes for which no range is free."""
        self.failed: set[str] = set()
        """Nodes that a write failed for; to be tried again."""
        self.unreadable: frozenset[str] = frozenset()
        """Nodes that may hold any range."""
        self._client = client
        self._leadership = leadership
        self._remove_taints = frozenset(remove_taints)
        self._report = report
        self._nodes: dict[str, NodeView] = {}
        self._promised: dict[str, Networks] = {}
        self._findings: dict[str, list[Finding]] = {}

    @property
    def findings(self) -> list[Finding]:
        """What an operator should look at."""
        return [finding for found in self._findings.values() for finding in found]

    @property
    def known(self) -> frozenset[str]:
        """Names of the Nodes that it knows."""
        return frozenset(self._nodes)

    def inherit(self, nodes: Mapping[str, NodeView], promises: Promises) -> None:
        """Take stock: what Nodes have first, then what the last holder was about to give.

        A promise to a Node that is gone, was recreated or has its range is void: the write that it
        announced can only be refused.
        """
        for name in sorted(nodes):
            self._look(nodes[name])
        for name, promise in promises.items():
            view = nodes.get(name)
            if view is None or _has_range(view):
                continue
            if promise.uid != view.uid:
                continue
            try:
                networks = tuple(parse_cidr(text) for text in promise.cidrs)
            except NotALease as error:
                _log.error("a promise in the Lease is void", node=name, why=str(error))
                continue
            if self.allocator.clash(name, networks):
                _log.error("a promise is void: the range has another holder", node=name)
                continue
            self.allocator.hold(name, networks)
            self._promised[name] = networks

    def restored(self) -> None:
        """The server's data is older than what we saw: versions say nothing about age any more."""
        self._nodes = {
            name: replace(view, resource_version="") for name, view in self._nodes.items()
        }

    async def serve(
        self,
        nodes: Mapping[str, NodeView],
        names: Iterable[str],
        unreadable: Collection[str] = (),
    ) -> None:
        """Look at the Nodes `names` and do what they need. Raises LeadershipLost.

        `unreadable` are Nodes of which the name alone is known. While one of them may hold any
        range, none is given.
        """
        names = sorted(names)
        self.unreadable = frozenset(unreadable) - nodes.keys()
        freed = [self._look(nodes[n]) if n in nodes else self._gone(n) for n in names]
        todo = {*names, *self.failed, *(self.starved if any(freed) else ())}
        self.failed.clear()
        await self._give(sorted(todo))
        await _for_all(self._untaint, (name for name in sorted(todo) if self._tainted(name)))

    # ------------------------------------------------------------------ allocations

    def _look(self, view: NodeView) -> bool:
        """Write down what a Node has. True when that freed something."""
        name, before = view.name, self._nodes.get(view.name)
        if before is not None and _older(view, before):
            return False
        self._nodes[name] = view
        recreated = before is not None and before.uid != view.uid
        if not _has_range(view):
            # What it lost by a restore of the API's database it gets again, a new Node does not.
            return self._forget(name) if recreated else False
        self._promised.pop(name, None)
        self.starved.discard(name)
        held = self.allocator.held(name)
        findings = self.allocator.adopt(view)
        if findings != self._findings.get(name, []):
            for finding in findings:
                _log.warning("odd podCIDR", node=name, what=finding.text, fix=finding.fix)
        self._findings.pop(name, None)
        if findings:
            self._findings[name] = findings
        return bool(set(held) - set(self.allocator.held(name)))

    def _gone(self, name: str) -> bool:
        self._nodes.pop(name, None)
        self.failed.discard(name)
        return self._forget(name)

    def _forget(self, name: str) -> bool:
        self._promised.pop(name, None)
        self._findings.pop(name, None)
        self.starved.discard(name)
        freed = self.allocator.held(name)
        if self.allocator.release(name):
            _log.info("range freed", node=name, cidrs=freed)
        return bool(freed)

    # ------------------------------------------------------------------ ranges

    async def _give(self, names: Sequence[str]) -> None:
        """Give a range to each of `names` that has none, batch by batch."""
        wanting = [
            name for name in names if name in self._nodes and not _has_range(self._nodes[name])
        ]
        if wanting and self.unreadable:
            self._report.error(
                "unreadable",
                "no range is given while a Node cannot be read",
                nodes=sorted(self.unreadable),
            )
            self.failed.update(wanting)
            return
        for start in range(0, len(wanting), BATCH):
            batch = [name for name in wanting[start : start + BATCH] if self._choose(name)]
            if not batch:
                continue
            try:
                await self._leadership.promise(
                    {
                        name: Promise(self._nodes[name].uid, tuple(str(n) for n in networks))
                        for name, networks in self._promised.items()
                    }
                )
            except KubeDenied as error:
                self.failed.update(batch)
                await self._complain(error, self._leadership.rights)
                continue
            except RegistryError as error:
                if not self._leadership.leads:
                    raise
                self.failed.update(batch)
                self._report.warning("promise", "Lease not written", error=str(error))
                continue
            await _for_all(self._write_range, batch)

    def _choose(self, name: str) -> bool:
        """Decide on a range; False when none is free."""
        if name in self._promised:
            return True
        try:
            networks = self.allocator.held(name) or self.allocator.allocate(name)
        except OutOfSubnets as error:
            self.starved.add(name)
            self._report.error("full", "no range for a node", node=name, why=str(error))
            return False
        self.starved.discard(name)
        self._promised[name] = networks
        return True

    async def _write_range(self, name: str) -> None:
        networks = self._promised.get(name, ())
        cidrs = [str(network) for network in networks]

        def range_if_promised(view: NodeView) -> Json | None:
            # A Node that was recreated meanwhile has no promise: that was to its predecessor.
            if _has_range(view) or not networks or self._promised.get(name) != networks:
                return None
            return {"podCIDR": cidrs[0], "podCIDRs": cidrs}

        if await self._patch(name, range_if_promised):
            _log.info("range given", node=name, cidrs=cidrs)
        elif name in self._nodes and not _has_range(self._nodes[name]):
            self.failed.add(name)

    # ------------------------------------------------------------------ taints

    def _tainted(self, name: str) -> list[str]:
        """Taints to remove now: those asked for, once the Node has the range that pods need."""
        view = self._nodes.get(name)
        if view is None or not _has_range(view):
            return []
        return [str(t["key"]) for t in view.taints if t.get("key") in self._remove_taints]

    async def _untaint(self, name: str) -> None:
        removed = self._tainted(name)
        if await self._patch(name, self._fewer_taints):
            _log.info("taints removed", node=name, taints=removed)

    def _fewer_taints(self, view: NodeView) -> Json | None:
        kept = [dict(taint) for taint in view.taints if taint.get("key") not in self._remove_taints]
        return {"taints": kept or None} if len(kept) < len(view.taints) else None

    # ------------------------------------------------------------------ writing

    async def _patch(self, name: str, change: _Change) -> bool:
        """Write what `change` wants of the Node as it is now; True when it was written.

        Looks again when the Node changed meanwhile; a failure is left for the next round. Raises
        LeadershipLost when the time to write is over.
        """
        try:
            for _ in range(ATTEMPTS):
                view = self._nodes.get(name)
                spec = change(view) if view is not None else None
                if view is None or spec is None:
                    return False
                self._leadership.check()
                meta = {"resourceVersion": view.resource_version, "uid": view.uid}
                try:
                    self._look(
                        await self._client.patch_node(name, {"metadata": meta, "spec": spec})
                    )
                    return True
                except (KubeModified, KubeInvalid):
                    # It changed, was recreated, or got a range from another allocator.
                    self._look(await self._client.get_node(name))
        except LeadershipLost:
            raise
        except KubeNotFound:
            self._gone(name)
            return False
        except KubeDenied as error:
            await self._complain(error, NODE_RIGHTS)
        except RegistryError as error:
            self._report.warning("patch", "node not written", node=name, error=str(error))
        self.failed.add(name)
        return False

    async def _complain(self, error: KubeDenied, rights: tuple[Right, ...]) -> None:
        why = why_denied(error, await missing_rights(self._client, rights))
        self._report.error("denied", "rights are missing", why=str(why))


async def _for_all(work: Callable[[str], Coroutine[Any, Any, None]], names: Iterable[str]) -> None:
    """Run `work` for every name, a few at once; the first error ends all, and none is left over."""
    waiting = deque(names)

    async def some() -> None:
        while waiting:
            await work(waiting.popleft())

    tasks = [asyncio.ensure_future(some()) for _ in range(min(TOGETHER, len(waiting)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        await aio.end(tasks)


def _has_range(view: NodeView) -> bool:
    return bool(view.pod_cidr or view.pod_cidrs)


def _older(view: NodeView, than: NodeView) -> bool:
    """Whether `view` was overtaken: our own write is known before the watch tells of it."""
    ours, theirs = view.resource_version, than.resource_version
    return (
        view.uid == than.uid and ours.isdecimal() and theirs.isdecimal() and int(ours) < int(theirs)
    )
