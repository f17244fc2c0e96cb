"""The kernel's notices of links, IPv4 addresses and routes that changed, without decoding them.

Owns: which notices there are, and the few numbers that are read of each. A host that makes and
removes containers sends hundreds a second, and to decode one costs pyroute2 milliseconds of the
event loop. Must not know: what a change means for us (backend/healing.py).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from udpoverlay.errors import KernelError

__all__ = ["ADDRESS", "LINK", "ROUTE", "Notice", "Notices"]

_NOTICE = struct.Struct("=IH10xBB2xi")
"""struct nlmsghdr (length, type); then family, prefix length and index of struct ifaddrmsg. In
struct ifinfomsg the index has the same place, in struct rtmsg the prefix length
(linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h)."""
LINK, ADDRESS, ROUTE = "link", "address", "route"
_KINDS = {16: LINK, 17: LINK, 20: ADDRESS, 21: ADDRESS, 24: ROUTE, 25: ROUTE}
"""RTM_NEW… and RTM_DEL…"""
_GROUPS = 0x1 | 0x10 | 0x40
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE."""
_RECEIVE_BYTES = 1 << 16


class Notice(NamedTuple):
    """One change."""

    kind: str
    link: int
    """Its index, for LINK and ADDRESS; else 0."""
    prefixlen: int
    """Of the route's destination, for ROUTE; else 0."""


class Notices:
    """A subscription in the running event loop, from the moment it is made."""

    def __init__(self) -> None:
        """Raises KernelError."""
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
                socket.NETLINK_ROUTE,
            )
            self._socket.bind((0, _GROUPS))
        except OSError as error:
            raise _cannot(error) from error

    def close(self) -> None:
        """Unsubscribe."""
        self._socket.close()

    async def read(self) -> list[Notice] | None:
        """The next changes; None: some were lost, so look at everything. Raises KernelError."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, _RECEIVE_BYTES)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return None
            raise _cannot(error) from error
        return list(_split(data))


def _split(data: bytes) -> Iterator[Notice]:
    offset = 0
    while offset + _NOTICE.size <= len(data):
        length, kind, _, prefixlen, index = _NOTICE.unpack_from(data, offset)
        name = _KINDS.get(kind)
        if name == ROUTE:
            yield Notice(name, 0, prefixlen)
        elif name is not None:
            yield Notice(name, index, 0)
        offset += max(length + 3 & ~3, _NOTICE.size)


def _cannot(error: OSError) -> KernelError:
    code = error.errno or 0
    return KernelError(f"cannot watch links and routes: {os.strerror(code)}", errno=code)
