"""ext/offload/coalesce.c: flows whose hashes collide stay apart. Anybody can make such flows."""

from __future__ import annotations

import struct
import sys

from tests.support.coalescing import built, run, sizes
from tests.support.segments import Segment

FACTOR = 0x9E3779B97F4A7C15
WORD = (1 << 64) - 1


def hash_of(addresses: int, ports: int) -> int:
    """coalesce_view.c, hash_flow, of a TCP packet over IPv4; both as they lie in memory."""
    mixed = ((ports << 1 | 1) ^ addresses) * FACTOR & WORD
    return (mixed ^ mixed >> 32) & 0xFFFFFFFF


def colliding(base: Segment) -> tuple[Segment, Segment]:
    """`base` with two pairs of ports that have one hash: there are some among 300,000."""
    addresses = int.from_bytes(base.build()[12:20], sys.byteorder)
    seen: dict[int, int] = {}
    for ports in range(1, 1 << 32, 7919):
        other = seen.setdefault(hash_of(addresses, ports), ports)
        if other != ports:
            return _with_ports(base, ports), _with_ports(base, other)
    raise AssertionError("no two pairs of ports collide")


def _with_ports(base: Segment, ports: int) -> Segment:
    return base.but(ports=struct.unpack("!HH", ports.to_bytes(4, sys.byteorder)))


def test_colliding_flows_are_not_joined() -> None:
    one, other = (run(flow, 100, 100, 100) for flow in colliding(Segment()))
    # The second flow goes on where the first one stopped: only the ports tell them apart.
    assert sizes(built([one[0], other[1], one[1], other[2]])) == [2, 2]
