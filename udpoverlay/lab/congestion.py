"""TCP's congestion control in a test: the machine's own, or one that was asked for.

It decides more about a TCP figure than a tunnel may: at round trips of microseconds BBR paces by a
timer, while CUBIC and Reno send as fast as acknowledgements come. A figure without its name cannot
be compared. Owns: where the names come from and how one is set. Must not know: what is measured.
"""

from __future__ import annotations

import socket
from pathlib import Path

from udpoverlay.errors import OperatorError

__all__ = ["apply", "available", "default"]

_SYSCTL = Path("/proc/sys/net/ipv4")


def default() -> str:
    """What a socket gets by itself; new network namespaces take it over."""
    return (_SYSCTL / "tcp_congestion_control").read_text(encoding="ascii").strip()


def available() -> tuple[str, ...]:
    """What the kernel has loaded."""
    text = (_SYSCTL / "tcp_available_congestion_control").read_text(encoding="ascii")
    return tuple(sorted(text.split()))


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
