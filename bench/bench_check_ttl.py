"""Header check and TTL: what every packet pays on both ends, beside the lookup."""

from __future__ import annotations

import pytest

from bench.conftest import Measure
from tests.support.packets import ipv4
from udpoverlay import _pure

ROUNDS = 1000
CASES = {
    # A batch that stays in the first cache: the bare cost.
    "64-packets-of-92": (64, 92),
    # Full-size packets side by side: one cache line of each is touched.
    "64-packets-of-1472": (64, 1472),
    # More than the second cache holds: what memory costs.
    "4096-packets-of-1472": (4096, 1472),
}


@pytest.mark.parametrize("case", CASES)
def test_check_and_ttl(measure: Measure, case: str) -> None:
    count, size = CASES[case]
    rounds = ROUNDS * 64 // count
    packets = ipv4(bytes(size - 20)) * count
    passed = measure(
        lambda: _pure.forward_many(packets, size, rounds), packets=count * rounds, size=size
    )
    assert passed == count * rounds
