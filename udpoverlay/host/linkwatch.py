"""Waiting for a link to vanish, without polling.

Owns: the kernel's notices about links, of which it reads two numbers each. A host that makes and
removes containers sends hundreds a second, and to decode one costs pyroute2 milliseconds of the
event loop. Must not know: what the link is for.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct

from udpoverlay.errors import KernelError

__all__ = ["link_deleted"]

_NLMSG = struct.Struct("=IH10x4xi")
"""struct nlmsghdr (length, type), then ifi_index of struct ifinfomsg (linux/netlink.h,
linux/rtnetlink.h)."""
_RTM_DELLINK = 17
_RTMGRP_LINK = 1
_RECEIVE_BYTES = 1 << 16


async def link_deleted(index: int) -> None:
    """Return once link `index` is gone; at once when it never was there. Raises KernelError."""
    try:
        # Subscribed before the link is looked for, so that no notice is missed.
        with socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.NETLINK_ROUTE,
        ) as notices:
            notices.bind((0, _RTMGRP_LINK))
            while _exists(index):
                await _notice(notices, index)
    except OSError as error:
        code = error.errno or 0
        raise KernelError(f"cannot watch links: {os.strerror(code)}", errno=code) from error


def _exists(index: int) -> bool:
    try:
        socket.if_indextoname(index)
    except OSError:
        return False
    return True


async def _notice(notices: socket.socket, index: int) -> None:
    """Return when a notice says that the link went, or when notices were lost: look again."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await loop.sock_recv(notices, _RECEIVE_BYTES)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return
        if _tells_of_deletion(data, index):
            return


def _tells_of_deletion(data: bytes, index: int) -> bool:
    offset = 0
    while offset + _NLMSG.size <= len(data):
        length, kind, which = _NLMSG.unpack_from(data, offset)
        if (kind, which) == (_RTM_DELLINK, index):
            return True
        offset += max(length + 3 & ~3, _NLMSG.size)
    return False
