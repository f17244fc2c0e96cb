"""What a worker measures beside its counters: packets taken, sizes, durations, its own time."""

from __future__ import annotations

import struct
import threading
import time
from typing import Any

import pytest

from tests.support.packets import ipv4
from tests.support.patience import DEADLINE
from tests.support.pumprig import Rig, from_peer, received, rig, to_peer
from tests.support.segments import Segment
from tests.support.twin.offload import PLAIN
from udpoverlay import _fastpath as fp
from udpoverlay.observe.accounts import unaccounted

NAMES = [name for name, *_ in fp.HISTOGRAMS]
OFFLOADS: dict[str, Any] = {"vnet_header": True, "udp_segment": True, "coalesce_tcp": True}


def histogram(r: Rig, name: str) -> tuple[dict[int, int], int]:
    """{upper bound: count}, without zeros, and the sum."""
    counts, total = r.worker.histograms()[NAMES.index(name)]
    return {2**at: count for at, count in enumerate(counts) if count}, total


def super_packet(segments: int) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", 40000, 80, 1000, 1, 5 << 4, 0x10, 1000, 0, 0)
    packet = ipv4(
        tcp + bytes(1000 * segments), source="10.5.72.3", destination="10.5.99.7", protocol=6
    )
    return struct.pack("=BBHHHH", 1, 1, 40, 1000, 20, 16) + packet


@pytest.mark.parametrize(("packets", "bound"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (33, 64)])
def test_size_of_a_batch_counts_under_its_bound(packets: int, bound: int) -> None:
    with rig() as r:
        for _ in range(packets):
            r.device.send(to_peer())
            r.send(from_peer())
        r.step(fp.OUTBOUND)
        r.step(fp.INBOUND)
        for direction in ("outbound", "inbound"):
            assert histogram(r, f"{direction}_batch_packets") == ({bound: 1}, packets)


def test_sizes_of_super_packets_count_by_their_packets() -> None:
    with rig(**OFFLOADS) as r:
        r.device.send(super_packet(6))
        for number in range(3):
            r.send(Segment(bytes(1000), id=number, sequence=1000 * number).build())
        r.step(batches=3)
        assert histogram(r, "outbound_super_packets") == ({8: 1}, 6)
        assert histogram(r, "inbound_super_packets") == ({4: 1}, 3)
        counts = r.counts()
        assert (counts["outbound_taken"], counts["inbound_taken"]) == (6, 3)


def test_duration_of_a_batch_lies_within_the_call() -> None:
    with rig() as r:
        started = time.monotonic_ns()
        r.device.send(to_peer())
        r.send(from_peer())
        r.step()
        most = time.monotonic_ns() - started
        for direction in ("outbound", "inbound"):
            counts, total = histogram(r, f"{direction}_batch_ns")
            assert sum(counts.values()) == 1
            assert 0 < total <= most


def test_packet_that_waits_is_taken_when_it_has_its_verdict() -> None:
    with rig(narrow=True) as r:
        for _ in range(60):
            r.device.send(to_peer(bytes(1000)))
        while not r.step(fp.OUTBOUND) & fp.BLOCKED:
            pass
        before = r.counts()
        assert before["outbound_sent"] > before.get("outbound_taken", 0)
        while r.step(fp.OUTBOUND) & (fp.BLOCKED | fp.MORE_OUTBOUND):
            received(r.peer)
        after = r.counts()
        assert after["outbound_taken"] == after["outbound_sent"] == 60
        assert unaccounted(after) == {"outbound": 0, "inbound": 0}


def test_every_kind_of_packet_is_accounted_for() -> None:
    with rig(**OFFLOADS) as r:
        for packet in (
            PLAIN + to_peer(),
            PLAIN + to_peer(ttl=1),
            PLAIN + to_peer(destination="10.5.200.1"),
            PLAIN + b"x",
            super_packet(5),
            struct.pack("=BBHHHH", 1, 1, 40, 0, 20, 16) + to_peer(),  # segments of no size
        ):
            r.device.send(packet)
        for datagram in (from_peer(), b"", b"x", from_peer(bytes(5000)), from_peer(ttl=1)):
            r.send(datagram)
        r.step(batches=5)
        counts = r.counts()
        assert (counts["outbound_taken"], counts["inbound_taken"]) == (10, 5)
        assert unaccounted(counts) == {"outbound": 0, "inbound": 0}


def test_worker_says_how_long_it_slept() -> None:
    with rig(busy_poll_us=0) as r:
        assert r.worker.times() == (0, 0, 0)
        thread = threading.Thread(target=r.worker.run)
        thread.start()
        try:
            end = time.monotonic() + DEADLINE
            while (times := r.worker.times())[0] < 200_000_000:
                assert time.monotonic() < end
                time.sleep(0.01)
            total, asleep, spinning = times
            assert asleep > total / 2  # counted while it still sleeps
            assert (asleep <= total, spinning) == (True, 0)
        finally:
            r.worker.stop()
            thread.join()
        before = r.worker.times()
        assert before[1] >= asleep


def test_measures_can_be_read_after_close() -> None:
    with rig() as r:
        r.device.send(to_peer())
        r.step()
        before = r.worker.histograms()
        r.worker.close()
        assert r.worker.histograms() == before
        assert r.worker.times() == (0, 0, 0)
