"""A link's state in a few system calls, and the tunnel device as it has to be.

Owns: how the state is asked for, the order of repair. Must not know: why a device is as it is, who
changed it. A look costs microseconds: no message is decoded, as host/netlink.py has to.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from dataclasses import dataclass

from netaddr import IPAddress, IPNetwork

from udpoverlay.errors import KernelError
from udpoverlay.host.netlink import Netlink

__all__ = ["LinkState", "link_state", "restore_tunnel"]

# linux/sockios.h
_SIOCGIFFLAGS, _SIOCGIFADDR, _SIOCGIFMTU = 0x8913, 0x8915, 0x8921
# linux/if.h
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_IFREQ = struct.Struct("16s24s")
"""struct ifreq: the link's name, then a union."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """One link at one moment."""

    name: str
    up: bool
    """By its administrator."""
    running: bool
    """It has a carrier."""
    mtu: int
    """In bytes."""
    address: IPAddress | None
    """The first IPv4 one."""


def link_state(index: int) -> LinkState | None:
    """The link with this kernel index; None when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            name = socket.if_indextoname(index)
            (flags,) = struct.unpack_from("=H", _ask(sock, _SIOCGIFFLAGS, name))
            (mtu,) = struct.unpack_from("=i", _ask(sock, _SIOCGIFMTU, name))
        except OSError:
            return None
        try:
            address = IPAddress(socket.inet_ntoa(_ask(sock, _SIOCGIFADDR, name)[4:8]))
        except OSError:
            address = None
    return LinkState(name, bool(flags & _IFF_UP), bool(flags & _IFF_RUNNING), mtu, address)


def _ask(sock: socket.socket, request: int, name: str) -> bytes:
    union: bytes = _IFREQ.unpack(fcntl.ioctl(sock, request, _IFREQ.pack(name.encode(), bytes(24))))[
        1
    ]
    return union


async def restore_tunnel(index: int, address: IPAddress, mtu: int, network: IPNetwork) -> list[str]:
    """Give a device what `configure_tunnel` gave it and it has no more; what was missing, in words.

    Raises KernelError, with ENODEV when there is no such device.
    """
    state = link_state(index)
    if state is None:
        raise KernelError("the tunnel device was deleted", errno=errno.ENODEV)
    missing = []
    async with Netlink() as netlink:
        if state.mtu != mtu:
            await netlink.set_mtu(index, mtu)
            missing.append(f"its MTU was {state.mtu}")
        if state.address != address and await netlink.ensure_address(index, address):
            missing.append(f"its address {address} was gone")
        if not state.up:
            await netlink.set_no_link_local(index)
            await netlink.set_up(index)
            missing.append("it was down")
        # The kernel takes a device's routes away when it goes down, and with its last address.
        if await netlink.add_link_route(network, index):
            missing.append(f"its route to {network} was gone")
    return missing
