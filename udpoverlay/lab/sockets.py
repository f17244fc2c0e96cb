"""Actions: sockets made in the host and handed to the parent."""

from __future__ import annotations

import socket

from udpoverlay.lab.message import WithDescriptors

__all__ = ["open_socket"]


def open_socket(family: int, kind: int, protocol: int) -> WithDescriptors:
    """A socket of this network namespace."""
    made = socket.socket(family, kind, protocol)
    return WithDescriptors(None, [made.detach()])
