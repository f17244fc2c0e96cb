"""ext/offload/coalesce_view.c: IPv4 options keep a packet out of every run."""

from __future__ import annotations

import pytest

from tests.support.coalescing import KINDS, built, run
from tests.support.segments import Segment
from udpoverlay import _pure


def with_longer_header(packet: bytes) -> bytes:
    """The packet with IHL 6: its first 4 bytes behind the header are an option now.

    The checksum of the first 20 bytes stays right: what the header gained, its sum loses.
    """
    check = int.from_bytes(packet[10:12], "big") - 0x0100
    return b"\x46" + packet[1:10] + (check % 0xFFFF).to_bytes(2, "big") + packet[12:]


@pytest.mark.parametrize("base", [KINDS[0], KINDS[2]], ids=["tcp4", "udp4"])
def test_options_that_look_like_ports_join_nothing(base: Segment) -> None:
    packets = built(run(base, 100, 100, 100))
    assert [len(originals) for _, originals in _pure.coalesce(packets)[0]] == [3]
    longer = [with_longer_header(packet) for packet in packets]
    writes, counters = _pure.coalesce(longer)
    assert [originals for _, originals in writes] == [[packet] for packet in longer]
    assert counters["bad_checksum"] == 0
