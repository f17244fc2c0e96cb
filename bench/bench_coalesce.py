"""Coalescing batches: what the inbound path does to each receive besides the system calls."""

from __future__ import annotations

import timeit

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.support.segments import Segment, noise
from udpoverlay import _pure

ROUNDS = 100
TIMESTAMPS = b"\1\1\x08\x0a" + bytes(8)
TCP4 = Segment(options=TIMESTAMPS)


def run(base: Segment, count: int, length: int) -> list[bytes]:
    return [
        base.but(payload=noise(length), sequence=base.sequence + i * length, id=base.id + i).build()
        for i in range(count)
    ]


def interleaved(flows: int, count: int, length: int) -> list[bytes]:
    runs = [run(TCP4.but(ports=(port, 5201)), count, length) for port in range(1, 1 + flows)]
    return [packet for each in zip(*runs, strict=True) for packet in each]


CASES = {
    # What most receives are: a run of one flow, into one write.
    "tcp4-1360": (run(TCP4, 45, 1360), 1),
    "tcp6-1340": (run(Segment(ipv6=True, options=TIMESTAMPS), 45, 1340), 1),
    "tcp4-8900": (run(TCP4, 7, 8900), 1),
    "udp4-1252": (run(Segment(tcp=False), 49, 1252), 1),
    # Eight flows through one peer, packet by packet: the table is searched.
    "tcp4-8-flows": (interleaved(8, 8, 1360), 8),
    # Nothing to coalesce: acknowledgments, and small packets of ever another flow.
    "acknowledgments": (run(TCP4, 64, 0), 64),
    "strangers": (interleaved(64, 1, 64), 64),
}


def checksum_seconds(packets: list[bytes]) -> float:
    """How long the sums alone take: what no coalescing can be faster than."""
    data = b"".join(packets)
    return min(timeit.repeat(lambda: _pure.checksum(data), number=100, repeat=20)) / 100


@pytest.mark.parametrize("case", CASES)
def test_coalesce(benchmark: BenchmarkFixture, case: str) -> None:
    packets, expected = CASES[case]
    writes = benchmark(_pure.coalesce_many, packets, ROUNDS)
    assert writes == ROUNDS * expected
    assert benchmark.stats is not None  # it has run
    seconds = benchmark.stats.stats.min / ROUNDS
    benchmark.extra_info["gbytes_per_second"] = round(sum(map(len, packets)) / seconds / 1e9, 1)
    benchmark.extra_info["ns_per_packet"] = round(seconds * 1e9 / len(packets), 1)
    if expected < len(packets):
        benchmark.extra_info["checksum_share"] = round(checksum_seconds(packets) / seconds, 2)
