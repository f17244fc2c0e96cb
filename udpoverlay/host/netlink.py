"""rtnetlink: links, addresses and routes of the network namespace we run in.

Owns: what each operation asks of the kernel; each is one typed coroutine that raises KernelError.
Must not know: leases, settings, what an address or a route is for, how messages travel
(rtnetlink.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from socket import AF_INET, AF_INET6
from types import TracebackType
from typing import Any

from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import KernelError
from udpoverlay.host.links import Address, DefaultRoute, HostView, Link, Route, RouteAnswer
from udpoverlay.host.rtnetlink import (
    RTM_DELROUTE,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    Rtnetlink,
)

__all__ = ["ROUTE_PROTOCOL", "TUN_QUEUE_PACKETS", "Netlink", "configure_tunnel", "host_view"]

# linux/if_addr.h
_IFA_F_TEMPORARY = 0x01
_IFA_F_NODAD = 0x02
_IFA_F_DEPRECATED = 0x20
_IFA_F_PERMANENT = 0x80
# linux/if.h
_IFF_UP = 0x1
# linux/rtnetlink.h
_RT_TABLE_MAIN = 254
_RTN_UNICAST = 1
_RTPROT_BOOT = 3
_RTN_BLACKHOLE = 6
TUN_QUEUE_PACKETS = 2000
"""The kernel gives a TUN 500: less than a flooding sender makes in its turn of the scheduler, so
that where sender and worker share a CPU most packets died there (docs/performance.md)."""
ROUTE_PROTOCOL = 82
"""Marks routes that outlive us as ours; not used by others (/etc/iproute2/rt_protos)."""
_RT_SCOPE_UNIVERSE = 0
# linux/if_link.h
_IN6_ADDR_GEN_MODE_NONE = 1

_FIXES = {
    errno.EPERM: "needs CAP_NET_ADMIN: run as root or grant the capability",
    errno.EACCES: "needs CAP_NET_ADMIN: run as root or grant the capability",
    errno.ENODEV: "the interface has vanished",
}


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """Make a KernelError of the kernel's number, which names what was asked."""
    try:
        yield
    except OSError as error:
        code = error.errno or 0
        raise KernelError(
            f"cannot {what}: {error.strerror or os.strerror(code)}",
            fix=_FIXES.get(code, ""),
            errno=code,
        ) from error


class Netlink:
    """One rtnetlink socket in the running event loop: `async with Netlink() as netlink`."""

    def __init__(self) -> None:
        self._kernel: Rtnetlink

    async def __aenter__(self) -> Netlink:
        with _naming("open a netlink socket"):
            self._kernel = Rtnetlink()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kernel.close()

    async def links(self) -> tuple[Link, ...]:
        """All links with all their IPv4 and IPv6 addresses, by ascending index."""
        addresses: dict[int, list[Address]] = {}
        with _naming("list addresses"):
            for message in await self._kernel.dump(RTM_GETADDR, {}):
                parsed = _address(message)
                if parsed is not None:
                    addresses.setdefault(message["index"], []).append(parsed)
        with _naming("list links"):
            messages = await self._kernel.dump(RTM_GETLINK, {})
        links = [
            Link(
                index=message["index"],
                name=message.get_attr("IFLA_IFNAME") or "",
                mtu=message.get_attr("IFLA_MTU") or 0,
                up=bool(message["flags"] & _IFF_UP),
                addresses=tuple(addresses.get(message["index"], ())),
            )
            for message in messages
        ]
        return tuple(sorted(links, key=lambda link: link.index))

    async def default_route(self, version: int) -> DefaultRoute | None:
        """The first default route of IP `version` in the main table, None when there is none."""
        for message in await self._routes(version):
            if (message["dst_len"], message["type"]) == (0, _RTN_UNICAST):
                return DefaultRoute(index=message.get_attr("RTA_OIF") or 0)
        return None

    async def routes(self, version: int) -> list[Route]:
        """The unicast routes of IP `version` in the main table; not those over several links."""
        return [
            Route(IPNetwork(f"{destination or _any(version)}/{message['dst_len']}"), index)
            for message in await self._routes(version)
            if message["type"] == _RTN_UNICAST and (index := message.get_attr("RTA_OIF"))
            for destination in [message.get_attr("RTA_DST")]
        ]

    async def route_to(self, destination: IPAddress) -> RouteAnswer:
        """The route the kernel would take, as `ip route get`."""
        what = f"look up the route to {destination}"
        family, bits = _family(destination.version), 32 if destination.version == 4 else 128
        with _naming(what):
            message = await self._kernel.get(
                RTM_GETROUTE, {"family": family, "dst_len": bits}, RTA_DST=str(destination)
            )
        if message is None:
            raise KernelError(f"cannot {what}: the kernel gave no answer")
        source = message.get_attr("RTA_PREFSRC")
        return RouteAnswer(
            index=message.get_attr("RTA_OIF") or 0,
            source=None if source is None else IPAddress(source),
        )

    async def add_address(self, index: int, address: IPAddress) -> None:
        """Give link `index` the single address `address` (/32 or /128), without broadcast.

        It can be used at once: an IPv6 address is not looked for on the link first (RFC 4862 5.4),
        where a tunnel has no neighbour to ask.
        """
        fields = {
            "index": index,
            "family": _family(address.version),
            "prefixlen": 32 if address.version == 4 else 128,
            "flags": 0 if address.version == 4 else _IFA_F_NODAD,
        }
        with _naming(f"add address {address}"):
            await self._kernel.change(
                RTM_NEWADDR, fields, IFA_LOCAL=str(address), IFA_ADDRESS=str(address)
            )

    async def ensure_address(self, index: int, address: IPAddress) -> bool:
        """As add_address; False when the link has it already."""
        try:
            await self.add_address(index, address)
        except KernelError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        return True

    async def set_mtu(self, index: int, mtu: int) -> None:
        """Set the MTU of link `index`, in bytes."""
        with _naming(f"set MTU {mtu}"):
            await self._kernel.change(RTM_NEWLINK, {"index": index}, IFLA_MTU=mtu)

    async def set_queue_length(self, index: int, packets: int) -> None:
        """Set how many packets the device holds for its reader before it drops."""
        with _naming(f"set the queue length {packets}"):
            await self._kernel.change(RTM_NEWLINK, {"index": index}, IFLA_TXQLEN=packets)

    async def set_no_link_local(self, index: int) -> bool:
        """Keep the kernel from giving link `index`, still down, an IPv6 link-local address.

        Without one it asks for no router and reports no multicast group on that link. False where
        this kernel has no IPv6, or none on this link (an MTU under 1280); no error.
        """
        mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _IN6_ADDR_GEN_MODE_NONE)]}
        try:
            with _naming("set the address generation mode"):
                await self._kernel.change(
                    RTM_NEWLINK, {"index": index}, IFLA_AF_SPEC={"attrs": [("AF_INET6", mode)]}
                )
        except KernelError as error:
            if error.errno in {errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL}:
                return False
            raise
        return True

    async def set_up(self, index: int) -> None:
        """Set link `index` administratively up."""
        with _naming("set the link up"):
            await self._kernel.change(
                RTM_NEWLINK, {"index": index, "flags": _IFF_UP, "change": _IFF_UP}
            )

    async def add_link_route(self, network: IPNetwork, index: int) -> bool:
        """Route `network` to link `index`: main table, global scope, protocol boot, no source.

        Returns False when a route to it existed already, which is no error.
        """
        return await self._add_route(
            f"add the route to {network}",
            _route(network, kind=_RTN_UNICAST, protocol=_RTPROT_BOOT),
            network,
            RTA_OIF=index,
        )

    async def add_blackhole(self, network: IPNetwork) -> bool:
        """Drop packets to `network` for which no longer prefix has a route; False if it is there.

        A bridge's own route to the same network is in the way, and as good: False too
        (flannel pkg/ip/iface.go, AddBlackholeV4Route).
        """
        if network in await self.blackholes(network.version):
            return False
        return await self._add_route(
            f"add the blackhole route to {network}", _blackhole(network), network
        )

    async def remove_blackhole(self, network: IPNetwork) -> None:
        """Remove a blackhole route of ours."""
        with _naming(f"remove the blackhole route to {network}"):
            await self._kernel.change(
                RTM_DELROUTE, _blackhole(network), RTA_DST=str(network.network)
            )

    async def blackholes(self, version: int, *, ours: bool = False) -> list[IPNetwork]:
        """Networks with a blackhole route; `ours`: only those with our protocol id."""
        return [
            IPNetwork(f"{message.get_attr('RTA_DST')}/{message['dst_len']}")
            for message in await self._routes(version)
            if message["type"] == _RTN_BLACKHOLE
            and message.get_attr("RTA_DST") is not None
            and (not ours or message["proto"] == ROUTE_PROTOCOL)
        ]

    async def _add_route(
        self, what: str, fields: dict[str, int], network: IPNetwork, **more: Any
    ) -> bool:
        try:
            with _naming(what):
                await self._kernel.change(
                    RTM_NEWROUTE, fields, RTA_DST=str(network.network), **more
                )
        except KernelError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        return True

    async def _routes(self, version: int) -> list[Any]:
        """Routes of IP `version` in the main table."""
        with _naming("list routes"):
            messages = await self._kernel.dump(RTM_GETROUTE, {"family": _family(version)})
        return [
            message
            for message in messages
            if (message.get_attr("RTA_TABLE") or message["table"]) == _RT_TABLE_MAIN
        ]


def _route(network: IPNetwork, *, kind: int, protocol: int) -> dict[str, int]:
    """The fixed part of a route's message."""
    return {
        "family": _family(network.version),
        "dst_len": network.prefixlen,
        "table": _RT_TABLE_MAIN,
        "scope": _RT_SCOPE_UNIVERSE,
        "proto": protocol,
        "type": kind,
    }


def _blackhole(network: IPNetwork) -> dict[str, int]:
    return _route(network, kind=_RTN_BLACKHOLE, protocol=ROUTE_PROTOCOL)


def _any(version: int) -> str:
    return "0.0.0.0" if version == 4 else "::"  # noqa: S104 - a destination, not a listener


def _family(version: int) -> int:
    return AF_INET if version == 4 else AF_INET6


def _address(message: Any) -> Address | None:
    # IFA_LOCAL is our own address; IFA_ADDRESS is the peer's on point-to-point links.
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    if message["family"] not in (AF_INET, AF_INET6) or text is None:
        return None
    flags = message["flags"]
    return Address(
        ip=IPAddress(text),
        prefixlen=message["prefixlen"],
        permanent=bool(flags & _IFA_F_PERMANENT),
        temporary=bool(flags & _IFA_F_TEMPORARY),
        deprecated=bool(flags & _IFA_F_DEPRECATED),
    )


async def configure_tunnel(index: int, address: IPAddress, mtu: int, network: IPNetwork) -> bool:
    """Give a TUN device address and MTU, set it up, route `network` to it.

    The order is that of flannel's configureIface. False: such a route existed already and is kept.
    """
    async with Netlink() as netlink:
        await netlink.add_address(index, address)
        await netlink.set_mtu(index, mtu)
        await netlink.set_queue_length(index, TUN_QUEUE_PACKETS)
        await netlink.set_no_link_local(index)
        await netlink.set_up(index)
        return await netlink.add_link_route(network, index)


async def host_view(reach: IPAddress | None = None) -> HostView:
    """Look at the host once; with `reach`, also ask which route leads there."""
    async with Netlink() as netlink:
        answer, reach_error = None, ""
        if reach is not None:
            try:
                answer = await netlink.route_to(reach)
            except KernelError as error:
                reach_error = error.what
        return HostView(
            links=await netlink.links(),
            default_v4=await netlink.default_route(4),
            default_v6=await netlink.default_route(6),
            reach=answer,
            reach_error=reach_error,
        )
