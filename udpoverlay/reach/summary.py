"""Figures of a run of echo requests. Owns: what loss and mdev mean. Must not know: who asked."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Summary", "summarize"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Of `sent` requests; times in seconds, 0.0 where none was answered."""

    sent: int
    answered: int
    least: float = 0.0
    median: float = 0.0
    average: float = 0.0
    most: float = 0.0
    deviation: float = 0.0
    """The standard deviation, which ping calls mdev."""

    @property
    def loss(self) -> float:
        """The share that was not answered, 0 to 1; of none sent, 0."""
        return 1 - self.answered / self.sent if self.sent else 0.0


def summarize(sent: int, trips: Sequence[float]) -> Summary:
    """From the round trips of those that were answered."""
    if not trips:
        return Summary(sent, 0)
    average = statistics.fmean(trips)
    deviation = math.sqrt(statistics.fmean((trip - average) ** 2 for trip in trips))
    least, most = min(trips), max(trips)
    return Summary(sent, len(trips), least, statistics.median(trips), average, most, deviation)
