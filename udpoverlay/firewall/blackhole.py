"""The blackhole route for our own subnet: packets to pods that are gone do not leave this host.

Owns: that it is there, and that those of earlier subnets go (flannel issue 2554). Must not know:
how a route is spelled (host/netlink.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from udpoverlay.errors import KernelError
from udpoverlay.host.netlink import Netlink
from udpoverlay.log import RateLimited, get_logger
from udpoverlay.model.config import FirewallSettings
from udpoverlay.model.lease import Subnet

__all__ = ["keep_blackhole"]

_log = get_logger(__name__)


async def keep_blackhole(
    subnet: Subnet,
    settings: FirewallSettings,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Remove blackhole routes of ours that are stale, then keep those that are wanted; for ever.

    Routes are ours by their protocol id. What the kernel refuses is logged: the overlay works
    without.
    """
    wanted = {net for net in (subnet.v4, subnet.v6) if net is not None}
    if not settings.blackhole_route:
        wanted = set()
    report = RateLimited(_log, asyncio.get_running_loop().time, per_minute=1)
    stale = True
    while True:
        try:
            async with Netlink() as netlink:
                for version in (4, 6) if stale else ():
                    for network in await netlink.blackholes(version, ours=True):
                        if network not in wanted:
                            await netlink.remove_blackhole(network)
                            _log.info("removed a stale blackhole route", to=network)
                stale = False
                for network in wanted:
                    if await netlink.add_blackhole(network):
                        _log.info("blackhole route", to=network)
        except KernelError as error:
            report.warning("route", "cannot keep the blackhole route", reason=str(error))
        if not wanted and not stale:
            await asyncio.Event().wait()
        await sleep(settings.resync_seconds)
