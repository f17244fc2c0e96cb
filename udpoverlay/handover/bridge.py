"""Goes on where a former daemon stopped, from descriptors that a service manager kept.

    start ─► packets flow by the old routes ─► registry, lease, rules … ─► release ─► network

So a restart costs the time to load the program, also while the registry cannot be reached. Owns:
whether what was kept fits together and fits us. Must not know: where it was kept.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from netaddr import IPNetwork

from udpoverlay.backend.base import Offered
from udpoverlay.backend.totals import Totals
from udpoverlay.dataplane.engine import Engine, make_recorder, wanted_queues
from udpoverlay.dataplane.features import Features
from udpoverlay.dataplane.recorder import Recorder
from udpoverlay.dataplane.tun import Tun, adopt_tun
from udpoverlay.dataplane.tunnel import Tunnel
from udpoverlay.dataplane.udp import Sockets, adopt_udp, open_icmp
from udpoverlay.errors import KernelError, OperatorError, UdpOverlayError
from udpoverlay.log import get_logger
from udpoverlay.model.dataplane import DataplaneSettings
from udpoverlay.model.legacy import Legacy, LegacyError

__all__ = ["TUN", "UDP", "Bridge", "bridge"]

_log = get_logger(__name__)

TUN, UDP = "tun", "udp"
"""Names under which the service manager keeps descriptors."""


class Bridge:
    """See backend.base.Former: an engine with the former daemon's descriptors and routes."""

    def __init__(self, legacy: Legacy, settings: DataplaneSettings, tun: Tun, udp: Sockets) -> None:
        self.recorder: Recorder | None = make_recorder(settings)
        self._legacy = legacy
        tunnel = Tunnel(
            mtu=legacy.mtu,
            address=legacy.address,
            subnet=legacy.subnet,
            bind=legacy.bind,
            device=legacy.device,
            public_ip=legacy.public_ip,
        )
        self._tun, self._udp = tun, udp.udp
        self._engine = Engine.adopt(tunnel, settings, tun, udp, recorder=self.recorder)
        self._totals = Totals()
        self._totals.begin(legacy.counts, self._engine)
        self._given = False

    async def start(self) -> None:
        """Packets flow from here, where there are routes; without, each would be dropped."""
        if self._legacy.routes:
            self._engine.replace(self._legacy.routes)
        await self._engine.start()
        _log.info("going on with the tunnel of the last run", device=self._legacy.device)

    @property
    def bound(self) -> tuple[str, int] | None:
        """Address and port that our socket has."""
        return None if self._udp.fileno() < 0 else self._legacy.bind

    async def offer(self, tunnel: Tunnel, network: IPNetwork) -> Offered | None:
        """See backend.base; what does not fit the new tunnel is closed."""
        ours, theirs = self._legacy, tunnel
        fits = (ours.address, ours.subnet) == (theirs.address, theirs.subnet)
        if not fits or ours.network != network:
            _log.warning(
                "the device of the last run is not used: the subnet is another one",
                before=ours.subnet,
                now=theirs.subnet,
            )
            await self.discard()
            return None
        self._given = True
        same = ours.bind == theirs.bind
        return Offered(self._tun, Sockets(self._udp, open_icmp()) if same else None)

    async def release(self) -> Legacy:
        """Stop; what was not offered is closed."""
        _, sockets = await self._engine.release()
        self._totals.end(self._engine, {str(each.address) for each in self._legacy.routes.values()})
        for each in (sockets.icmp, sockets.reports):
            if each is not None:
                each.close()
        return replace(self._legacy, counts=self._totals.state(self._engine))

    async def commit(self) -> None:
        """There is no other side."""

    async def discard(self) -> None:
        """Stop and close all: another device is made."""
        await self._engine.stop()

    async def aclose(self) -> None:
        """At the end, whatever has become of it."""
        if self._given:
            await self.release()  # before the network closes what these threads read
        else:
            await self._engine.stop()


async def bridge(
    kept: Mapping[str, Sequence[int]], left: bytes | None, settings: DataplaneSettings
) -> Bridge | None:
    """Begin with what the service manager `kept` and the former daemon `left`.

    None where there is nothing, or nothing that fits; the descriptors are closed then.
    """
    if not kept:
        return None
    found = None
    try:
        found = _adopted(kept, left, settings)
        await found.start()
    except (LegacyError, MemoryError, OSError, UdpOverlayError) as error:
        _log.warning("what the last run left cannot be used", reason=str(error))
        if found is not None:
            await found.discard()
            kept = {name: each for name, each in kept.items() if name != TUN}
        _close(kept)
        return None
    # The engine has the queues, and a socket of its own.
    _close({name: each for name, each in kept.items() if name != TUN})
    return found


def _adopted(
    kept: Mapping[str, Sequence[int]], left: bytes | None, settings: DataplaneSettings
) -> Bridge:
    if left is None:
        raise OperatorError("there is no note of its routes")
    legacy = Legacy.load(left)
    if not kept.get(TUN) or len(kept.get(UDP, ())) != 1:
        raise OperatorError(f"the service manager kept {', '.join(kept)} alone")
    if len(kept[TUN]) != wanted_queues(settings):
        raise KernelError("the device was made for another number of workers")
    tun = adopt_tun(list(kept[TUN]), Features.wanted(settings))
    if (tun.index, tun.name) != (legacy.index, legacy.device):
        raise KernelError(f"it kept {tun.name}, and the note is about {legacy.device}")
    sockets = Sockets(adopt_udp(kept[UDP][0], legacy.bind), open_icmp())
    try:
        return Bridge(legacy, settings, tun, sockets)
    except BaseException:
        sockets.close()
        raise


def _close(kept: Mapping[str, Sequence[int]]) -> None:
    for descriptors in kept.values():
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
