"""The round trip to many inner addresses at once: one socket, one request each, a second try.

Owns: pace and deadlines. Must not know: whose addresses they are, what a missing answer means.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import time
from collections.abc import Sequence

from udpoverlay.errors import KernelError
from udpoverlay.reach.echo import NONCE_BYTES, SMALLEST, answer, request, without_ip_header
from udpoverlay.reach.live.socket import open_icmp

__all__ = ["MOST", "round_trips"]

MOST = 1000
"""Addresses; more would take long, and fill queues on the way."""
_TRIES = 2
_BURST = 20
"""Requests before the answers so far are read."""
_PAUSE = 0.002
_MESSAGE = 1 << 12


def round_trips(source: str, targets: Sequence[str], seconds: float = 1.0) -> dict[str, float]:
    """Seconds to each of `targets` that answers within so long, asked from the address `source`.

    Raises OperatorError without the right, KernelError when `source` is not an address of ours.
    """
    if len(targets) > MOST:
        raise ValueError(f"{len(targets)} addresses, {MOST} may be")
    sock, raw = open_icmp()
    with contextlib.closing(sock):
        try:
            sock.setblocking(False)
            sock.bind((source, 0))
        except OSError as error:
            raise KernelError(
                f"cannot send from {source}: {error.strerror}", errno=error.errno or 0
            ) from error
        # A ping socket's port is the identifier that the kernel writes into its requests.
        run = _Run(sock, raw, secrets.randbits(16) if raw else sock.getsockname()[1])
        for _ in range(_TRIES):
            run.ask([target for target in targets if target not in run.found], seconds)
    return run.found


class _Run:
    """Requests and answers of one call. A request is known by its place and its nonce."""

    def __init__(self, sock: socket.socket, raw: bool, identifier: int) -> None:
        self.found: dict[str, float] = {}
        self._socket, self._raw = sock, raw
        self._identifier = identifier
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def ask(self, targets: Sequence[str], seconds: float) -> None:
        """One request to each, and what is answered by `seconds` after the last."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sent: dict[int, tuple[str, float]] = {}
        for sequence, target in enumerate(targets):
            message = request(self._identifier, sequence, nonce, SMALLEST)
            sent[sequence] = (target, time.monotonic())
            with contextlib.suppress(OSError):  # then it is not answered
                self._socket.sendto(message, (target, 0))
            if sequence % _BURST == _BURST - 1:
                self._receive(nonce, sent, time.monotonic() + _PAUSE)
        self._receive(nonce, sent, time.monotonic() + seconds)

    def _receive(self, nonce: bytes, sent: dict[int, tuple[str, float]], until: float) -> None:
        while sent and (left := until - time.monotonic()) > 0:
            if not self._poll.poll(left * 1000):
                return
            try:
                data, (sender, _) = self._socket.recvfrom(_MESSAGE)
            except OSError:  # an error that came back for a request
                continue
            sequence = answer(without_ip_header(data) if self._raw else data, nonce)
            if sequence is None or sent.get(sequence, ("", 0.0))[0] != sender:
                continue
            self.found[sender] = time.monotonic() - sent.pop(sequence)[1]
