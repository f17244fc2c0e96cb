"""Actions: sockets made in the host and handed to the parent, and words over a Unix socket."""

from __future__ import annotations

import socket

from udpoverlay.lab.message import WithDescriptors

__all__ = ["ask_unix", "open_socket"]

_ASK_SECONDS = 5.0


def open_socket(family: int, kind: int, protocol: int) -> WithDescriptors:
    """A socket of this network namespace."""
    made = socket.socket(family, kind, protocol)
    return WithDescriptors(None, [made.detach()])


def ask_unix(path: str, text: str) -> str:
    """Send `text` over a Unix stream socket; returns the answer up to an empty line or its end."""
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ASK_SECONDS)
        connection.connect(path)
        connection.sendall(text.encode())
        while not answer.endswith(b"\n\n"):
            data = connection.recv(65536)
            if not data:
                break
            answer += data
    return answer.decode(errors="replace")
