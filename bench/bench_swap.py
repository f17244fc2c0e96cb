"""Publishing a table: from Python's list to the pointer that workers see, and the old one freed."""

from __future__ import annotations

import pytest

from bench.bench_lookup import COUNTS, subnets
from bench.conftest import Measure
from udpoverlay import _fastpath


@pytest.mark.parametrize("count", COUNTS)
def test_swap(measure: Measure, count: int) -> None:
    routes = [
        (address, length, (0xC0000000 + n).to_bytes(4, "big"), 8285, 1472)
        for n, (address, length) in enumerate(subnets(count))
    ]
    table = _fastpath.RouteTable()
    measure(lambda: table.publish(routes), packets=count, unit="route")
    assert table.retired == 0
