"""The internet checksum, each implementation that this CPU can run."""

from __future__ import annotations

import random

import pytest

from bench.conftest import Measure
from udpoverlay import _pure

ROUNDS = 1000
SIZES = [
    20,  # an IPv4 header
    64,  # the smallest packets in use
    1448,  # a full TCP segment
    65483,  # the payload of a super-packet, no multiple of anything
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("implementation", _pure.checksum_implementations())
def test_checksum(measure: Measure, implementation: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    measure(lambda: _pure.checksum(data, implementation, ROUNDS), packets=ROUNDS, size=size)
