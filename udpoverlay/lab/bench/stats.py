"""What a bench makes of repeated measurements: median, spread, ratio. Pure.

Owns: these rules. Absolute figures move from run to run and machine to machine; a ratio is taken
between two measurements of the same round, which were made one right after the other.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

__all__ = ["median", "ratio", "spread"]

median = statistics.median


def spread(samples: list[float]) -> float:
    """Half the distance between the smallest and the largest, as a share of the median."""
    middle = median(samples)
    return (max(samples) - min(samples)) / 2 / middle if middle else 0.0


def ratio(samples: Mapping[int, float], reference: Mapping[int, float]) -> float | None:
    """Median of the ratios of each round that has both, None where none has."""
    ratios = [
        value / reference[number]
        for number, value in samples.items()
        if reference.get(number, 0) != 0
    ]
    return median(ratios) if ratios else None
