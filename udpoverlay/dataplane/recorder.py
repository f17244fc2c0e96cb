"""The flight recorder: the last packets that the workers were done with, with their verdicts.

Owns: the memory that workers write to (ext/trace/), how long it lives (longer than an engine), and
the translation into records. Must not know: who reads, and what for.

    worker ─► ring of packets that passed ─┐
           ─► ring of drops ───────────────┴─► read(position) ─► records, oldest first

Reading costs a worker nothing: it never waits for a reader, and writes over its oldest record.
"""

from __future__ import annotations

import socket
import time
from typing import NamedTuple

from udpoverlay import _fastpath as fp
from udpoverlay.errors import OperatorError
from udpoverlay.model.packet_record import POINTS, PacketRecord

__all__ = ["Position", "Reading", "Recorder"]

Position = tuple[int, ...]
"""Where to read on: a number for each worker and kind."""

_VERDICTS = tuple(name for name, *_ in fp.VERDICTS)
_NOT_KNOWN = bytes(4)
_DROPS_SHARE = 4
"""One place for drops to so many for packets that pass."""
_FEWEST_DROPS = 64


class Reading(NamedTuple):
    """What one read found."""

    records: list[PacketRecord]
    """The oldest first."""
    position: Position
    """To go on from."""
    lost: int
    """Packets recorded in between that were written over before they were read."""


class Recorder:
    """Rings for `workers` workers, each of `packets` records (rounded up to a power of two)."""

    def __init__(self, workers: int, packets: int) -> None:
        passed = 1 << (packets - 1).bit_length()
        self.rings = fp.Recorder(
            workers, passed=passed, dropped=max(passed // _DROPS_SHARE, _FEWEST_DROPS)
        )

    def read(
        self, position: Position | None = None, *, most: int = 4096, drops_only: bool = False
    ) -> Reading:
        """Up to `most` records from `position` on; None: from the oldest that there is.

        Each ring gives its share of `most`: read again until there are none. Raises OperatorError
        for a position of other rings.
        """
        count = 2 * self.rings.workers
        # The first look begins with what is left: nothing before it was missed.
        first = position is None
        if position is None:
            position = (0,) * count
        elif len(position) != count:
            raise OperatorError(f"a position has {count} numbers here, not {len(position)}")
        # Records have the monotonic clock; what it shows now and then may be set in between.
        offset = time.time_ns() - time.monotonic_ns()
        found: list[PacketRecord] = []
        after = list(position)
        lost = 0
        for ring in range(count):
            worker, dropped = divmod(ring, 2)
            if drops_only and not dropped:
                continue
            records, after[ring], missed = self.rings.read(
                worker, bool(dropped), position[ring], max(1, most // count)
            )
            lost += 0 if first else missed
            start = after[ring] - len(records)
            found.extend(
                PacketRecord(
                    time_ns + offset,
                    worker,
                    start + at,
                    _VERDICTS[verdict],
                    bool(dropped),
                    POINTS[point],
                    "" if remote == _NOT_KNOWN else socket.inet_ntoa(remote),
                    packets,
                    length,
                    head,
                )
                for at, (time_ns, verdict, point, remote, packets, length, head) in enumerate(
                    records
                )
            )
        found.sort(key=lambda record: record.time_ns)
        return Reading(found, tuple(after), lost)

    def end(self) -> Position:
        """The position behind all that was recorded until now."""
        position: list[int] = []
        for ring in range(2 * self.rings.workers):
            worker, dropped = divmod(ring, 2)
            position.append(self.rings.written(worker, bool(dropped)))
        return tuple(position)
