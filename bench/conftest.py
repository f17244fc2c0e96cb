"""How the micro benches report: beside the time, what went through in it.

    make micro        or: python -m pytest bench --benchmark-only

One file a hot function, one line of reason a case. Each bench calls C loops that do the work of a
worker many times without the GIL, so that the call from Python is not what is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

T = TypeVar("T")


class Measure(Protocol):
    def __call__(
        self, call: Callable[[], T], *, packets: int, size: int = 0, unit: str = "packet"
    ) -> T: ...


@pytest.fixture
def measure(benchmark: BenchmarkFixture) -> Measure:
    """Time `call`, which handles `packets` packets of `size` bytes (or other units)."""

    def run(call: Callable[[], T], *, packets: int, size: int = 0, unit: str = "packet") -> T:
        result: T = benchmark(call)
        if benchmark.stats is not None:  # --benchmark-disable
            seconds = benchmark.stats.stats.median
            benchmark.extra_info[f"ns_per_{unit}"] = round(seconds / packets * 1e9, 2)
            benchmark.extra_info[f"{unit}s_per_second"] = round(packets / seconds)
            if size:
                benchmark.extra_info["bytes_per_second"] = round(packets * size / seconds)
        return result

    return run
