"""The steady state allocates nothing: neither on the C heap nor on Python's."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.preload import run_preloaded


def test_packets_allocate_nothing(tmp_path: Path) -> None:
    printed, shared = run_preloaded(
        "tests.support.count_allocations", "count_malloc.c", "COUNT_MALLOC", tmp_path
    )
    c_heap, python_heap = map(int, printed.split())
    assert int.from_bytes(shared[:8], sys.byteorder) > 1000, "malloc was not counted"
    assert c_heap == 0
    # The counter objects of this measurement itself.
    assert python_heap < 2000
