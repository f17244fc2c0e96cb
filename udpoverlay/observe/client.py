"""The other end of the admin socket: asks a running daemon for its documents.

Owns: how the socket is reached, and which sentence a failure becomes. Must not know: what stands in
a document, beyond the version of its schema.
"""

from __future__ import annotations

import errno
import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from udpoverlay.errors import OperatorError
from udpoverlay.observe.status import SCHEMA_VERSION

__all__ = ["DEFAULT_SOCKET", "AdminClient", "UnixConnection"]

DEFAULT_SOCKET = "/run/udpoverlay/admin.sock"

_SECONDS = 10.0
_MOST_BYTES = 64 << 20
"""Of one document: 10,000 peers have 5 MB."""
_MOST_LINE = 1 << 16
"""Of a stream."""


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over the Unix socket `path`."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Called by the first request."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class AdminClient:
    """Asks the daemon behind the Unix socket `path`. Every failure is an OperatorError."""

    def __init__(self, path: str = DEFAULT_SOCKET, seconds: float = _SECONDS) -> None:
        self.path = path
        self._seconds = seconds

    def get(self, url: str) -> dict[str, Any]:
        """The document under `url`, for example "/v1/status"."""
        return self._document(url, *self._ask("GET", url))

    def post(self, url: str, wanted: Mapping[str, object]) -> dict[str, Any]:
        """Ask for something to be done; what is so then."""
        return self._document(url, *self._ask("POST", url, json.dumps(wanted).encode()))

    def lines(self, url: str, until: float | None = None) -> Iterator[dict[str, Any]]:
        """The objects of the stream under `url`, one by one.

        It ends with the stream, or at `until` (time.monotonic). A daemon that says nothing for long
        has ended, as has one that ends the stream in the middle of a line.
        """
        connection = UnixConnection(self.path, self._seconds)
        try:
            connection.request("GET", url)
            sock = connection.sock
            response = connection.getresponse()
            if response.status != 200:
                self._document(url, response.status, response.read(_MOST_BYTES))
            first = True
            while True:
                if until is not None:
                    left = until - time.monotonic()
                    if left <= 0:
                        return
                    sock.settimeout(min(left, self._seconds))
                try:
                    line = response.readline(_MOST_LINE)
                except TimeoutError:
                    if until is not None and time.monotonic() >= until:
                        return
                    raise
                if not line:
                    return
                document = self._document(url, 200, line, schema=first)
                first = False
                yield document
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _document(
        self, url: str, status: int, body: bytes, *, schema: bool = True
    ) -> dict[str, Any]:
        """The object in `body`; its version is looked at where it has one."""
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise OperatorError(
                f"what answers on {self.path!r} is no udpoverlayd: no JSON object for {url}",
                fix="name the daemon's socket with --admin-socket",
            )
        if status == 400 and "error" in document:
            raise OperatorError(str(document["error"]))
        if status != 200:
            raise OperatorError(
                f"the daemon refused {url}: {document.get('error', f'HTTP {status}')}",
                fix=_FIXES.get(status, ""),
            )
        if schema and document.get("schema") != SCHEMA_VERSION:
            raise OperatorError(
                f"the daemon speaks version {document.get('schema')!r} of the admin schema, "
                f"this command {SCHEMA_VERSION}",
                fix="use the command of the daemon's own version",
            )
        return document

    def _ask(self, method: str, url: str, sent: bytes | None = None) -> tuple[int, bytes]:
        connection = UnixConnection(self.path, self._seconds)
        try:
            connection.request(method, url, sent)
            response = connection.getresponse()
            body = response.read(_MOST_BYTES + 1)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        if len(body) > _MOST_BYTES:
            raise OperatorError(f"the answer to {url} has more than {_MOST_BYTES >> 20} MiB")
        return response.status, body

    def _unreachable(self, error: Exception) -> OperatorError:
        number = getattr(error, "errno", None)
        if number == errno.ENOENT:
            return OperatorError(
                f"no daemon on this host has the admin socket {self.path!r}",
                fix="start udpoverlayd; --admin-socket names another socket, --node a lab's node",
            )
        if isinstance(error, http.client.IncompleteRead):
            return OperatorError(f"the daemon behind {self.path!r} has ended", fix="see its log")
        if number == errno.ECONNREFUSED:
            return OperatorError(
                f"nothing listens on the admin socket {self.path!r}: its daemon is gone",
                fix="start udpoverlayd",
            )
        if number in {errno.EACCES, errno.EPERM}:
            return OperatorError(f"only root may use the admin socket {self.path!r}", fix="sudo")
        if isinstance(error, TimeoutError):
            return OperatorError(
                f"the daemon behind {self.path!r} did not answer within {self._seconds:g} seconds",
                fix="look at its log and its CPU time",
            )
        reason = getattr(error, "strerror", None) or error
        return OperatorError(f"cannot ask {self.path!r}: {reason}")


_FIXES = {
    403: "sudo",
    404: "the daemon is older than this command: use its own version's",
    409: "start the daemon without --flight-recorder=0",
    503: "end one of them",
}
