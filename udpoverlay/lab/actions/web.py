"""Actions: one HTTP request from inside the host, to a TCP address or a Unix socket."""

from __future__ import annotations

import http.client

from udpoverlay.observe.client import UnixConnection

__all__ = ["request"]


def request(
    address: str, method: str, path: str, body: str | None = None, seconds: float = 5.0
) -> tuple[int, str]:
    """Status and body; `address` is HOST:PORT, or the path of a Unix socket (starts with /)."""
    connection: http.client.HTTPConnection
    if address.startswith("/"):
        connection = UnixConnection(address, seconds)
    else:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=seconds)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()
