"""Impairments of one engine: set, listed, ended, and their memory given back.

Owns: which peer's is at which place, and the log of it. Must not know: what happens to a packet
(ext/worker/impair.h), which peers there are, who asks.

The workers end one by themselves, by their own clock. What is here only notices it, so that nothing
goes on when the event loop does not.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from udpoverlay.errors import KernelError, OperatorError
from udpoverlay.log import get_logger
from udpoverlay.model.impairment import (
    MOST_TOGETHER,
    Impairment,
    ImpairmentState,
    how_to_allow,
)

__all__ = ["Impairments"]

_log = get_logger(__name__)

LOOK_SECONDS = 0.1
"""Between two looks at what has ended, while there is one."""
_MILLION = 1_000_000


class _Pump(Protocol):
    def set_impairment(  # noqa: PLR0913 - see _fastpath.pyi
        self,
        place: int,
        peer: bytes,
        until_ns: int,
        *,
        seed: int,
        loss: int,
        duplicate: int,
        corrupt: int,
        reorder: int,
        behind_us: int,
        delay_us: int,
        jitter_us: int,
        rate: int,
    ) -> None: ...

    def end_impairment(self, place: int) -> None: ...


class _Worker(Protocol):
    def offer_impairment(self, place: int) -> bool: ...

    def reclaim_impairment(self, place: int) -> bool: ...

    def impairment_counts(self, place: int) -> tuple[int, int, int, int, int, int, int]: ...


@dataclass(slots=True)
class _Held:
    impairment: Impairment
    until_ns: int
    why: str = ""
    """It ended; "" while it is active."""


class Impairments:
    """Those of one engine's workers; `allowed` is --allow-impair."""

    def __init__(self, pump: _Pump, workers: Sequence[_Worker], *, allowed: bool) -> None:
        self.allowed = allowed
        self._pump = pump
        self._workers = workers
        self._held: dict[int, _Held] = {}
        self._some = asyncio.Event()

    def set(self, wanted: Impairment) -> None:
        """From now on, in place of what there is for that peer. Raises OperatorError."""
        if not self.allowed:
            raise how_to_allow()
        self.look()
        active = [held for held in self._held.values() if not held.why]
        if len(active) >= MOST_TOGETHER and all(
            held.impairment.peer != wanted.peer for held in active
        ):
            peers = ", ".join(held.impairment.peer for held in active)
            raise OperatorError(
                f"{MOST_TOGETHER} peers are impaired already: {peers}",
                fix="end one: udpoverlay impair PEER off",
            )
        self.end(wanted.peer, why="replaced")
        self.look()
        place = next((each for each in range(MOST_TOGETHER) if each not in self._held), None)
        if place is None:
            raise OperatorError("what was ended is not given back yet", fix="try again in a second")
        until = time.monotonic_ns() + int(wanted.seconds * 1e9)
        family = socket.AF_INET6 if ":" in wanted.peer else socket.AF_INET
        self._pump.set_impairment(
            place, socket.inet_pton(family, wanted.peer), until, **_in_units(wanted)
        )
        held = self._held[place] = _Held(wanted, until)
        try:
            for worker in self._workers:
                worker.offer_impairment(place)
        except MemoryError as error:
            self._pump.end_impairment(place)
            held.why = "no memory"
            raise KernelError("no memory for packets that are held back") from error
        finally:
            self._some.set()
        _log.warning(
            "impairment starts: packets to a peer are made worse on purpose",
            peer=wanted.peer,
            what=wanted.what(),
            seconds=wanted.seconds,
            seed=wanted.seed,
        )

    def end(self, peer: str, *, why: str = "asked for") -> bool:
        """Let the packets for `peer` be; False: nothing was done to them."""
        found = False
        for place, held in self._held.items():
            if held.impairment.peer == peer and not held.why:
                self._pump.end_impairment(place)
                held.why, found = why, True
        return found

    def states(self) -> list[ImpairmentState]:
        """Those that are active, by peer."""
        now = time.monotonic_ns()
        found = [
            ImpairmentState(
                held.impairment, round((held.until_ns - now) / 1e9, 3), *self._counts(place)
            )
            for place, held in self._held.items()
            if not held.why and held.until_ns > now
        ]
        return sorted(found, key=lambda each: each.impairment.peer)

    async def run(self) -> None:
        """Notice ends, until cancelled."""
        while True:
            await self._some.wait()
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Free what the workers are done with."""
        now = time.monotonic_ns()
        for place, held in list(self._held.items()):
            if not held.why and held.until_ns <= now:
                held.why = "its time is over"
            # No short cut: each is to be asked.
            if held.why and all([worker.reclaim_impairment(place) for worker in self._workers]):
                self._ended(place)
        if not self._held:
            self._some.clear()

    def stop(self) -> None:
        """The workers have ended: so has everything here."""
        for place, held in list(self._held.items()):
            held.why = held.why or "the tunnel stopped"
            self._ended(place)

    def _ended(self, place: int) -> None:
        held = self._held.pop(place)
        packets, lost, corrupted, duplicated, reordered, overflowed, _ = self._counts(place)
        _log.warning(
            "impairment ended",
            peer=held.impairment.peer,
            why=held.why,
            packets=packets,
            lost=lost,
            corrupted=corrupted,
            duplicated=duplicated,
            reordered=reordered,
            overflowed=overflowed,
        )

    def _counts(self, place: int) -> list[int]:
        each = [worker.impairment_counts(place) for worker in self._workers]
        return [sum(column) for column in zip(*each, strict=True)]


def _in_units(wanted: Impairment) -> dict[str, int]:
    """As the C unit counts: millionths and microseconds."""
    return {
        "seed": wanted.seed,
        "loss": round(wanted.loss_percent / 100 * _MILLION),
        "duplicate": round(wanted.duplicate_percent / 100 * _MILLION),
        "corrupt": round(wanted.corrupt_percent / 100 * _MILLION),
        "reorder": round(wanted.reorder_percent / 100 * _MILLION),
        "behind_us": round(wanted.reorder_ms * 1000),
        "delay_us": round(wanted.delay_ms * 1000),
        "jitter_us": round(wanted.jitter_ms * 1000),
        "rate": wanted.rate_bits_per_second,
    }
