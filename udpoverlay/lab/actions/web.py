"""Actions: one HTTP request from inside the host, to a TCP address or a Unix socket."""

from __future__ import annotations

import http.client
import socket

__all__ = ["request"]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def request(
    address: str, method: str, path: str, body: str | None = None, seconds: float = 5.0
) -> tuple[int, str]:
    """Status and body; `address` is HOST:PORT, or the path of a Unix socket (starts with /)."""
    connection: http.client.HTTPConnection
    if address.startswith("/"):
        connection = _UnixConnection(address, seconds)
    else:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=seconds)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()
