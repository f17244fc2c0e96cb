"""Segmenting super-packets: what the outbound path does to each read besides the system calls."""

from __future__ import annotations

import timeit

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.support.segments import Segment, noise, super_packet
from udpoverlay import _pure

ROUNDS = 100
TIMESTAMPS = b"\1\1\x08\x0a" + bytes(8)
CASES = {
    # What most reads are: one flow's segments on a link of 1,500 bytes.
    "tcp4-1360": (Segment(options=TIMESTAMPS, payload=noise(45 * 1360)), 1360),
    "tcp6-1340": (Segment(ipv6=True, options=TIMESTAMPS, payload=noise(45 * 1340)), 1340),
    # Jumbo frames: hardly any headers, the sum is all.
    "tcp4-8900": (Segment(options=TIMESTAMPS, payload=noise(7 * 8900)), 8900),
    # The smallest segments in use: the headers weigh most.
    "tcp4-536": (Segment(options=TIMESTAMPS, payload=noise(114 * 536)), 536),
    # A QUIC sender with UDP_SEGMENT.
    "udp4-1252": (Segment(tcp=False, payload=noise(49 * 1252)), 1252),
}


def checksum_seconds(data: bytes) -> float:
    """How long the payload's sum alone takes: what no segmenting can be faster than."""
    return min(timeit.repeat(lambda: _pure.checksum(data), number=100, repeat=20)) / 100


@pytest.mark.parametrize("case", CASES)
def test_segment(benchmark: BenchmarkFixture, case: str) -> None:
    segment, gso_size = CASES[case]
    header, packet = super_packet(segment, gso_size)
    segments = benchmark(_pure.segment_many, header, packet, ROUNDS)
    assert segments == ROUNDS * len(segment.payload) // gso_size
    assert benchmark.stats is not None  # it has run
    seconds = benchmark.stats.stats.min / ROUNDS
    benchmark.extra_info["gbytes_per_second"] = round(len(packet) / seconds / 1e9, 1)
    benchmark.extra_info["ns_per_segment"] = round(seconds * 1e9 * ROUNDS / segments, 1)
    benchmark.extra_info["checksum_share"] = round(checksum_seconds(packet) / seconds, 2)
