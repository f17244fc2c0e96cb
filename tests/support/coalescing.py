"""Runs of packets for the coalescer, and how many of them became one."""

from __future__ import annotations

import pytest

from tests.support.segments import Segment, noise
from tests.support.twin import offload as twin
from udpoverlay import _pure

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
TIMESTAMPS = b"\1\1\x08\x0a" + bytes(range(8))
KINDS = [Segment(tcp=tcp, ipv6=ipv6) for tcp in (True, False) for ipv6 in (False, True)]
each_kind = pytest.mark.parametrize("base", KINDS, ids=["tcp4", "tcp6", "udp4", "udp6"])


def run(base: Segment, *lengths: int) -> list[Segment]:
    """Consecutive packets of one flow."""
    packets, sequence = [], base.sequence
    for index, length in enumerate(lengths):
        packets.append(base.but(payload=noise(length), sequence=sequence, id=base.id + index))
        sequence += length
    return packets


def sizes(packets: list[bytes], **options: int) -> list[int]:
    """How many packets each write holds; checks what must hold of any coalescing."""
    writes, counters = _pure.coalesce(packets, **options)
    for written, originals in writes:
        assert twin.segment(twin.Vnet.unpack(written), written[10:]) == originals
    flows = {twin.flow_of(packet) for packet in packets}
    out = [original for _, originals in writes for original in originals]
    for flow in flows:
        assert [each for each in out if twin.flow_of(each) == flow] == [
            each for each in packets if twin.flow_of(each) == flow
        ]
    assert counters["supers"] == sum(len(originals) > 1 for _, originals in writes)
    assert counters["coalesced"] + counters["plain"] == len(packets)
    assert counters["plain"] == sum(len(originals) == 1 for _, originals in writes)
    return [len(originals) for _, originals in writes]


def built(segments: list[Segment]) -> list[bytes]:
    return [segment.build() for segment in segments]
