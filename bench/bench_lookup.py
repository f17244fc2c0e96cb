"""Route lookup at 10 … 100,000 routes: its cost must not grow with them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.conftest import Measure
from udpoverlay import _fastpath

ADDRESSES = 20_000
ROUNDS = 20
COUNTS = [10, 100, 1_000, 10_000, 100_000]
Route = tuple[bytes, int, bytes, int, int]
Prefixes = Callable[[int], list[tuple[bytes, int]]]


def subnets(count: int) -> list[tuple[bytes, int]]:
    """Neighbouring /24 subnets from 10.0.0.0 on."""
    return [((0x0A000000 + (n << 8)).to_bytes(4, "big"), 24) for n in range(count)]


def with_default(count: int) -> list[tuple[bytes, int]]:
    """The same below a default route, so that no byte is shared by all."""
    return [*subnets(count - 1), (bytes(4), 0)]


def scattered(count: int) -> list[tuple[bytes, int]]:
    """/24 subnets anywhere: no neighbour shares a cache line; the worst that can be configured."""
    chosen = random.Random(7).sample(range(1 << 24), count)
    return [((number << 8).to_bytes(4, "big"), 24) for number in chosen]


def ipv6_subnets(count: int) -> list[tuple[bytes, int]]:
    """Neighbouring /64 subnets of one site."""
    site = bytes.fromhex("fd00000000")
    return [(site + n.to_bytes(3, "big") + bytes(8), 64) for n in range(count)]


LAYOUTS: dict[str, Prefixes] = {
    "subnets": subnets,
    "with-default": with_default,
    "scattered": scattered,
    "ipv6": ipv6_subnets,
}


def table_of(prefixes: list[tuple[bytes, int]]) -> tuple[_fastpath.RouteTable, bytes]:
    """A table with as many peers as routes, and addresses that it has in random order."""
    routes: list[Route] = [
        (address, length, (0xC0000000 + n).to_bytes(4, "big"), 8285, 1472)
        for n, (address, length) in enumerate(prefixes)
    ]
    table = _fastpath.RouteTable()
    table.publish(routes)
    picked = random.Random(len(routes)).choices(routes, k=ADDRESSES)
    return table, b"".join(address for address, *_ in picked)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_lookup(measure: Measure, benchmark: BenchmarkFixture, layout: str, count: int) -> None:
    prefixes = LAYOUTS[layout](count)
    table, addresses = table_of(prefixes)
    width = len(prefixes[0][0])
    hits = measure(
        lambda: table.lookup_many(addresses, width, ROUNDS),
        packets=ADDRESSES * ROUNDS,
        unit="lookup",
    )
    assert hits == ADDRESSES * ROUNDS
    benchmark.extra_info["memory"] = table.memory
