"""Telling the service manager that we are ready: the sd_notify(3) protocol.

Owns: the one datagram. Must not know: when we are ready, where the socket's name comes from.
"""

from __future__ import annotations

import socket

from udpoverlay.errors import OperatorError

__all__ = ["READY", "notify"]

READY = "READY=1"


def notify(address: str, message: str) -> bool:
    """Send `message` to the socket `address` (the value of NOTIFY_SOCKET); "" is nobody: False.

    "/path" is a file, "@name" an abstract socket. Raises OperatorError when nobody takes it.
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
            sock.send(message.encode())
    except (OSError, ValueError) as error:
        raise OperatorError(f"cannot notify NOTIFY_SOCKET {address!r}: {error}") from error
    return True
