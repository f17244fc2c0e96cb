"""The far side of `doctor --peer`: answers questions on the tunnel's and VXLAN's ports for a while.

Owns: the sockets, how much is answered. Must not know: who asks, what the questions are for.

Nothing is answered but questions (facts/shapes.py), with as many bytes, from the address that was
asked, and no more of them a second than ANSWERS_A_SECOND: a stranger gains nothing by asking.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from udpoverlay.doctor.facts import shapes
from udpoverlay.errors import OperatorError

__all__ = ["ANSWERS_A_SECOND", "listen"]

ANSWERS_A_SECOND = 100
_IP_PKTINFO = 8
_PKTINFO = struct.Struct("=i4s4s")
_SNMP = Path("/proc/thread-self/net/snmp")


class _Budget:
    """Counts what was answered in this second."""

    def __init__(self) -> None:
        self._second, self._count = 0, 0

    def take(self) -> bool:
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._count = now, 0
        self._count += 1
        return self._count <= ANSWERS_A_SECOND


@dataclass(frozen=True, slots=True)
class _Listener:
    port: int
    sock: socket.socket


async def listen(
    ports: Sequence[int],
    seconds: float,
    ready: Callable[[Sequence[int], Sequence[int]], None],
    asked: Callable[[str, int], None],
) -> None:
    """Answer for `seconds`.

    `ready` gets the ports that are listened on and those that others have, `asked` each new asker
    with the port. Raises OperatorError when no port is free.
    """
    async with _opened(ports) as listeners:
        open_ports = [each.port for each in listeners]
        taken = [port for port in ports if port not in open_ports]
        if not listeners:
            raise OperatorError(
                f"none of the UDP ports {', '.join(map(str, ports))} is free",
                fix="a daemon or a VXLAN device has them; a daemon answers doctor --peer by itself",
            )
        ready(open_ports, taken)
        before, budget, seen = _bad_checksums(), _Budget(), set[tuple[str, int]]()
        loop = asyncio.get_running_loop()

        def answer(listener: _Listener) -> None:
            with contextlib.suppress(OSError):
                data, ancillary, _, sender = listener.sock.recvmsg(1 << 16, 128)
                probe = shapes.read(data)
                if probe is None or probe.is_answer or not budget.take():
                    return
                if (sender[0], listener.port) not in seen and len(seen) < 1000:
                    seen.add((sender[0], listener.port))
                    asked(sender[0], listener.port)
                facts = {"ports": open_ports, "bad_checksums": _bad_checksums() - before}
                listener.sock.sendmsg([shapes.answer(data, facts)], _from(ancillary), 0, sender)

        for listener in listeners:
            loop.add_reader(listener.sock, answer, listener)
        try:
            await asyncio.sleep(seconds)
        finally:
            for listener in listeners:
                loop.remove_reader(listener.sock)


@contextlib.asynccontextmanager
async def _opened(ports: Sequence[int]) -> AsyncIterator[list[_Listener]]:
    listeners: list[_Listener] = []
    try:
        for port in ports:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            try:
                sock.bind(("", port))
            except OSError:
                sock.close()
                continue
            listeners.append(_Listener(port, sock))
        yield listeners
    finally:
        for listener in listeners:
            listener.sock.close()


def _from(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """What makes the answer leave from the address that was asked (man 7 ip, IP_PKTINFO)."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, local, _ = _PKTINFO.unpack_from(data)
            return [(level, kind, _PKTINFO.pack(0, local, bytes(4)))]
    return []


def _bad_checksums() -> int:
    """Datagrams with a wrong checksum that came to any UDP socket since boot (InCsumErrors)."""
    try:
        rows = [line.split() for line in _SNMP.read_text().splitlines() if line.startswith("Udp:")]
        return int(rows[1][rows[0].index("InCsumErrors")])
    except (OSError, ValueError, IndexError):
        return 0
