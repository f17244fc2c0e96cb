"""TCP's congestion control in a test: the machine's own, or one that was asked for.

It decides more about a TCP figure than a tunnel may: at round trips of microseconds BBR paces by a
timer, while CUBIC and Reno send as fast as acknowledgements come. A figure without its name cannot
be compared. Owns: where the names come from and how one is set. Must not know: what is measured.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from udpoverlay.errors import OperatorError

__all__ = ["apply", "available", "default"]

_SYSCTL = Path("/proc/sys/net/ipv4")


def _sysctl(name: str) -> str:
    """A setting, "" where /proc does not show it: a bench can do without knowing."""
    with contextlib.suppress(OSError):
        return (_SYSCTL / name).read_text(encoding="ascii")
    return ""


def default() -> str:
    """What a socket gets by itself; new network namespaces take it over."""
    return _sysctl("tcp_congestion_control").strip()


def available() -> tuple[str, ...]:
    """What the kernel has loaded."""
    return tuple(sorted(_sysctl("tcp_available_congestion_control").split()))


def apply(connection: socket.socket, name: str) -> None:
    """Set it on a TCP socket, "" for the machine's own. Raises OperatorError for an unknown one."""
    if not name:
        return
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
    except OSError as error:
        raise OperatorError(
            f"TCP congestion control {name!r}: {error.strerror}",
            fix=f"use one of {', '.join(available())}, or load its module (modprobe tcp_{name})",
        ) from error
