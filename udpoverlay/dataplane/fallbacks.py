"""Offloads that the kernel refused: what fell back, towards whom, why, and when it is tried again.

Owns: how that reads for people and programs. Must not know: when something falls back and for how
long (ext/offload/fallback.h).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence

from udpoverlay import _fastpath as fp
from udpoverlay.model.fallback import Fallback

__all__ = ["describe", "read_fallbacks"]


def read_fallbacks(table: fp.RouteTable, workers: Iterable[fp.Worker]) -> list[Fallback]:
    """All of them, those of the TUN device first."""
    now = time.monotonic_ns()

    def made(peer: str, found: tuple[str, str, int, int], past: int = 0) -> Fallback:
        offload, cause, count, retry_at = found
        retry = max(0, retry_at - now) / 1e9 if retry_at else None
        return Fallback(
            offload, peer, cause, count, retry, (past - now) / 1e9 if past > now else None
        )

    of_device = [made("", found) for worker in workers for found in worker.fallbacks()]
    of_peers = [made(_text(address), found, past) for address, _, found, past in table.fallbacks()]
    return of_device + sorted(of_peers, key=lambda each: each.peer)


def describe(offload: str, fallbacks: Sequence[Fallback]) -> str:
    """How `offload`, which is on, is now: "on", or for whom it is not."""
    away = [
        each for each in fallbacks if each.offload == offload and each.retry_seconds is not None
    ]
    if not away:
        return "on"
    causes = "; ".join(sorted({each.cause for each in away}))
    peers = len({each.peer for each in away if each.peer})
    for_whom = f" for {peers} peer{'s' if peers > 1 else ''}" if peers else ""
    return f"on, fallen back{for_whom}: {causes}"


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
