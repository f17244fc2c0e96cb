"""The life of our lease and of all others: registry in, routes out, renewals back.

Owns: when routes are published, when the lease is renewed, what ends the daemon.
Must not know: which registry, sockets, C. Registry, peers, sink and clock are parameters.

    registry.watch ──► peers.apply ──► sink.replace
    registry.watch_own ──► renewed by others · revoked · claimed by another host
    clock ──► registry.renew, before the term is over; tried again every minute

What a registry that cannot be reached changes: nothing. Every known peer keeps its route, and our
own lease is renewed when the registry is back, even if it ran out meanwhile, unless another host
took the subnet. Only these end the daemon:

    our entry was deleted while it still had a term   `run` returns: an administrator revoked it
    another host holds our subnet                     `run` raises RegistryConflict

A host that publishes our own public IP cannot be distinguished from us in the registry: it takes
our entry for its own and renews it. Both go on with one subnet, as two flannelds do, but here it
is an error in the log at each such renewal, and a counter.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Protocol

from netaddr import IPNetwork

from udpoverlay.aio import event_or_sleep, first_to_end
from udpoverlay.clock import SYSTEM_CLOCK, Clock
from udpoverlay.errors import RegistryConflict, RegistryError
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.events import Added, Removed, Snapshot
from udpoverlay.model.lease import Lease, LeaseAttrs
from udpoverlay.model.refusal import Refusal
from udpoverlay.model.schedule import LEASE_SECONDS, LONGEST_SLEEP, Moment, Renewal, jump
from udpoverlay.peers.peers import Changes, Peers
from udpoverlay.peers.report import PeerLog
from udpoverlay.registry.base import Registry, RenewingRegistry

__all__ = ["Control", "RouteSink"]

_log = get_logger(__name__)

_PUBLISH_SHARE = 1
"""After a publication, pause this many times its duration: in a burst the loop stays half free."""
_PUBLISH_PAUSE = 0.002
"""Seconds, the least pause: what comes in the meantime is published together."""
_JUMP_SECONDS = 5.0
"""A wall clock that ran ahead or behind by more than this is worth a line."""
_EVENTS_A_TURN = 100
"""Events taken in before the event loop gets a turn, when the registry has more at once."""
_SUCCESSOR_SECONDS = 60.0
"""From the offer of our tunnel to its end: the other waits for its registry in between."""
_REPUBLISH_SECONDS = 2.0
"""Between two attempts to publish another address."""
_COUNTERS = (
    "events",
    "publications",
    "publish_failures",
    "renewals",
    "renewal_failures",
    "foreign_renewals",
    "republications",
)


class RouteSink(Protocol):
    """Where routes go (dataplane.Engine)."""

    def replace(self, routes: Mapping[IPNetwork, Endpoint]) -> None:
        """Publish `routes` as the whole of what is known; the mapping is only read during the call.

        Raises MemoryError or OSError when the table cannot be built; then the old one stays.
        """


class Control:
    """Follows the registry for one host that has its lease. Call `run` once."""

    def __init__(  # noqa: PLR0913 - its surroundings are its parameters
        self,
        registry: Registry,
        sink: RouteSink,
        lease: Lease,
        peers: Peers,
        *,
        renew_margin: float = 3600.0,
        clock: Clock = SYSTEM_CLOCK,
        on_first_routes: Callable[[], None] = lambda: None,
    ) -> None:
        """`peers` is empty and knows our lease. `renew_margin`: seconds before the end of the term.

        `lease.expires_at` counts on the clock's monotonic side. `on_first_routes` is called once,
        when the routes of the first snapshot have been published.
        """
        self._registry = registry
        self._renewing = registry if isinstance(registry, RenewingRegistry) else None
        self._sink = sink
        self._clock = clock
        self._on_first_routes = on_first_routes
        self._lease = lease
        self._peers = peers
        self._changing = asyncio.Lock()
        """Held while `peers` is between two steps of one change: no routes are published then."""
        self._turns = 0
        now = clock.now()
        self._renewal = Renewal(now, _term(lease, now), renew_margin)
        self._moving: LeaseAttrs | None = None
        """What our lease is to tell, and does not tell yet."""
        self._successor_until = float("-inf")
        self._dirty = asyncio.Event()
        self._wake = asyncio.Event()
        self._limited = RateLimited(_log, clock.monotonic)
        self._peer_log = PeerLog(clock)
        self._counters: Counter[str] = Counter()

    # ------------------------------------------------------------------ what others may ask

    @property
    def lease(self) -> Lease:
        """Our lease as last written."""
        return self._lease

    def expires_in(self) -> float | None:
        """Seconds until our lease runs out (0: it has), None when it never does."""
        if self._lease.expires_at is None:
            return None
        return max(0.0, self._lease.expires_at - self._clock.monotonic())

    def peers(self) -> Iterator[tuple[Lease, Refusal | None]]:
        """Leases of all other hosts, each with the reason why it has no route."""
        return self._peers.leases()

    def peer_count(self) -> int:
        """How many leases of other hosts are known."""
        return len(self._peers)

    def counters(self) -> dict[str, int]:
        """Plain counts since start, and how many leases are held or have no route now."""
        return {
            **{name: self._counters[name] for name in _COUNTERS},
            "peers_held": self._peers.held,
            "leases_waiting": self._peers.waiting,
            "leases_refused": self._peers.refused,
        }

    def expect_successor(self, seconds: float = _SUCCESSOR_SECONDS) -> None:
        """For so long another daemon of this host may renew our lease: it takes over from us."""
        self._successor_until = self._clock.monotonic() + seconds

    def move(self, attrs: LeaseAttrs) -> None:
        """Have our lease tell `attrs` to the others, as soon as the registry can be written."""
        self._moving = attrs
        self._wake.set()

    # ------------------------------------------------------------------ life

    async def run(self) -> None:
        """Follow and renew for ever.

        Returns when the lease was revoked. Raises RegistryConflict when another host has it.
        """
        works: list[Coroutine[Any, Any, None]] = [self._follow(), self._publish(), self._tick()]
        if self._renewing is not None:
            works.append(self._follow_own(self._renewing))
        await first_to_end(*works)

    # ------------------------------------------------------------------ all leases

    async def _follow(self) -> None:
        async for event in self._registry.watch():
            self._counters["events"] += 1
            whole = isinstance(event, Snapshot)
            if isinstance(event, Snapshot):
                _log.info("lease snapshot", leases=len(event.leases), revision=event.revision)
            await self._change(self._peers.steps(event, self._clock.monotonic()), whole=whole)
            if isinstance(event, Snapshot) and event.lost_history:
                _log.error(
                    "the registry lost its history: peers that it forgot keep their routes",
                    held=self._peers.held,
                    for_seconds=LEASE_SECONDS,
                )

    async def _change(self, steps: Iterable[Changes], *, whole: bool = False) -> None:
        """Carry out a change of the peers step by step; everything else runs in between."""
        async with self._changing:
            for changes in steps:
                self._peer_log.report(changes, self._lease.subnet, whole=whole)
                if changes.routes:
                    self._dirty.set()
                self._turns += 1
                # A single event is cheap, but thousands may be waiting in one reply.
                if whole or self._turns % _EVENTS_A_TURN == 0:
                    await asyncio.sleep(0)
            if whole:
                self._dirty.set()  # also when there is no peer: the first routes tell who waits

    async def _publish(self) -> None:
        """Publish at once after quiet; in a burst, once for all that came during the pause."""
        while True:
            await self._dirty.wait()
            async with self._changing:
                self._dirty.clear()
                started = self._clock.monotonic()
                published = self._replace()
            if not published:
                self._dirty.set()
                await self._clock.sleep(1.0)
                continue
            self._counters["publications"] += 1
            if self._counters["publications"] == 1:
                self._on_first_routes()
            took = self._clock.monotonic() - started
            _log.v(2).info("routes published", routes=len(self._peers.routes), seconds=took)
            await self._clock.sleep(max(_PUBLISH_PAUSE, _PUBLISH_SHARE * took))

    def _replace(self) -> bool:
        try:
            self._sink.replace(self._peers.routes)
        except (MemoryError, OSError) as error:
            self._counters["publish_failures"] += 1
            self._limited.error("publish", "routes not published", reason=error)
            return False
        return True

    # ------------------------------------------------------------------ our own lease

    async def _follow_own(self, registry: RenewingRegistry) -> None:
        """Return when our lease was revoked; raise RegistryConflict when another host has it."""
        async for event in registry.watch_own(self._lease):
            if isinstance(event, Removed):
                if 0 < event.revision < self._lease.revision:
                    continue  # we wrote the entry again since; a watch may lag behind our writes
                if not self._renewal.expired(self._clock.now()):
                    _log.error("our lease was revoked", subnet=self._lease.subnet)
                    return
                _log.error("our lease has run out, claiming it again", subnet=self._lease.subnet)
                self._renew_now()
            elif isinstance(event, Snapshot):
                _log.error("the registry lost its history, claiming our subnet again")
                for lease in event.leases:
                    self._check_owner(lease)
                self._renew_now()
            else:
                self._noticed(event)

    def _noticed(self, event: Added) -> None:
        """Our entry was written: by us, or on our behalf by a client that may change its term."""
        lease = event.lease
        if lease.revision <= self._lease.revision:
            return
        self._check_owner(lease)
        if event.foreign:
            self._foreign_renewal(lease)
        self._hold(lease, self._clock.now())

    def _foreign_renewal(self, lease: Lease) -> None:
        """An entry with our public IP and a term that we did not give it."""
        if self._clock.monotonic() < self._successor_until:
            return
        self._counters["foreign_renewals"] += 1
        self._limited.error(
            "foreign renewal",
            "another daemon renews our lease",
            subnet=lease.subnet,
            public_ip=lease.attrs.public_ip,
            times=self._counters["foreign_renewals"],
            why="two hosts publish one public IP and share one subnet, or flanneld runs beside us",
            fix="give one host an address of its own with --iface or --public-ip and restart it "
            "and its containers; or stop the other daemon on this host",
        )

    def _check_owner(self, lease: Lease) -> None:
        ours, theirs = self._lease.attrs.public_ip, lease.attrs.public_ip
        if self._moving is not None and theirs == self._moving.public_ip:
            return  # we wrote it; the answer is still under way
        if theirs != ours:
            raise RegistryConflict(
                f"subnet {self._lease.subnet} is now leased by {theirs}, not by us ({ours})",
                fix="two hosts claimed one subnet: this one stops; restart it and its containers "
                "to get a free subnet",
            )

    def _hold(self, lease: Lease, granted: Moment) -> None:
        self._lease = lease
        self._renewal = self._renewal.renewed(granted, _term(lease, granted))
        self._wake.set()

    def _renew_now(self) -> None:
        now = self._clock.now()
        self._renewal = self._renewal.renewed(now, 0.0)
        self._wake.set()

    async def _tick(self) -> None:
        """Look at the clocks at least every half minute: renew when due, drop who is overdue."""
        before = self._clock.now()
        while True:
            now = self._clock.now()
            jumped = jump(before, now)
            if abs(jumped) > _JUMP_SECONDS:
                _log.warning("the wall clock jumped, or the machine slept", seconds=jumped)
            before = now
            await self._drop_overdue(now.monotonic)
            await self._change(self._peers.recheck())
            if self._moving is not None:
                await self._republish(self._moving)  # which renews as well
            elif self._renewing is not None and self._renewal.due_in(now) == 0:
                await self._renew(self._renewing, now)
            self._limited.flush()
            self._peer_log.flush()
            later = self._renewal.sleep(self._clock.now())
            pause = later if self._renewing is not None else LONGEST_SLEEP
            if self._moving is not None:
                pause = min(pause, _REPUBLISH_SECONDS)
            await event_or_sleep(self._wake, pause, self._clock.sleep)
            self._wake.clear()

    async def _drop_overdue(self, now: float) -> None:
        held = self._peers.held
        await self._change(map(self._peers.expire, (now,)))
        if self._peers.held < held:
            _log.error(
                "peers that the registry forgot did not come back", dropped=held - self._peers.held
            )

    async def _renew(self, registry: RenewingRegistry, now: Moment) -> None:
        try:
            lease = await registry.renew(self._lease)
        except RegistryConflict:
            raise
        except RegistryError as error:
            self._counters["renewal_failures"] += 1
            self._renewal = self._renewal.failed(now)
            self._limited.error(
                "renewal",
                "lease not renewed, trying again in a minute",
                subnet=self._lease.subnet,
                run_out=self._renewal.expired(now),
                reason=error,
            )
            return
        self._counters["renewals"] += 1
        self._hold(lease, now)
        _log.info("lease renewed", subnet=lease.subnet, expires_in_seconds=self.expires_in())

    async def _republish(self, attrs: LeaseAttrs) -> None:
        now = self._clock.now()
        try:
            lease = await self._registry.republish(self._lease, attrs)
        except RegistryConflict:
            raise
        except RegistryError as error:
            self._limited.error(
                "republish",
                "our new address is not published yet, trying again",
                public_ip=attrs.public_ip,
                reason=error,
            )
            return
        before = self._lease.attrs.public_ip
        self._hold(lease, now)
        if self._moving is attrs:
            self._moving = None
        self._counters["republications"] += 1
        _log.warning(
            "lease tells another address",
            subnet=lease.subnet,
            public_ip=attrs.public_ip,
            before=before,
        )


def _term(lease: Lease, granted: Moment) -> float | None:
    """Seconds that a lease has from `granted` on, None when it never runs out."""
    return None if lease.expires_at is None else lease.expires_at - granted.monotonic
