"""Telling the service manager how we are: the sd_notify(3) protocol.

Owns: its words and its one datagram a message. Must not know: when we are ready, where the socket's
name comes from. A manager that does not listen is logged once and costs nothing else.

    READY=1       the subnet file is written, packets flow
    STATUS=…      one line for a person (systemctl status)
    WATCHDOG=1    both the event loop and the packets' threads are alive (WatchdogSec=)
    STOPPING=1    a signal came; what was started is undone
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from udpoverlay.errors import OperatorError
from udpoverlay.log import get_logger

__all__ = ["ServiceManager", "kept_descriptors", "send"]

_log = get_logger(__name__)

_FIRST_KEPT = 3
"""SD_LISTEN_FDS_START."""
_MOST_KEPT = 128
_PARTS_OF_THE_WATCHDOG = 3
"""Signs of life in one of the manager's periods: one that comes late is no reason to be killed."""


class ServiceManager:
    """The other end of NOTIFY_SOCKET; "" for an address: there is none."""

    def __init__(
        self,
        address: str = "",
        watchdog_usec: str = "",
        kept: Mapping[str, Sequence[int]] | None = None,
        *,
        keeps: bool = False,
    ) -> None:
        """`address` and `watchdog_usec` are the values of NOTIFY_SOCKET and WATCHDOG_USEC.

        `kept`: descriptors that it kept for us since the last run, by name (`kept_descriptors`).
        `keeps`: it starts us again, and may keep some until then.
        """
        self.kept = dict(kept or {})
        self.keeps = keeps and bool(address)
        self._address = address
        self._status = ""
        self._complained = False
        usec = int(watchdog_usec) if watchdog_usec.isascii() and watchdog_usec.isdigit() else 0
        self.watchdog_seconds = usec / 1e6 / _PARTS_OF_THE_WATCHDOG if address else 0.0
        """Seconds between two signs of life; 0: none is expected."""

    def ready(self, status: str) -> None:
        """READY=1, with a line for a person."""
        self._status = status
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """RELOADING=1, with the time that it needs (sd_notify(3)); `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, text: str) -> None:
        """STATUS, when it is another one than before."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """STOPPING=1."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def keep(self, name: str, descriptors: Sequence[int]) -> None:
        """Have it keep copies over a restart, in place of those of that name (FDSTORE=1).

        FDPOLL=0: an error waiting in a socket is no reason to drop it.
        """
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")
        self._send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", descriptors)

    async def watch(
        self,
        alive: Callable[[], bool],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """WATCHDOG=1 again and again, while `alive()`; never returns."""
        while True:
            await sleep(self.watchdog_seconds or 3600.0)
            if self.watchdog_seconds and alive():
                self._send("WATCHDOG=1")

    def _send(self, message: str, descriptors: Sequence[int] = ()) -> None:
        try:
            send(self._address, message, descriptors)
        except OperatorError as error:
            if not self._complained:
                self._complained = True
                _log.error("the service manager cannot be notified", reason=str(error))


def kept_descriptors(environ: Mapping[str, str], pid: int) -> dict[str, list[int]]:
    """What a service manager passes to process `pid`: sd_listen_fds_with_names(3)."""
    texts = (environ.get("LISTEN_PID", ""), environ.get("LISTEN_FDS", ""))
    if not all(text.isascii() and text.isdigit() and len(text) < 10 for text in texts):
        return {}
    if int(texts[0]) != pid:
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[int]] = {}
    for number in range(min(int(texts[1]), _MOST_KEPT)):
        name = names[number] if number < len(names) else "unknown"
        found.setdefault(name, []).append(_FIRST_KEPT + number)
    return found


def send(address: str, message: str, descriptors: Sequence[int] = ()) -> bool:
    """Send `message` to the socket `address` (the value of NOTIFY_SOCKET); False without one.

    "/path" is a file, "@name" an abstract socket. Raises OperatorError when it is not taken.
    """
    if not address:
        return False
    if address[0] not in "/@" or len(address) < 2:
        raise OperatorError(
            f"NOTIFY_SOCKET {address!r} is neither a path nor an abstract name",
            fix="unset it or let systemd set it",
        )
    name = "\0" + address[1:] if address[0] == "@" else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.connect(name)
            if descriptors:
                socket.send_fds(sock, [message.encode()], list(descriptors))
            else:
                sock.send(message.encode())
    except (OSError, ValueError) as error:
        raise OperatorError(f"cannot notify NOTIFY_SOCKET {address!r}: {error}") from error
    return True
