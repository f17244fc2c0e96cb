"""One rtnetlink socket: a request out, its answers in.

Owns: every use of pyroute2, sequence numbers, dumps, time-outs. Must not know: links, routes, what
is asked. Errors are OSErrors with the kernel's number.

pyroute2 encodes and decodes the messages (ifinfmsg, ifaddrmsg, rtmsg), no more. Its sockets would
triple what it costs a process (38 ms and 5.5 MB, with a mock library among it), and uvloop cannot
read them (github.com/MagicStack/uvloop/issues/676). The messages are imported below an empty parent
package that is taken away again: the real one loads every protocol there is, and a later
`import pyroute2` by anybody must still find it.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import importlib.util
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

__all__ = [
    "RTM_DELROUTE",
    "RTM_GETADDR",
    "RTM_GETLINK",
    "RTM_GETROUTE",
    "RTM_NEWADDR",
    "RTM_NEWLINK",
    "RTM_NEWROUTE",
    "Rtnetlink",
]

# linux/rtnetlink.h
RTM_NEWLINK = 16
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26
_KINDS = ("ifinfmsg", "ifaddrmsg", "rtmsg")
"""The struct that each group of four requests has, from 16 on: link, address, route."""
# linux/netlink.h
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_DUMP_INTR = 0x10
_NLM_F_EXCL_CREATE = 0x600
_NLM_F_DUMP = 0x300
_HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence number, port."""
_CODE = struct.Struct("=i")
"""What NLMSG_ERROR and NLMSG_DONE begin with: 0, or a negative error number."""

_DUMP_ATTEMPTS = 5
"""A dump that another change interrupted (NLM_F_DUMP_INTR) is asked for again this often."""
_ANSWER_SECONDS = 10
"""rtnetlink answers at once; only a lost message takes this long."""
_RECEIVE_BYTES = 1 << 16
"""Longer than any message of the kernel's dumps (32 KiB at most)."""

Message = Any
"""A decoded message of pyroute2: fields by [name], attributes by get_attr(name)."""


def _import_messages() -> dict[str, Any]:
    """pyroute2's classes for the structs, without the rest of the library."""
    if "pyroute2" in sys.modules:
        return _messages()
    spec = importlib.util.find_spec("pyroute2")
    if spec is None:
        raise ImportError("pyroute2 is not installed", name="pyroute2")
    parent = ModuleType("pyroute2")
    parent.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["pyroute2"] = parent
    try:
        return _messages()
    finally:
        del sys.modules["pyroute2"]


def _messages() -> dict[str, Any]:
    return {
        name: getattr(importlib.import_module(f"pyroute2.netlink.rtnl.{name}"), name)
        for name in _KINDS
    }


_MESSAGES = _import_messages()


class Rtnetlink:
    """One socket in the running event loop; one request at a time."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.NETLINK_ROUTE,
        )
        self._sequence = 0

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    async def change(self, kind: int, fields: Mapping[str, Any], **attributes: Any) -> None:
        """Have something changed: RTM_NEW… makes what is not there yet, or sets what is."""
        flags = _NLM_F_ACK | (_NLM_F_EXCL_CREATE if kind in {RTM_NEWADDR, RTM_NEWROUTE} else 0)
        await self._bounded(kind, flags, fields, attributes)

    async def get(self, kind: int, fields: Mapping[str, Any], **attributes: Any) -> Message | None:
        """Ask for one thing."""
        answers = await self._bounded(kind, _NLM_F_ACK, fields, attributes)
        return answers[0] if answers else None

    async def dump(self, kind: int, fields: Mapping[str, Any], **attributes: Any) -> list[Message]:
        """Ask for all there are, as they were at one moment."""
        for _ in range(_DUMP_ATTEMPTS):
            answers = await self._bounded(kind, _NLM_F_DUMP, fields, attributes)
            if None not in answers:
                return answers
        raise OSError(errno.EINTR, f"they changed during each of {_DUMP_ATTEMPTS} attempts")

    async def _bounded(self, *request: Any) -> list[Message]:
        # Not wait_for(): before Python 3.12 it swallows a cancellation that comes with the answer.
        task = asyncio.ensure_future(self._exchange(*request))
        try:
            await asyncio.wait({task}, timeout=_ANSWER_SECONDS)
            if not task.done():
                raise OSError(errno.ETIMEDOUT, f"no answer in {_ANSWER_SECONDS:g} s")
            return task.result()
        finally:
            if not task.cancel() and not task.cancelled():
                task.exception()  # seen, also when we were cancelled before we could look

    async def _exchange(
        self, kind: int, flags: int, fields: Mapping[str, Any], attributes: Mapping[str, Any]
    ) -> list[Message]:
        """All answers to one request; None among them where a change interrupted a dump."""
        self._sequence += 1
        loop = asyncio.get_running_loop()
        request = _encoded(kind, flags | _NLM_F_REQUEST, self._sequence, fields, attributes)
        await loop.sock_sendall(self._socket, request)
        answers: list[Message] = []
        while True:
            data = await loop.sock_recv(self._socket, _RECEIVE_BYTES)
            for kind_, flags_, sequence, payload in _split(data):
                if sequence != self._sequence:
                    continue  # to a request that was given up
                if flags_ & _NLM_F_DUMP_INTR:
                    answers.append(None)
                if kind_ in {_NLMSG_ERROR, _NLMSG_DONE}:
                    (code,) = _CODE.unpack_from(data, payload) if payload + 4 <= len(data) else (0,)
                    if code < 0:
                        raise OSError(-code, os.strerror(-code))
                    return answers
                answers.append(_decoded(kind_, data, payload - _HEADER.size))


def _encoded(
    kind: int,
    flags: int,
    sequence: int,
    fields: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> bytes:
    message = _struct_of(kind)()
    message["header"] = {"type": kind, "flags": flags, "sequence_number": sequence, "pid": 0}
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attributes.items())
    message.encode()
    return bytes(message.data)


def _decoded(kind: int, data: bytes, offset: int) -> Message:
    message = _struct_of(kind)(data, offset=offset)
    message.decode()
    return message


def _struct_of(kind: int) -> Any:
    return _MESSAGES[_KINDS[(kind - RTM_NEWLINK) // 4]]


def _split(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(type, flags, sequence number, where the payload begins) of each message."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, flags, sequence, offset + _HEADER.size
        offset += length + 3 & ~3
