"""Leases in etcd v3, as flannel keeps them: claim, renew, watch.

Owns: which transaction carries out which step, the term of a lease, who owns an entry.
Must not know: gRPC (client.py), how a lease is spelled (codec.py), when to renew
(control.py), which subnet to take (model/acquire.py). docs/registry.md is the written schema.

Every write is a transaction that compares first, so a host never overwrites another's claim and a
request that was carried out twice (its first reply got lost) changes nothing the second time:

    create   no such key            → put with a fresh etcd lease; lost race: decide again
    renew    unchanged since we saw → put with a fresh etcd lease
    delete   unchanged since we saw → delete

An entry without an etcd lease (id 0) is a reservation by an administrator and stays without one.

Each put hangs its entry on a new etcd lease, as flannel's does. The one before, and one whose put
was refused, hold no key and are revoked. An etcd lease is never revoked while a put that names it
may still be carried out: a revocation takes the entry with it, and looks like an administrator's.
So after a put without an answer the entry is read back, and an etcd lease in doubt is left alone
until a later put has made the doubtful one impossible.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import replace

from netaddr import IPAddress

from udpoverlay.clock import SYSTEM_CLOCK, Clock
from udpoverlay.errors import RegistryConflict, RegistryError, RegistryUnavailable
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.acquire import RACE_RETRIES, Create, Delete, Listing, Reuse, decide
from udpoverlay.model.config import EtcdConfig
from udpoverlay.model.events import Added, Event, Removed, Snapshot
from udpoverlay.model.lease import Lease, LeaseAttrs, Subnet
from udpoverlay.model.netconf import NetConf, parse_netconf
from udpoverlay.model.schedule import LEASE_SECONDS
from udpoverlay.registry.etcd.client import EtcdClient, EtcdTimeouts
from udpoverlay.registry.etcd.codec import BadLeaseValue, decode_attrs, encode_attrs
from udpoverlay.registry.etcd.entries import LeaseReader, Listed, Paths
from udpoverlay.registry.etcd.errors import EtcdCompacted
from udpoverlay.registry.etcd.grants import Grants
from udpoverlay.registry.etcd.listing import pages
from udpoverlay.registry.etcd.messages import (
    delete_op,
    get_op,
    if_absent,
    if_unchanged,
    put_op,
)
from udpoverlay.registry.etcd.values import (
    KeyValue,
)
from udpoverlay.registry.etcd.watch import Changes, Follower, FollowTiming, Range, Reset
from udpoverlay.supervisor import Supervisor

__all__ = ["EtcdRegistry"]

_log = get_logger(__name__)
_TIMEOUTS = EtcdTimeouts()
_TIMING = FollowTiming()
_OWN_CHECKS = 12
_FRESH = -1
"""`registry_lease` of a lease that is to get its etcd lease when it is written."""


class EtcdRegistry:
    """Implements registry.base.Registry."""

    def __init__(  # noqa: PLR0913 - what differs between a daemon and a test is a parameter
        self,
        config: EtcdConfig,
        *,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        term: int = LEASE_SECONDS,
        timeouts: EtcdTimeouts = _TIMEOUTS,
        timing: FollowTiming = _TIMING,
    ) -> None:
        """`clock` gives Lease.expires_at; `term` is in seconds. Raises OperatorError."""
        self._client = EtcdClient(config, timeouts=timeouts)
        self._paths = Paths(config.prefix)
        self._clock = clock
        self._rng = rng if rng is not None else random.SystemRandom()
        self._grants = Grants(self._client, clock, term)
        self._timing = timing
        self._limited = RateLimited(_log, clock.monotonic)
        self._supervisor = Supervisor(clock)
        self._followers: dict[str, Follower[Listed]] = {}

    # ------------------------------------------------------------------ configuration

    async def stored_public_ips(self) -> tuple[str, str]:
        """etcd knows none."""
        return "", ""

    async def network_config(self) -> NetConf:
        """Read `<prefix>/config`; see registry.base."""
        key = self._paths.config
        reply = await self._client.range(key)
        if not reply.kvs:
            name = key.decode()
            raise RegistryUnavailable(
                f"etcd holds no network configuration under {name}",
                fix=f"with etcd's v3 API: ETCDCTL_API=3 etcdctl put {name} "
                '\'{"Network": "10.5.0.0/16"}\' (keys of the v2 API are not seen)',
            )
        return parse_netconf(reply.kvs[0].value.decode("utf-8", "replace")).validated()

    # ------------------------------------------------------------------ claiming

    async def acquire(
        self, attrs: LeaseAttrs, previous: Subnet | None, conf: NetConf | None = None
    ) -> Lease:
        """Claim a subnet; see registry.base. A lost race is tried again."""
        conf = conf or await self.network_config()
        for _ in range(RACE_RETRIES + 1):
            decision = decide(await self._listing(), attrs, previous, conf, self._rng)
            if isinstance(decision, Delete):
                for stale in decision.leases:
                    _log.info("own lease does not fit the configuration", subnet=stale.subnet)
                    await self._delete(stale)
                    self._grants.loosen(stale.registry_lease)
                continue
            if isinstance(decision, Reuse):
                wanted = replace(decision.lease, attrs=attrs)
            else:
                if decision.note:
                    _log.info("previous subnet not taken", why=decision.note)
                wanted = Lease(decision.subnet, attrs, registry_lease=_FRESH)
            lease = await self._write(wanted)
            if lease is not None:
                how = _how(decision)
                _log.info("lease acquired", subnet=lease.subnet, how=how)
                return lease
            self._client.counters["lost_races"] += 1
        raise RegistryConflict(
            f"no subnet after {RACE_RETRIES + 1} attempts: other hosts were faster each time",
            fix="start again; if it persists, look for a host that writes leases without end",
        )

    async def _listing(self) -> Listing:
        while True:
            listed = self._reader().listing()
            try:
                async for _, page in pages(
                    self._client, self._paths.leases.parts, self._timing.page
                ):
                    for kv in page.kvs:
                        listed.add(kv)
            except EtcdCompacted:
                continue  # compacted between two pages: again, at a newer revision
            return Listing(tuple(listed.leases), tuple(listed.unreadable))

    async def _delete(self, lease: Lease) -> None:
        key = self._paths.of(lease.subnet)
        await self._client.txn([if_unchanged(key, lease.revision)], [delete_op(key)])

    # ------------------------------------------------------------------ renewing

    async def renew(self, lease: Lease) -> Lease:
        """Extend `lease`; see registry.base.

        The entry may have changed since we saw it: written again on our behalf, damaged, turned
        into a reservation, or gone because it ran out while etcd could not be reached. As long as
        it names no other host it is ours to write.
        """
        return await self._rewrite(lease, {lease.attrs.public_ip})

    async def republish(self, lease: Lease, attrs: LeaseAttrs) -> Lease:
        """Write other attributes, and a term like a renewal's; see registry.base."""
        ours = {lease.attrs.public_ip, attrs.public_ip}
        # Connections from an address that we have no more are dead, and take long to say so.
        self._client.reconnect()
        return await self._rewrite(replace(lease, attrs=attrs), ours)

    async def _rewrite(self, lease: Lease, ours: Collection[IPAddress]) -> Lease:
        """Write `lease` unless its entry has a public IP that is not one of `ours`."""
        for _ in range(RACE_RETRIES + 1):
            renewed = await self._write(lease)
            if renewed is not None:
                return renewed
            current = await self._current(lease.subnet)
            if lease.registry_lease != _FRESH:
                self._grants.loosen(lease.registry_lease)  # the entry hangs on another one by now
            if current is None:
                lease = replace(lease, revision=0, registry_lease=_FRESH)
                continue
            holder = _holder(current)
            if holder is not None and holder not in ours:
                raise RegistryConflict(
                    f"subnet {lease.subnet} is now leased by {holder}, not by us "
                    f"({lease.attrs.public_ip})",
                    fix="two hosts claimed one subnet: this one stops; restart it and its "
                    "containers to get a free subnet",
                )
            # A damaged value says nothing of a reservation, though its key has no etcd lease.
            kept = current.lease or (0 if holder is not None else _FRESH)
            lease = replace(lease, revision=current.mod_revision, registry_lease=kept)
        raise RegistryUnavailable(f"the lease of {lease.subnet} changes faster than it is renewed")

    async def _current(self, subnet: Subnet) -> KeyValue | None:
        reply = await self._client.range(self._paths.of(subnet))
        return reply.kvs[0] if reply.kvs else None

    async def _write(self, lease: Lease) -> Lease | None:
        """Put `lease` if its entry is as it was at `lease.revision` (0: absent); None if it is not.

        `registry_lease` 0 keeps it without a term, anything else means a fresh etcd lease.
        """
        key, value = self._paths.of(lease.subnet), encode_attrs(lease.attrs)
        compare = if_unchanged(key, lease.revision) if lease.revision else if_absent(key)
        grant, expires_at = 0, None
        if lease.registry_lease:
            grant, expires_at = await self._grants.make()
        try:
            reply = await self._client.txn([compare], [put_op(key, value, grant)], [get_op(key)])
        except RegistryError as error:
            revision = await self._carried_out(lease, grant, error)
        else:
            revision = reply.header.revision
            if not reply.succeeded:
                found = reply.ranges[0].kvs
                if not (grant and found and found[0].lease == grant):
                    await self._grants.tidy()
                    return None
                revision = found[0].mod_revision  # an earlier try of this request got through
        self._grants.holds(grant)
        if lease.registry_lease != _FRESH:
            self._grants.loosen(lease.registry_lease)
        await self._grants.tidy()
        return replace(lease, expires_at=expires_at, revision=revision, registry_lease=grant)

    async def _carried_out(self, lease: Lease, grant: int, error: RegistryError) -> int:
        """The revision of a put that failed or found no answer; `error` when it was not done."""
        try:
            current = await self._current(lease.subnet)
        except RegistryError:
            raise error from None
        if grant and current is not None and current.lease == grant:
            return current.mod_revision
        if not lease.revision:
            # A new claim that is not relied on: if it is carried out after all, it may vanish.
            await self._grants.tidy([grant] if grant else [])
        raise error

    async def complete(self, lease: Lease) -> None:
        """Nothing to tell etcd."""

    # ------------------------------------------------------------------ watching

    async def watch(self) -> AsyncIterator[Event]:
        """All leases, for ever; see registry.base."""
        reader = self._reader()
        follower = self._follow(self._paths.leases, reader, self._timing)

        async def events(item: Reset[Listed] | Changes) -> list[Event]:
            return _events(item, reader)

        async for event in self._followed(_LEASES, follower, events):
            yield event

    async def watch_own(self, lease: Lease) -> AsyncIterator[Event]:
        """Follow exactly one key, for ever; see registry.base.

        When etcd lost its history and our entry with it, that is not a revocation: then an empty
        Snapshot with `lost_history` comes, and a Snapshot with our lease if the entry survived.
        """
        reader = self._reader()
        # Both watches share a connection: the other one finds a member that fell silent.
        timing = replace(self._timing, check_every=_OWN_CHECKS * self._timing.check_every)
        own = Range.of(self._paths.of(lease.subnet))
        follower = self._follow(own, reader, timing, written_at=lease.revision)

        async def events(item: Reset[Listed] | Changes) -> list[Event]:
            return await self._own_events(item, lease.subnet, reader)

        async for event in self._followed("etcd-own-lease", follower, events):
            yield event

    async def _followed(
        self,
        name: str,
        follower: Follower[Listed],
        events: Callable[[Reset[Listed] | Changes], Awaitable[list[Event]]],
    ) -> AsyncIterator[Event]:
        """What `events` makes of what `follower` tells, for ever.

        An unforeseen error is logged and counted, and a listing follows: it must not leave
        a daemon whose routes go stale.
        """
        self._followers[name] = follower
        while True:
            try:
                async with contextlib.aclosing(follower.follow()) as items:
                    async for item in items:
                        for event in await events(item):
                            yield event
            except Exception as error:
                follower.begin_again()
                await self._clock.sleep(self._supervisor.failed(name, error))

    async def _own_events(
        self, item: Reset[Listed] | Changes, subnet: Subnet, reader: LeaseReader
    ) -> list[Event]:
        if isinstance(item, Reset):
            reader.adopt(item.entries)
            leases = [await self._timed(lease) for lease in item.entries.leases]
            if item.lost:
                return [Snapshot(tuple(leases), item.revision, lost_history=True)]
            if not leases and not item.entries.unreadable:
                return [Removed(subnet, item.revision)]
            return [self._own(found) for found in leases]
        events: list[Event] = []
        for event in item.events:
            if event.deleted:
                events.append(Removed(subnet, event.kv.mod_revision))
            elif (found := reader.put(event.kv)) is not None:
                events.append(self._own(await self._timed(found)))
        return events

    def _own(self, lease: Lease) -> Added:
        """An event of our entry; foreign when it hangs on an etcd lease that we did not grant."""
        grant = lease.registry_lease
        return Added(lease, foreign=grant != 0 and self._grants.expires_at(grant) is None)

    async def _timed(self, lease: Lease) -> Lease:
        """Fill in when an entry runs out that another client wrote for us: one request, own key."""
        if lease.expires_at is not None or not lease.registry_lease:
            return lease
        started = self._clock.monotonic()
        try:
            seconds, _ = await self._client.time_to_live(lease.registry_lease)
        except RegistryError as error:
            # Without an answer it counts as due now, and the renewal finds out.
            self._report("term unknown", error)
            seconds = 0
        return replace(lease, expires_at=started + max(0, seconds))

    def _reader(self) -> LeaseReader:
        return LeaseReader(
            self._paths,
            self._client.counters,
            self._limited,
            lambda kv: self._grants.expires_at(kv.lease),
        )

    def _follow(
        self, followed: Range, reader: LeaseReader, timing: FollowTiming, written_at: int = 0
    ) -> Follower[Listed]:
        return Follower(
            self._client,
            followed,
            reader.listing,
            counters=self._client.counters,
            report=self._report,
            written_at=written_at,
            timing=timing,
            clock=self._clock,
        )

    def _report(self, event: str, error: RegistryError) -> None:
        self._limited.warning(event, f"etcd watch {event}", cause=error.what, fix=error.fix)

    # ------------------------------------------------------------------ life

    def counters(self) -> dict[str, int]:
        """Plain counts since start, all names always present; see registry.base."""
        counts = {name: self._client.counters[name] for name in _COUNTERS}
        counts["task_failures"] = self._supervisor.failures
        return counts

    def troubles(self) -> dict[str, str]:
        """See registry.base: watches that are broken, and work that failed."""
        broken = {name: each.trouble for name, each in self._followers.items() if each.trouble}
        return {**broken, **self._supervisor.troubles()}

    def watch_age(self) -> float | None:
        """See registry.base."""
        leases = self._followers.get(_LEASES)
        if leases is None or leases.heard_at is None:
            return None
        return self._clock.monotonic() - leases.heard_at

    async def aclose(self) -> None:
        """Close connections; leases stay."""
        self._limited.flush()
        await self._client.aclose()


_LEASES = "etcd-leases"
"""The watch of all leases, by name."""
_COUNTERS = (
    "requests",
    "endpoint_failures",
    "authentications",
    "watch_breaks",
    "watch_checks",
    "watch_compactions",
    "watch_history_lost",
    "watch_snapshots",
    "watch_stalls",
    "entries_beside",
    "entries_skipped",
    "lost_races",
    "leases_revoked",
    "task_failures",
)


def _events(item: Reset[Listed] | Changes, reader: LeaseReader) -> list[Event]:
    """What a listing, or some changes, mean for leases."""
    if isinstance(item, Reset):
        reader.adopt(item.entries)
        return [Snapshot(item.entries.by_age(), item.revision, item.lost)]
    events: list[Event] = []
    for event in item.events:
        if event.deleted:
            if (subnet := reader.deleted(event.kv.key)) is not None:
                events.append(Removed(subnet, event.kv.mod_revision))
        elif (lease := reader.put(event.kv)) is not None:
            events.append(Added(lease))
    return events


def _how(decision: Reuse | Create) -> str:
    if isinstance(decision, Reuse):
        return "reservation" if decision.reservation else "own lease again"
    return "previous subnet" if decision.previous else "free subnet"


def _holder(kv: KeyValue) -> object:
    """PublicIP of an entry; None when the value names no host."""
    try:
        return decode_attrs(kv.value).public_ip
    except BadLeaseValue:
        return None
