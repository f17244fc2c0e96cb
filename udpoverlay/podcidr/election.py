"""Who of several replicas acts: a coordination.k8s.io Lease, and what its holder is about to do.

Owns: the Lease object, when it may be taken over (k8s.io/client-go tools/leaderelection, with its
periods), and the promises written into it. Must not know: what a promise is about.

A Lease alone does not keep two replicas apart: a holder that was stopped for a minute wakes up in
the middle of what it was doing. So nothing is done before it was promised *inside* the Lease, whose
every write needs the version seen last:

    holder        promise {a: range 1}  ──► Lease v8 ──► write range 1 to Node a … (stopped)
    successor     Lease v8 is stale: takes it, and the promise with it, as v9
                  does what was promised, to the letter; only then anything of its own
    old holder    wakes up: its write to Node a is the same one, or refused; its next promise needs
                  v8 and is refused: it is no holder any more
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from udpoverlay.errors import RegistryConflict, RegistryError
from udpoverlay.kubernetes.client import Json, KubeClient
from udpoverlay.kubernetes.diagnose import Right, missing_rights, why_denied
from udpoverlay.kubernetes.errors import KubeDenied, KubeExists, KubeModified, KubeNotFound
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.registry.kubernetes.own_node import Times

__all__ = ["ElectionPeriods", "Leadership", "LeadershipLost", "Promises"]

_log = get_logger(__name__)

PENDING = "podcidr-controller.udpoverlay/pending"
"""The annotation of the Lease that holds the promises."""

Promises = Mapping[str, Any]
"""JSON, opaque here."""


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
    """Between two renewals, or two looks at somebody else's Lease."""


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
        times: Times,
    ) -> None:
        """`identity` is unique to this process."""
        self.identity = identity
        self.leads = False
        self._client = client
        self._namespace, self._name = namespace, name
        self._base = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._periods = periods
        self._times = times
        self._lock = asyncio.Lock()
        self._lease: Json = {}
        self._seen: Json = {}
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self._report = RateLimited(_log, times.clock, per_minute=2)

    @property
    def rights(self) -> tuple[Right, ...]:
        """What the Lease needs."""
        return tuple(
            Right(verb, "leases", "coordination.k8s.io", self._namespace)
            for verb in ("create", "get", "update")
        )

    @property
    def holder(self) -> str:
        """Who holds the Lease as far as we saw, "" when nobody does."""
        return str(_spec(self._lease).get("holderIdentity") or "")

    async def acquire(self) -> Promises:
        """Wait until the Lease is ours; what its last holder promised comes with it."""
        while True:
            try:
                if await self._try():
                    self.leads = True
                    return self._promises()
            except RegistryError as error:
                text = str(error)
                if isinstance(error, KubeDenied):
                    text = str(why_denied(error, await missing_rights(self._client, self.rights)))
                self._report.warning("election", "the Lease cannot be read or written", error=text)
            # Spread, so that replicas do not knock at the same moment.
            spread = random.uniform(1.0, 1.2)  # noqa: S311 - no secret
            await self._times.sleep(self._periods.retry * spread)

    async def keep(self) -> None:
        """Renew until it fails. Raises LeadershipLost."""
        while True:
            await self._times.sleep(self._periods.retry)
            try:
                await self._write(None)
            except LeadershipLost:
                raise
            except RegistryError as error:
                overdue = self._times.clock() - self._renewed_at
                self._report.warning("renew", "Lease not renewed", error=str(error))
                if overdue >= self._periods.renew_deadline:
                    raise self._lost(f"not renewed for {overdue:.0f} s") from error

    async def promise(self, promises: Promises) -> None:
        """Write what we are about to do, in place of what was promised before.

        Raises LeadershipLost when somebody else holds the Lease, RegistryError when it is not sure
        that the promise was written: then it must not be acted upon.
        """
        await self._write(promises)

    async def release(self) -> None:
        """Let a successor begin at once; promises stay."""
        if not self.leads:
            return
        try:
            await self._write(None, release=True)
        except RegistryError as error:
            _log.info("Lease not released; it runs out by itself", error=str(error))
        self.leads = False

    # ------------------------------------------------------------------ the object

    async def _try(self) -> bool:
        """One look at the Lease; True when it is ours now."""
        async with self._lock:
            try:
                found = await self._client.request("GET", f"{self._base}/{self._name}")
            except KubeNotFound:
                return await self._create()
            spec = _spec(found)
            if spec != _spec(self._seen) or not self._seen:
                self._seen, self._seen_at = found, self._times.clock()
            self._lease = found
            holder = self.holder
            respected = self._seen_at + float(spec.get("leaseDurationSeconds") or 0)
            if holder and holder != self.identity and self._times.clock() < respected:
                return False
            mine = self._ours(found, taken=holder != self.identity)
            try:
                await self._put(mine)
            except KubeModified:
                return False  # somebody was quicker
            _log.info("Lease taken", name=self._name, identity=self.identity, after=holder or None)
            return True

    async def _create(self) -> bool:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
        }
        body = self._ours(lease, taken=False)
        try:
            self._lease = await self._client.request("POST", self._base, body)
        except KubeExists:
            return False
        self._renewed_at = self._times.clock()
        _log.info("Lease made", name=self._name, identity=self.identity)
        return True

    async def _write(self, promises: Promises | None, *, release: bool = False) -> None:
        """Renew, with new promises or (None) the present ones."""
        async with self._lock:
            if not self.leads:
                raise self._lost("the Lease is not ours")
            for attempt in (1, 2):
                lease = self._ours(self._lease, taken=False)
                if promises is not None:
                    lease = _with_promises(lease, promises)
                if release:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                try:
                    await self._put(lease)
                    return
                except KubeModified:
                    # Somebody took it, or a write of ours arrived whose answer was lost.
                    pass
                except KubeNotFound as error:
                    raise self._lost("the Lease was deleted") from error
                try:
                    self._lease = await self._client.request("GET", f"{self._base}/{self._name}")
                except KubeNotFound as error:
                    raise self._lost("the Lease was deleted") from error
                if self.holder != self.identity or attempt == 2:
                    raise self._lost(f"the Lease is held by {self.holder or 'nobody'}")

    def _lost(self, why: str) -> LeadershipLost:
        self.leads = False
        return LeadershipLost(why)

    async def _put(self, lease: Json) -> None:
        began = self._times.clock()
        self._lease = await self._client.request("PUT", f"{self._base}/{self._name}", lease)
        self._renewed_at = began

    def _ours(self, lease: Json, *, taken: bool) -> Json:
        stamp = self._stamp()
        spec = dict(_spec(lease))
        transitions = int(spec.get("leaseTransitions") or 0)
        spec |= {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._periods.duration)),
            "renewTime": stamp,
            "acquireTime": stamp if taken else spec.get("acquireTime") or stamp,
            "leaseTransitions": transitions + 1 if taken else transitions,
        }
        return {**lease, "spec": spec}

    def _stamp(self) -> str:
        return self._times.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _promises(self) -> Promises:
        text = (self._lease.get("metadata") or {}).get("annotations", {}).get(PENDING, "{}")
        try:
            promises = json.loads(text)
        except ValueError:
            promises = None
        if not isinstance(promises, dict):
            _log.error("the promises in the Lease cannot be read", name=self._name, text=text)
            return {}
        return promises


def _spec(lease: Json) -> Json:
    return lease.get("spec") or {}


def _with_promises(lease: Json, promises: Promises) -> Json:
    meta = dict(lease["metadata"])
    text = json.dumps(promises, separators=(",", ":"), sort_keys=True)
    meta["annotations"] = {**(meta.get("annotations") or {}), PENDING: text}
    return {**lease, "metadata": meta}
