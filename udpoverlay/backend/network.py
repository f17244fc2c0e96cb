"""The tunnel of the udp backend: device, socket and workers, rebuilt rather than a reason to end.

Owns: what it has to be like, that it is like that again within two seconds, what was counted before
it was rebuilt. Must not know: leases and registries (`on_change` tells who must), how a device is
repaired (host/device.py), how packets move (dataplane/).

    notices of the kernel ─┐
    a worker that ended ───┼─► look ─► interface, address, MTU as chosen? ─no─► rebuild ─► on_change
    an attempt that failed ┘           device, its address, MTU, route?   ─no─► restore

What can stay, stays: the device when only the underlay changed, with its address, routes and what
waits in it; the socket when its address did not change.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from netaddr import IPAddress, IPNetwork

from udpoverlay._version import VERSION
from udpoverlay.aio import Backoff, event_or_sleep, first_to_end
from udpoverlay.backend.base import Choose, Former, OnChange
from udpoverlay.backend.seen import Seen
from udpoverlay.backend.totals import Totals
from udpoverlay.clock import SYSTEM_CLOCK, Clock
from udpoverlay.dataplane.engine import Engine, make_recorder, open_sockets
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.errors import KernelError, UdpOverlayError
from udpoverlay.host.device import link_state, restore_tunnel
from udpoverlay.host.interfaces import Choice, tunnel_mtu
from udpoverlay.host.netlink import configure_tunnel
from udpoverlay.host.notices import ADDRESS, LINK, Notice, Notices
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.legacy import Legacy

__all__ = ["TunnelNetwork"]

_log = get_logger(__name__)

SETTLE_SECONDS = 0.05
"""From a notice to the look: a change comes as several notices."""
BUSY_SECONDS = 1.0
"""The longest such pause, where something undoes each repair."""
QUIET_SECONDS = 10.0
"""After so long without a repair the pause is the shortest again."""
RETRY_SECONDS = 1.0
"""The longest pause between attempts that failed."""
HOST_SECONDS = 0.5
"""The least time from one look at all of the host's links and routes to the next."""
LOOK_SECONDS = 30.0
"""A look without a notice: a lost one costs no more than this."""


class _Carried(Protocol):
    """What of a backend the tunnel depends on."""

    @property
    def network(self) -> IPNetwork: ...

    @property
    def overhead(self) -> int: ...


class TunnelNetwork(Seen):
    """See backend.base.Network. `async with TunnelNetwork.open(...)`, then `start`, then `run`."""

    def __init__(  # noqa: PLR0913 - its surroundings are its parameters
        self,
        tunnel: Tunnel,
        settings: DataplaneSettings,
        choice: Choice,
        backend: _Carried,
        *,
        choose: Choose,
        engine: Engine | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`tunnel` is what `choice` led to; `choose` looks at the host again.

        `engine` has what a former daemon offered; None: a device is made.
        """
        self.choice = choice
        self.on_change: OnChange = lambda _: None
        self._tunnel = tunnel
        self._settings = settings
        self._network = backend.network
        self._overhead = backend.overhead
        self._choose = choose
        self._clock = clock
        self.recorder = make_recorder(settings)
        self._engine = engine or Engine.open(tunnel, settings, recorder=self.recorder)
        self._name = self._engine.tun_name
        self._routes: Mapping[IPNetwork, Endpoint] | None = None
        self._failure: KernelError | None = None
        self._rebuilt = asyncio.Event()
        self._troubles: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._host_changed = True
        """The interface has to be chosen again, to see whether it is the same."""
        self._limited = RateLimited(_log, clock.monotonic)
        self._totals = Totals()
        self._counters: Counter[str] = Counter()
        self._looked = clock.monotonic() - HOST_SECONDS
        self._former: Former | None = None
        self._suspended = False
        """Another daemon may be moving our packets: nothing is repaired."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(  # noqa: PLR0913 - as backend.base.Backend.open
        cls,
        tunnel: Tunnel,
        settings: DataplaneSettings,
        choice: Choice,
        backend: _Carried,
        *,
        choose: Choose,
        former: Former | None = None,
    ) -> AsyncIterator[TunnelNetwork]:
        """Device, up and routed, and socket; no packet moves by us yet. Raises KernelError."""
        engine = recorder = None
        if former is not None:
            offered = await former.offer(tunnel, backend.network)
            if offered is None:
                former = None
            else:
                recorder = former.recorder or make_recorder(settings)
                sockets = offered.sockets or open_sockets(tunnel.bind)
                engine = Engine.adopt(tunnel, settings, offered.tun, sockets, recorder=recorder)
        made = cls(tunnel, settings, choice, backend, choose=choose, engine=engine)
        made._former, made.recorder = former, recorder or made.recorder
        try:
            if engine is not None:
                await restore_tunnel(made._engine.tun_index, made.address, made.mtu, made._network)
            elif not await made._configure():
                _log.warning(
                    "a route to the network exists already and is kept", network=backend.network
                )
            _log.info("tunnel device", name=made.device, address=tunnel.address, mtu=tunnel.mtu)
            yield made
        finally:
            if made._former is not None:  # it moves packets still, by what is closed next
                await made._former.aclose()
            await made._engine.stop()

    # ------------------------------------------------------------------ what it is

    @property
    def device(self) -> str:
        """See backend.base."""
        return self._name

    @property
    def mtu(self) -> int:
        """See backend.base."""
        return self._tunnel.mtu

    @property
    def address(self) -> IPAddress:
        """The device's."""
        return self._tunnel.address

    def troubles(self) -> dict[str, str]:
        """See backend.base."""
        return dict(self._troubles)

    def replace(self, routes: Mapping[IPNetwork, Endpoint]) -> None:
        """See backend.base."""
        self._engine.replace(routes)
        self._routes = routes
        self._counters["publications"] += 1

    async def start(self) -> None:
        """Packets flow from the first routes on; at once where a former daemon had some."""
        former, self._former = self._former, None
        if former is not None:
            legacy = await former.release()
            self._totals.begin(legacy.counts, self._engine)
            if legacy.routes:
                self.replace(legacy.routes)
        await self._engine.start()
        if former is not None:
            await former.commit()

    # ------------------------------------------------------------------ who comes after us

    @property
    def leaving(self) -> TunnelNetwork:
        """See backend.base."""
        return self

    @property
    def counting_since(self) -> float:
        """See backend.base."""
        return self._totals.since

    def legacy(self) -> Legacy:
        """See backend.base.Leaving."""
        tunnel = self._tunnel
        return Legacy(
            version=VERSION,
            device=self._name,
            index=self._engine.tun_index,
            mtu=tunnel.mtu,
            address=tunnel.address,
            subnet=tunnel.subnet,
            network=self._network,
            bind=tunnel.bind,
            public_ip=tunnel.public_ip,
            routes=self._routes or {},
            counts=self._totals.state(self._engine),
        )

    @property
    def publications(self) -> int:
        """See backend.base.Leaving."""
        return self._counters["publications"]

    def descriptors(self) -> tuple[list[int], int]:
        """See backend.base.Leaving."""
        return self._engine.descriptors()

    async def suspend(self) -> Legacy:
        """See backend.base.Leaving."""
        self._suspended = True
        await self._engine.release()
        self._totals.end(
            self._engine, {str(each.address) for each in (self._routes or {}).values()}
        )
        return self.legacy()

    async def resume(self) -> None:
        """See backend.base.Leaving."""
        if not self._suspended:
            return
        tun, sockets = await self._engine.release()
        engine = Engine.adopt(self._tunnel, self._settings, tun, sockets, recorder=self.recorder)
        self._engine = engine
        if self._routes is not None:
            engine.replace(self._routes)
        await engine.start()
        self._suspended = False
        self._rebuilt.set()
        self._noticed(None)  # whatever changed meanwhile

    # ------------------------------------------------------------------ healing

    def repairs(self) -> dict[str, int]:
        """How often the device was restored, and device or socket were made again."""
        return {name: self._counters[name] for name in ("repairs", "rebuilds")}

    async def run(self) -> None:
        """See backend.base."""
        await first_to_end(self._listen(), self._watch_engine(), self._heal())

    async def _listen(self) -> None:
        """Wake the healing when a notice may concern us. Without notices it looks now and then."""
        while True:
            try:
                with contextlib.closing(Notices()) as notices:
                    self._noticed(None)  # what changed before we listened gave no notice
                    while True:
                        self._noticed(await notices.read())
            except KernelError as error:
                self._limited.warning("notices", "changes are noticed late", reason=str(error))
            await self._clock.sleep(RETRY_SECONDS)

    def _noticed(self, notices: Sequence[Notice] | None) -> None:
        if notices is None:
            self._host_changed = True
            self._wake.set()
            return
        for notice in notices:
            ours = notice.link == self._engine.tun_index
            if notice.kind == LINK:
                if not ours and notice.link != self.choice.index and not self._troubles:
                    continue
                self._host_changed = self._host_changed or not ours
            elif notice.kind == ADDRESS:
                self._host_changed = self._host_changed or not ours
            elif notice.prefixlen == 0:
                self._host_changed = True
            elif notice.prefixlen != self._network.prefixlen:
                continue
            self._wake.set()

    async def _watch_engine(self) -> None:
        """Wake the healing when a worker ended by itself."""
        while True:
            engine = self._engine
            try:
                await engine.wait()
            except KernelError as error:
                if engine is self._engine:
                    self._failure = error
                    self._wake.set()
            await self._rebuilt.wait()
            self._rebuilt.clear()

    async def _heal(self) -> None:
        retry = Backoff(SETTLE_SECONDS * 2, RETRY_SECONDS)
        settle = Backoff(SETTLE_SECONDS, BUSY_SECONDS)
        repaired = self._clock.monotonic()
        pause = LOOK_SECONDS
        while True:
            if not await event_or_sleep(self._wake, pause, self._clock.sleep):
                self._host_changed = True  # a look without a notice is a whole one
            if self._clock.monotonic() - repaired > QUIET_SECONDS:
                settle.reset()
            calm = self._looked + HOST_SECONDS - self._clock.monotonic()
            await self._clock.sleep(max(settle.next(), calm if self._host_changed else 0.0))
            self._wake.clear()
            before = self._repaired()
            try:
                await self.look()
            except UdpOverlayError as error:
                self._trouble("tunnel", str(error))
                self._host_changed, pause = True, retry.next()
            else:
                self._trouble("tunnel", "")
                retry.reset()
                pause = LOOK_SECONDS
            if self._repaired() == before:
                settle.reset()
            else:
                repaired = self._clock.monotonic()
            self._limited.flush()

    def _repaired(self) -> int:
        return sum(self.repairs().values())

    async def look(self) -> None:
        """Compare with what has to be, once, and repair. Raises UdpOverlayError where it cannot."""
        if self._suspended:
            return
        choice = self.choice
        if self._host_changed:
            self._host_changed, self._looked = False, self._clock.monotonic()
            choice = await self._choose()
        state = link_state(self._engine.tun_index)
        if state is not None and state.name != self._name:
            _log.warning("tunnel device renamed", before=self._name, now=state.name)
            self._name = state.name
        if self._failure is not None or state is None or self._differs(choice):
            await self._rebuild(choice, fresh=self._failure is not None or state is None)
        self._underlay(choice)
        missing = await restore_tunnel(
            self._engine.tun_index, self.address, self.mtu, self._network
        )
        if missing:
            self._counters["repairs"] += 1
            self._limited.warning(
                "repaired", "tunnel device repaired", device=self._name, why=", ".join(missing)
            )

    def _differs(self, choice: Choice) -> bool:
        ours = self.choice
        return (choice.address, choice.public_ip, tunnel_mtu(choice, self._overhead)) != (
            ours.address,
            ours.public_ip,
            self.mtu,
        )

    def _underlay(self, choice: Choice) -> None:
        """Note what is wrong with the interface between the hosts: that is not ours to repair."""
        self.choice = choice
        state = link_state(choice.index)
        if state is None:
            raise KernelError(f"interface {choice.name} has vanished")
        if not state.up:
            self._trouble("underlay", f"interface {choice.name} is down")
        elif not state.running:
            self._trouble("underlay", f"interface {choice.name} has no carrier")
        else:
            self._trouble("underlay", "")

    async def _rebuild(self, choice: Choice, *, fresh: bool) -> None:
        """Go on as `choice` says; `fresh`: with another device and another socket."""
        why = str(self._failure or ("the device is gone" if fresh else "the underlay changed"))
        mtu = tunnel_mtu(choice, self._overhead)
        tunnel = replace(
            self._tunnel,
            mtu=mtu,
            bind=(str(choice.address), self._tunnel.bind[1]),
            public_ip=choice.public_ip,
        )
        old, moved = self._engine, tunnel.bind != self._tunnel.bind
        sockets = open_sockets(tunnel.bind) if moved and not fresh else None
        drops = old.kernel_drops()
        tun, before = await old.release()
        self._totals.end(old, {str(each.address) for each in (self._routes or {}).values()})
        if fresh or moved:
            self._totals.close_queue("inbound_kernel_dropped", drops["inbound_kernel_dropped"])
        if fresh:
            self._totals.close_queue("outbound_kernel_dropped", drops["outbound_kernel_dropped"])
        try:
            if fresh:
                tun.close()
                before.close()
                engine = Engine.open(tunnel, self._settings, recorder=self.recorder)
            else:
                engine = Engine.adopt(
                    tunnel, self._settings, tun, sockets or before, recorder=self.recorder
                )
                if sockets is not None:
                    before.close()
        except BaseException as error:
            for each in (tun, before, *(() if sockets is None else (sockets,))):
                each.close()
            if isinstance(error, KernelError):
                self._failure = error
            raise
        self._engine, self._tunnel, self._failure = engine, tunnel, None
        previous, self.choice = self.choice, choice
        self._name = engine.tun_name
        self._rebuilt.set()
        if self._routes is not None:
            engine.replace(self._routes)
        await engine.start()
        if fresh:
            await self._configure()
        self._counters["rebuilds"] += 1
        _log.warning(
            "tunnel rebuilt",
            why=why,
            device=self._name,
            mtu=mtu,
            interface=choice.name,
            address=choice.address,
            public_ip=choice.public_ip,
            before=previous.public_ip,
        )
        self.on_change(choice)

    async def _configure(self) -> bool:
        return await configure_tunnel(self._engine.tun_index, self.address, self.mtu, self._network)

    def _trouble(self, part: str, text: str) -> None:
        """Say what is wrong once, and when it is over."""
        if self._troubles.get(part, "") == text:
            return
        if text:
            self._troubles[part] = text
            self._limited.error(f"trouble {part}", "packets cannot flow", part=part, why=text)
        else:
            del self._troubles[part]
            self._limited.info(f"over {part}", "packets can flow again", part=part)
