"""Who of several replicas acts: a coordination.k8s.io Lease, and what its holder is about to do.

Owns: the Lease object, when it may be taken over (k8s.io/client-go tools/leaderelection, with its
periods), and the promises written into it. Must not know: what a promise is about.

The holder leads until `renew_deadline` after it *sent* the last renewal that was confirmed, by its
own clock, whatever is on its way meanwhile: a renewal that the server carried out but never
answered is none. Others take the Lease over `duration` after they *saw* it change last, which is
later. In between lies what an interrupted write may still need.

    holder   ├─ renewal sent ── confirmed ───────────┤ renew_deadline: it stops
    others              ├─ seen ─────────────────────────────────┤ duration: one may start

A Lease alone does not keep two replicas apart: a holder that was stopped for a minute wakes up in
the middle of what it was doing, and a write that it sent may be carried out much later. So nothing
is done before it was promised *inside* the Lease, whose every write needs the version seen last:

    holder        promise {a: range 1}  ──► Lease v8 ──► write range 1 to Node a … (stopped)
    successor     Lease v8 is stale: takes it, and the promise with it, as v9
                  does what was promised, to the letter; only then anything of its own
    old holder    wakes up: its write to Node a is the same one, or refused; its next promise needs
                  v8 and is refused: it is no holder any more
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TypeVar

from udpoverlay import aio
from udpoverlay.clock import Clock
from udpoverlay.errors import RegistryConflict, RegistryError, RegistryUnavailable
from udpoverlay.kubernetes import codec
from udpoverlay.kubernetes.client import KubeClient
from udpoverlay.kubernetes.diagnose import Right, missing_rights, why_denied
from udpoverlay.kubernetes.errors import (
    KubeDenied,
    KubeExists,
    KubeModified,
    KubeNotFound,
    KubeUndecodable,
)
from udpoverlay.kubernetes.lease import LeaseObject
from udpoverlay.log import RateLimited, get_logger

__all__ = ["PENDING", "ElectionPeriods", "Leadership", "LeadershipLost", "Promise", "Promises"]

_log = get_logger(__name__)

T = TypeVar("T")

PENDING = "podcidr-controller.udpoverlay/pending"
"""The annotation of the Lease that holds the promises."""

RELEASE_SECONDS = 5.0
"""How long we try to give the Lease up before we end; otherwise it runs out by itself."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a Node is about to get."""

    uid: str
    """Of the Node: another one of the same name was promised nothing."""
    cidrs: tuple[str, ...]


Promises = Mapping[str, Promise]
"""By name of the Node."""


class LeadershipLost(RegistryConflict):
    """Another replica holds the Lease, or ours could not be renewed in time."""


@dataclass(frozen=True, slots=True)
class ElectionPeriods:
    """Seconds; client-go's defaults."""

    duration: float = 15.0
    """How long a Lease that its holder does not renew is respected."""
    renew_deadline: float = 10.0
    """A holder that could not renew for so long stops acting."""
    retry: float = 2.0
    """Between two renewals, or two looks at another's Lease."""

    @property
    def attempt(self) -> float:
        """For one request: one that hangs must leave time for another."""
        return self.renew_deadline / 2


class Leadership:
    """Our side of one Lease."""

    def __init__(  # noqa: PLR0913 - the Lease's place and our identity
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        periods: ElectionPeriods,
        clock: Clock,
    ) -> None:
        """`identity` is unique to this process. `clock.monotonic` must count a suspended machine's
        time too.
        """
        self.identity = identity
        self._client = client
        self._namespace, self._name = namespace, name
        self._periods = periods
        self._clock = clock
        self._lock = asyncio.Lock()
        self._held = False
        self._lease = LeaseObject()
        self._seen: LeaseObject | None = None
        self._confirmed: tuple[object, ...] = ()
        """What the Lease says after our last write that was answered."""
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self._report = RateLimited(_log, clock.monotonic, per_minute=2)

    @property
    def leads(self) -> bool:
        """Whether we may act at this moment."""
        return self._held and self._left() > 0

    @property
    def rights(self) -> tuple[Right, ...]:
        """What the Lease needs."""
        return tuple(
            Right(verb, "leases", "coordination.k8s.io", self._namespace)
            for verb in ("create", "get", "update")
        )

    @property
    def holder(self) -> str:
        """Who holds the Lease as far as we saw, "" for none."""
        return self._lease.holder

    async def acquire(self) -> Promises:
        """Wait until the Lease is ours; what its last holder promised comes with it."""
        while True:
            try:
                self._held = await self._in_time(self._try)
            except RegistryError as error:
                text = str(error)
                if isinstance(error, KubeDenied):
                    text = str(why_denied(error, await missing_rights(self._client, self.rights)))
                self._report.warning("election", "the Lease cannot be read or written", error=text)
            if self.leads:
                return self._promises()
            # Spread, so that replicas do not knock at the same moment.
            spread = random.uniform(1.0, 1.2)  # noqa: S311 - no secret
            await self._clock.sleep(self._periods.retry * spread)

    async def keep(self) -> None:
        """Renew until it fails. Raises LeadershipLost, at the deadline at the latest."""
        await aio.first_to_end(self._renew(), self._expire())

    def check(self) -> None:
        """Raise LeadershipLost unless we may act at this moment."""
        if not self.leads:
            raise self._lost("not renewed in time" if self._held else "the Lease is not ours")

    async def promise(self, promises: Promises) -> None:
        """Write what we are about to do, in place of what was promised before.

        Raises LeadershipLost when another replica holds the Lease, RegistryError when it is not
        sure that the promise was written: then it must not be acted upon.
        """
        self.check()
        text = codec.encode(
            {name: {"uid": each.uid, "cidrs": each.cidrs} for name, each in promises.items()}
        ).decode()
        await self._in_time(lambda: self._write({}, {PENDING: text}))

    async def release(self) -> None:
        """Let a successor begin at once; promises stay."""
        if not self._held:
            return
        spec: dict[str, object] = {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._in_time(lambda: self._write(spec, {}), RELEASE_SECONDS)
        except RegistryError as error:
            _log.info("Lease not released; it runs out by itself", error=str(error))
        self._held = False

    # ------------------------------------------------------------------ time

    def _left(self) -> float:
        """Seconds until we must stop, unless a renewal is confirmed before."""
        return self._renewed_at + self._periods.renew_deadline - self._clock.monotonic()

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(self._periods.retry)
            try:
                await self._in_time(lambda: self._write({}, {}))
            except LeadershipLost:
                raise
            except RegistryError as error:
                self._report.warning("renew", "Lease not renewed", error=str(error))

    async def _expire(self) -> None:
        """Raise LeadershipLost at the deadline, whatever answer is outstanding."""
        while (left := self._left()) > 0:
            await self._clock.sleep(left)
        raise self._lost(f"not renewed for {self._periods.renew_deadline:g} s")

    async def _in_time(self, work: Callable[[], Awaitable[T]], most: float | None = None) -> T:
        """Do `work`, a request or two; RegistryUnavailable when the answer takes too long.

        What an abandoned request still does at the server is found out by the next: each needs the
        version that was seen last.
        """
        most = self._periods.attempt if most is None else most
        task = asyncio.ensure_future(work())
        timer = asyncio.ensure_future(self._clock.sleep(most))
        try:
            await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise RegistryUnavailable(f"no answer about the Lease for {most:g} s")
        finally:
            await aio.end({task, timer})

    # ------------------------------------------------------------------ the object

    async def _try(self) -> bool:
        """One look at the Lease; True when it is ours now."""
        async with self._lock:
            try:
                found = await self._client.get_lease(self._namespace, self._name)
            except KubeNotFound:
                return await self._create()
            now = self._clock.monotonic()
            if self._seen is None or found.term != self._seen.term:
                self._seen, self._seen_at = found, now
            self._lease = found
            holder = found.holder
            if holder and now < self._seen_at + self._respect(found):
                return False
            try:
                await self._put(found, self._ours(found, taken=holder != self.identity), {})
            except KubeModified:
                return False  # another replica was quicker
            _log.info("Lease taken", name=self._name, identity=self.identity, after=holder or None)
            return True

    def _respect(self, found: LeaseObject) -> float:
        """Seconds from when a Lease with a holder was seen to change until we may take it.

        One that we hold by a write which was never confirmed we leave to others first: a replica
        that is not answered would hold it for ever, and act never.
        """
        if found.holder != self.identity:
            return float(found.duration)
        confirmed = found.term == self._confirmed
        return 0.0 if confirmed else found.duration + self._periods.renew_deadline

    async def _create(self) -> bool:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._ours(LeaseObject(), taken=False),
        }
        began = self._clock.monotonic()
        try:
            made = await self._client.create_lease(self._namespace, body)
        except KubeExists:
            return False
        self._written(made, began)
        _log.info("Lease made", name=self._name, identity=self.identity)
        return True

    async def _write(self, spec: Mapping[str, object], annotations: Mapping[str, str]) -> None:
        """Renew, with some fields of the spec and some annotations replaced."""
        async with self._lock:
            if not self._held:
                raise self._lost("the Lease is not ours")
            for attempt in (1, 2):
                mine = {**self._ours(self._lease, taken=False), **spec}
                try:
                    await self._put(self._lease, mine, annotations)
                    return
                except KubeModified:
                    # Another replica took it, or a write of ours arrived whose answer was lost.
                    pass
                except KubeNotFound as error:
                    raise self._lost("the Lease was deleted") from error
                try:
                    self._lease = await self._client.get_lease(self._namespace, self._name)
                except KubeNotFound as error:
                    raise self._lost("the Lease was deleted") from error
                if self.holder != self.identity or attempt == 2:
                    raise self._lost(f"the Lease is held by {self.holder or 'no replica'}")

    def _lost(self, why: str) -> LeadershipLost:
        self._held = False
        return LeadershipLost(why)

    async def _put(
        self, lease: LeaseObject, spec: Mapping[str, object], annotations: Mapping[str, str]
    ) -> None:
        began = self._clock.monotonic()
        body = lease.changed(spec, annotations)
        written = await self._client.update_lease(self._namespace, self._name, body)
        if written.holder != spec["holderIdentity"]:
            raise KubeUndecodable(f"Lease {self._name}: what was written is not what is there")
        self._written(written, began)

    def _written(self, lease: LeaseObject, began: float) -> None:
        """A write that was sent at `began` is confirmed."""
        self._lease, self._confirmed, self._renewed_at = lease, lease.term, began

    def _ours(self, lease: LeaseObject, *, taken: bool) -> dict[str, object]:
        """The fields of the spec that say that we hold it."""
        now = datetime.fromtimestamp(self._clock.now().wall, timezone.utc)
        stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._periods.duration)),
            "renewTime": stamp,
            "acquireTime": stamp if taken else lease.acquired or stamp,
            "leaseTransitions": lease.transitions + 1 if taken else lease.transitions,
        }

    def _promises(self) -> Promises:
        text = self._lease.annotations.get(PENDING, "{}")
        try:
            said = codec.parts(text.encode(), "promises")
        except KubeUndecodable as error:
            _log.error("the promises in the Lease cannot be read", name=self._name, why=error.what)
            return {}
        promises: dict[str, Promise] = {}
        for node, part in said.items():
            try:
                promises[node] = codec.read(part, Promise, "promise")
            except KubeUndecodable as error:
                _log.error("a promise in the Lease cannot be read", node=node, why=error.what)
        return promises
