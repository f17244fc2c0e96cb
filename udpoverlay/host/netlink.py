"""rtnetlink: links, addresses and routes of the network namespace we run in.

Owns: every use of pyroute2; each operation is one typed coroutine that raises KernelError.
Must not know: leases, settings, what an address or a route is for.

Two things about pyroute2 are dealt with here and nowhere else:

* `import pyroute2` loads every protocol it knows: 12 MB and 0.15 s, half of it never used here.
  Only the rtnetlink part is imported, below an empty parent package that is taken away again, so
  that a later `import pyroute2` by anybody still finds the real one.
* It reads its socket through `loop.create_datagram_endpoint`, which uvloop refuses for netlink
  sockets (github.com/MagicStack/uvloop/issues/676). `_Socket` reads it with `loop.add_reader`.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import importlib.util
import os
import struct
import sys
from collections.abc import AsyncIterator, Awaitable
from socket import AF_INET, AF_INET6
from types import ModuleType, TracebackType
from typing import Any

from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import KernelError
from udpoverlay.host.links import Address, DefaultRoute, HostView, Link, RouteAnswer

__all__ = ["ROUTE_PROTOCOL", "TUN_QUEUE_PACKETS", "Netlink", "configure_tunnel", "host_view"]


def _import_rtnetlink() -> tuple[ModuleType, ModuleType]:
    """pyroute2's rtnetlink socket and its errors, without the rest of the library."""
    names = ("pyroute2.iproute.linux", "pyroute2.netlink.exceptions")
    if "pyroute2" in sys.modules:
        return importlib.import_module(names[0]), importlib.import_module(names[1])
    spec = importlib.util.find_spec("pyroute2")
    if spec is None:
        raise ImportError("pyroute2 is not installed", name="pyroute2")
    parent = ModuleType("pyroute2")
    parent.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["pyroute2"] = parent
    try:
        return importlib.import_module(names[0]), importlib.import_module(names[1])
    finally:
        del sys.modules["pyroute2"]


_linux, _exceptions = _import_rtnetlink()
_AsyncIPRoute: Any = _linux.AsyncIPRoute

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

_DUMP_ATTEMPTS = 5
"""A dump that another change interrupted (NLM_F_DUMP_INTR) is asked for again this often."""
_ANSWER_SECONDS = 10
"""rtnetlink answers at once; only a lost message takes this long."""
_RECEIVE_BYTES = 1 << 16
"""Longer than any message of the kernel's dumps (32 KiB at most)."""

_FIXES = {
    errno.EPERM: "needs CAP_NET_ADMIN: run as root or grant the capability",
    errno.EACCES: "needs CAP_NET_ADMIN: run as root or grant the capability",
    errno.ENODEV: "the interface has vanished",
}


def _kernel_error(what: str, code: int) -> KernelError:
    reason = f"{what}: {os.strerror(code)}"
    return KernelError(reason, fix=_FIXES.get(code, ""), errno=code)


class _Reader:
    """The part of an asyncio transport that pyroute2 uses: it can be closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop = loop
        self._fd = fd

    def abort(self) -> None:
        """Stop reading; the descriptor belongs to pyroute2's socket."""
        self._loop.remove_reader(self._fd)

    def close(self) -> None:
        """Nothing is left after `abort`."""


class _Socket(_AsyncIPRoute):  # type: ignore[misc] # pyroute2 ships no types
    """AsyncIPRoute whose socket is read with add_reader, on every event loop."""

    async def setup_endpoint(self) -> None:
        if getattr(self.local, "transport", None) is not None:
            return
        loop = asyncio.get_running_loop()
        sock = self.socket
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)
        self.local.transport = _Reader(loop, sock.fileno())
        self.local.protocol = None

    def _readable(self) -> None:
        while True:
            try:
                data = self.socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                # The kernel dropped messages (ENOBUFS): nobody may wait for them any longer.
                for tag in tuple(self.msg_queue.queues):
                    self.msg_queue.put_nowait(tag, _error_message(error.errno or errno.EIO))
                return
            self.enqueue(data, None)


def _error_message(code: int) -> bytes:
    """What pyroute2 turns into an exception in the reading task: NLMSG_ERROR about a no-op."""
    return struct.pack("=IHHIIiIHHII", 36, 2, 0, 0, 0, -code, 16, 1, 0, 0, 0)


class Netlink:
    """One rtnetlink socket in the running event loop: `async with Netlink() as netlink`."""

    def __init__(self) -> None:
        self._ipr: Any = None

    async def __aenter__(self) -> Netlink:
        try:
            self._ipr = _Socket()
            await self._ipr.setup_endpoint()
        except OSError as error:
            raise _kernel_error("cannot open a netlink socket", error.errno or 0) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ipr.close()

    async def links(self) -> tuple[Link, ...]:
        """All links with all their IPv4 and IPv6 addresses, by ascending index."""
        addresses: dict[int, list[Address]] = {}
        for message in await self._dump("list addresses", lambda: self._ipr.addr("dump")):
            parsed = _address(message)
            if parsed is not None:
                addresses.setdefault(message["index"], []).append(parsed)
        links = [
            Link(
                index=message["index"],
                name=message.get("ifname") or "",
                mtu=message.get("mtu") or 0,
                up=bool(message["flags"] & _IFF_UP),
                addresses=tuple(addresses.get(message["index"], ())),
            )
            for message in await self._dump("list links", lambda: self._ipr.link("dump"))
        ]
        return tuple(sorted(links, key=lambda link: link.index))

    async def default_route(self, version: int) -> DefaultRoute | None:
        """The first default route of IP `version` in the main table, None when there is none."""
        # Not get_default_routes(): it ends at the first block of the dump that holds none.
        messages = await self._dump(
            "list routes", lambda: self._ipr.route("dump", family=_family(version))
        )
        for message in messages:
            table = message.get("table") or message["table"]
            if (message["dst_len"], table, message["type"]) == (0, _RT_TABLE_MAIN, _RTN_UNICAST):
                return DefaultRoute(index=message.get("oif") or 0)
        return None

    async def route_to(self, destination: IPAddress) -> RouteAnswer:
        """The route the kernel would take, as `ip route get`."""
        what = f"look up the route to {destination}"
        answers = await self._do(
            what,
            self._ipr.route("get", dst=str(destination), family=_family(destination.version)),
        )
        for message in answers:
            source = message.get("prefsrc")
            return RouteAnswer(
                index=message.get("oif") or 0,
                source=None if source is None else IPAddress(source),
            )
        raise KernelError(f"cannot {what}: the kernel gave no answer")

    async def add_address(self, index: int, address: IPAddress) -> None:
        """Give link `index` the single address `address` (/32 or /128), without broadcast.

        It can be used at once: an IPv6 address is not looked for on the link first (RFC 4862 5.4),
        where a tunnel has nobody who could have it.
        """
        await self._do(
            f"add address {address}",
            self._ipr.addr(
                "add",
                index=index,
                family=_family(address.version),
                address=str(address),
                prefixlen=32 if address.version == 4 else 128,
                flags=0 if address.version == 4 else _IFA_F_NODAD,
            ),
        )

    async def set_mtu(self, index: int, mtu: int) -> None:
        """Set the MTU of link `index`, in bytes."""
        await self._do(f"set MTU {mtu}", self._ipr.link("set", index=index, mtu=mtu))

    async def set_queue_length(self, index: int, packets: int) -> None:
        """Set how many packets the device holds for its reader before it drops."""
        await self._do(
            f"set the queue length {packets}", self._ipr.link("set", index=index, txqlen=packets)
        )

    async def set_no_link_local(self, index: int) -> bool:
        """Keep the kernel from giving link `index`, still down, an IPv6 link-local address.

        Without one it asks for no router and reports no multicast group on that link. False where
        this kernel has no IPv6, or none on this link (an MTU under 1280); no error.
        """
        mode = {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", _IN6_ADDR_GEN_MODE_NONE]]}
        try:
            await self._do(
                "set the address generation mode",
                self._ipr.link("set", index=index, IFLA_AF_SPEC={"attrs": [["AF_INET6", mode]]}),
            )
        except KernelError as error:
            if error.errno in {errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL}:
                return False
            raise
        return True

    async def set_up(self, index: int) -> None:
        """Set link `index` administratively up."""
        await self._do("set the link up", self._ipr.link("set", index=index, state="up"))

    async def add_link_route(self, network: IPNetwork, index: int) -> bool:
        """Route `network` to link `index`: main table, global scope, protocol boot, no source.

        Returns False when a route to it existed already, which is no error.
        """
        try:
            await self._do(
                f"add the route to {network}",
                self._ipr.route(
                    "add",
                    family=_family(network.version),
                    dst=str(network),
                    oif=index,
                    table=_RT_TABLE_MAIN,
                    scope=_RT_SCOPE_UNIVERSE,
                    proto=_RTPROT_BOOT,
                ),
            )
        except KernelError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        return True

    async def add_blackhole(self, network: IPNetwork) -> bool:
        """Drop packets to `network` for which no longer prefix has a route; False if it is there.

        A bridge's own route to the same network is in the way, and as good: False too
        (flannel pkg/ip/iface.go, AddBlackholeV4Route).
        """
        if network in await self.blackholes(network.version):
            return False
        try:
            await self._do(
                f"add the blackhole route to {network}",
                self._ipr.route("add", **self._blackhole(network)),
            )
        except KernelError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        return True

    async def remove_blackhole(self, network: IPNetwork) -> None:
        """Remove a blackhole route of ours."""
        await self._do(
            f"remove the blackhole route to {network}",
            self._ipr.route("del", **self._blackhole(network)),
        )

    async def blackholes(self, version: int, *, ours: bool = False) -> list[IPNetwork]:
        """Networks with a blackhole route; `ours`: only those with our protocol id."""
        messages = await self._dump(
            "list the routes",
            lambda: self._ipr.route("dump", family=_family(version), table=_RT_TABLE_MAIN),
        )
        return [
            IPNetwork(f"{message.get('dst')}/{message['dst_len']}")
            for message in messages
            if message["type"] == _RTN_BLACKHOLE
            and message.get("dst") is not None
            and (not ours or message["proto"] == ROUTE_PROTOCOL)
        ]

    def _blackhole(self, network: IPNetwork) -> dict[str, Any]:
        return {
            "family": _family(network.version),
            "dst": str(network),
            "type": "blackhole",
            "table": _RT_TABLE_MAIN,
            "proto": ROUTE_PROTOCOL,
        }

    async def _do(self, what: str, request: Awaitable[Any]) -> Any:
        # Not wait_for(): before Python 3.12 it swallows a cancellation that comes with the answer.
        task = asyncio.ensure_future(request)
        try:
            await asyncio.wait({task}, timeout=_ANSWER_SECONDS)
            if not task.done():
                raise KernelError(f"cannot {what}: no answer in {_ANSWER_SECONDS} s")
            return task.result()
        except _exceptions.NetlinkError as error:
            raise _kernel_error(f"cannot {what}", error.code) from error
        except OSError as error:
            raise _kernel_error(f"cannot {what}", error.errno or 0) from error
        finally:
            if not task.cancel() and not task.cancelled():
                task.exception()  # seen, also when we were cancelled before we could look

    async def _dump(self, what: str, request: Any) -> list[Any]:
        for _ in range(_DUMP_ATTEMPTS):
            try:
                messages: list[Any] = await self._do(
                    what, _collect(await self._do(what, request()))
                )
                return messages
            except KernelError as error:
                if not isinstance(error.__cause__, _exceptions.NetlinkDumpInterrupted):
                    raise
        raise KernelError(f"cannot {what}: they changed during each of {_DUMP_ATTEMPTS} attempts")


async def _collect(messages: AsyncIterator[Any]) -> list[Any]:
    return [message async for message in messages]


def _family(version: int) -> int:
    return AF_INET if version == 4 else AF_INET6


def _address(message: Any) -> Address | None:
    # IFA_LOCAL is our own address; IFA_ADDRESS is the peer's on point-to-point links.
    text = message.get("local") or message.get("address")
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
