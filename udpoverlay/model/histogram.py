"""How often a value was how large.

Owns: the bounds of ext/worker/histogram.h as numbers, and how two are added. Must not know: what is
measured, how it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Histogram"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts by powers of two."""

    counts: tuple[int, ...]
    """counts[i]: values up to 2**i units and above 2**(i-1); the last has all that are larger."""
    total: float
    """Sum of all values."""
    unit: float = 1
    """1 of packets, 1e-6 of seconds."""

    def __add__(self, other: Histogram) -> Histogram:
        """Of both."""
        counts = tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        return Histogram(counts, self.total + other.total, self.unit)

    def bounds(self) -> list[tuple[str, int]]:
        """(upper bound, values up to it), growing, as Prometheus' `le`; the last is "+Inf"."""
        found, sum_ = [], 0
        for at, count in enumerate(self.counts):
            sum_ += count
            last = at == len(self.counts) - 1
            found.append(("+Inf" if last else f"{2**at * self.unit:.9g}", sum_))
        return found
