"""Impairments in the worker: the pattern of the seed, the counts, the end of the time."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.patience import DEADLINE
from tests.support.pumprig import MTU, Rig, forwarded, receive, received, rig, to_peer
from tests.support.segments import Segment, noise, super_packet
from tests.support.twin.impair import CORRUPT, DUPLICATE, LOSS, REORDER, bit, chosen
from tests.support.twin.offload import Vnet, segment
from udpoverlay import _fastpath as fp

SEED = 7
LOOPBACK = socket.inet_aton("127.0.0.1")
MILLION = fp.IMPAIR_MILLIONTHS
ALLOWED = {"allow_impair": True}


def until(seconds: float = 60.0) -> int:
    return time.monotonic_ns() + int(seconds * 1e9)


def impair(r: Rig, *, seconds: float = 60.0, place: int = 0, **what: int) -> None:
    r.pump.set_impairment(place, LOOPBACK, until(seconds), **{"seed": SEED, **what})
    assert r.worker.offer_impairment(place)


def numbered(count: int, size: int = 60) -> list[bytes]:
    return [to_peer(number.to_bytes(4, "big") + noise(size)) for number in range(count)]


def pass_through(r: Rig, packets: list[bytes]) -> list[bytes]:
    """Offers them in small bursts; what reached the peer by then."""
    found = []
    for at in range(0, len(packets), 16):
        for packet in packets[at : at + 16]:
            r.device.send(packet)
        while r.step(fp.OUTBOUND) & fp.MORE_OUTBOUND:
            pass
        found += received(r.peer)
    return found


@contextlib.contextmanager
def running(r: Rig) -> Iterator[None]:
    thread = threading.Thread(target=r.worker.run)
    thread.start()
    try:
        yield
    finally:
        r.worker.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def kept(packets: list[bytes], lost: list[bool]) -> list[bytes]:
    return [forwarded(each) for each, gone in zip(packets, lost, strict=True) if not gone]


def test_loss_is_the_pattern_of_the_seed_and_every_packet_is_counted() -> None:
    packets = numbered(2000)
    with rig(**ALLOWED) as r:
        impair(r, loss=MILLION // 10)
        came = pass_through(r, packets)
        counts, lane = r.counts(), r.worker.impairment_counts(0)
    lost = chosen(SEED, LOSS, MILLION // 10, len(packets))
    assert came == kept(packets, lost)
    assert 133 < sum(lost) < 267, "10 % of 2,000, five standard deviations either way"
    assert counts["outbound_impaired"] == sum(lost)
    assert counts["outbound_sent"] + counts["outbound_impaired"] == len(packets)
    assert lane == (2000, sum(lost), 0, 0, 0, 0, 0)


def test_another_seed_is_another_pattern() -> None:
    packets = numbered(200)
    with rig(**ALLOWED) as r:
        impair(r, loss=MILLION // 2, seed=8)
        came = pass_through(r, packets)
    assert came == kept(packets, chosen(8, LOSS, MILLION // 2, len(packets)))
    assert came != kept(packets, chosen(SEED, LOSS, MILLION // 2, len(packets)))


@pytest.mark.parametrize(("loss", "sent"), [(0, 50), (MILLION, 0)])
def test_none_and_all_are_exact(loss: int, sent: int) -> None:
    with rig(**ALLOWED) as r:
        impair(r, loss=loss)
        assert len(pass_through(r, numbered(50))) == sent
        assert r.counts().get("outbound_sent", 0) == sent


def test_corruption_is_one_bit_behind_the_ip_header() -> None:
    packets = [
        Segment(noise(200), tcp=tcp, destination=2, id=number).build()
        for number, tcp in enumerate([True, False] * 20)
    ]
    half = MILLION // 2
    with rig(**ALLOWED) as r:
        r.table.publish([(bytes([10, 1, 1, 0]), 24, LOOPBACK, r.peer.getsockname()[1], 0)])
        impair(r, corrupt=half)
        came = pass_through(r, packets)
    wrong = chosen(SEED, CORRUPT, half, len(packets))
    assert len(came) == len(packets)
    for number, (packet, found) in enumerate(zip(packets, came, strict=True)):
        right = forwarded(packet)
        differ = int.from_bytes(right, "big") ^ int.from_bytes(found, "big")
        assert right[:20] == found[:20]
        assert differ.bit_count() == (1 if wrong[number] else 0)
        if wrong[number]:
            at = bit(SEED, number, (len(right) - 20) * 8)
            assert right[20 + at // 8] ^ found[20 + at // 8] == 1 << at % 8


def test_a_packet_without_anything_behind_its_header_stays_as_it_is() -> None:
    with rig(**ALLOWED) as r:
        impair(r, corrupt=MILLION)
        assert pass_through(r, [to_peer(b"")]) == [forwarded(to_peer(b""))]


def test_duplicates_follow_their_original_and_are_counted() -> None:
    packets = numbered(100)
    with rig(**ALLOWED) as r:
        impair(r, duplicate=MILLION // 4)
        came = pass_through(r, packets)
        counts = r.counts()
    twice = chosen(SEED, DUPLICATE, MILLION // 4, len(packets))
    expected = [
        forwarded(packet)
        for packet, again in zip(packets, twice, strict=True)
        for _ in range(1 + again)
    ]
    assert came == expected
    assert counts["outbound_duplicates"] == sum(twice)
    assert counts["outbound_sent"] == len(packets) + counts["outbound_duplicates"]
    assert counts["outbound_bytes"] == sum(map(len, expected))


def test_delay_holds_packets_back_in_their_order() -> None:
    packets = numbered(100)
    with rig(**ALLOWED) as r:
        impair(r, delay_us=60_000)
        with running(r):
            began = time.monotonic()
            for packet in packets:
                r.device.send(packet)
            came = receive(r.peer, 1)
            assert time.monotonic() - began >= 0.06, "nothing comes early"
            came += receive(r.peer, len(packets) - len(came))
        assert came == [forwarded(each) for each in packets]


def test_jitter_stays_within_its_bounds() -> None:
    with rig(**ALLOWED) as r:
        impair(r, delay_us=50_000, jitter_us=40_000)
        with running(r):
            times = []
            for packet in numbered(30):
                began = time.monotonic()
                r.device.send(packet)
                receive(r.peer, 1)
                times.append(time.monotonic() - began)
    assert min(times) >= 0.01
    assert len({round(each * 100) for each in times}) > 3, "it varies"
    assert min(times) < 1, "no packet waits for a multiple of the delay"


def test_reordered_packets_are_overtaken() -> None:
    packets = numbered(100)
    with rig(**ALLOWED) as r:
        impair(r, reorder=MILLION // 5, behind_us=20_000)
        came = pass_through(r, packets)
        late = chosen(SEED, REORDER, MILLION // 5, len(packets))
        assert came[:16] != [forwarded(each) for each in packets[:16]]
        with running(r):
            came += receive(r.peer, len(packets) - len(came))
        assert r.worker.impairment_counts(0)[4] == sum(late)
    assert sorted(came) == sorted(map(forwarded, packets))


def test_rate_spreads_packets_and_drops_what_would_wait_too_long() -> None:
    packets = numbered(60, 976)  # 1,000 bytes: one in 10 ms, so 21 are no more than 200 ms
    with rig(**ALLOWED) as r:
        impair(r, rate=800_000)
        with running(r):
            began = time.monotonic()
            for packet in packets:
                r.device.send(packet)
            came = receive(r.peer, 19)
            assert time.monotonic() - began > 0.18
            end = time.monotonic() + DEADLINE
            while r.worker.impairment_counts(0)[6] and time.monotonic() < end:
                came += received(r.peer)
                time.sleep(0.01)
        came += received(r.peer)
        counts = r.counts()
    assert counts["outbound_impair_full"] > 0
    assert len(came) == counts["outbound_sent"] == 60 - counts["outbound_impair_full"]


def test_full_queue_drops_with_its_reason_and_the_rest_is_sent() -> None:
    with rig(**ALLOWED) as r:
        impair(r, delay_us=5_000_000)
        assert pass_through(r, numbered(5000)) == []
        assert r.counts()["outbound_impair_full"] == 5000 - 4096
        assert r.worker.impairment_counts(0)[5:] == (5000 - 4096, 4096)
        r.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        r.worker.close()
        counts = r.counts()
        assert counts["outbound_sent"] + counts.get("outbound_queue_full", 0) == 4096
        assert counts["outbound_sent"] > 0


def test_a_super_packet_is_taken_apart_and_each_segment_has_its_own_fate() -> None:
    vnet, packet = super_packet(Segment(noise(60000), flags=0x19), 1300)
    segments = [forwarded(each) for each in segment(Vnet.unpack(vnet), packet)]
    with rig(**ALLOWED, vnet_header=True, udp_segment=True) as r:
        r.table.publish([(bytes([10, 1, 1, 0]), 24, LOOPBACK, r.peer.getsockname()[1], 0)])
        impair(r, loss=MILLION // 5)
        came = pass_through(r, [vnet + packet])
        counts = r.counts()
    lost = chosen(SEED, LOSS, MILLION // 5, len(segments))
    assert came == [each for each, gone in zip(segments, lost, strict=True) if not gone]
    assert counts["outbound_impaired"] + counts["outbound_sent"] == len(segments)
    assert "outbound_fast_packets" not in counts


def test_loss_alone_never_fills_the_queue() -> None:
    """What need not wait stays in the TUN's queue while the tx batch is full."""
    supers = [super_packet(Segment(noise(60000)), 100) for _ in range(12)]
    with rig(**ALLOWED, vnet_header=True, udp_segment=True) as r:
        r.table.publish([(bytes([10, 1, 1, 0]), 24, LOOPBACK, r.peer.getsockname()[1], 0)])
        impair(r, loss=1)
        for vnet, packet in supers:
            r.device.send(vnet + packet)
        while r.step(fp.OUTBOUND) & fp.MORE_OUTBOUND:
            received(r.peer)
        counts = r.counts()
    assert counts["outbound_sent"] + counts.get("outbound_impaired", 0) == 12 * 600
    assert "outbound_impair_full" not in counts


def test_a_packet_longer_than_the_peer_takes_is_refused_as_ever() -> None:
    with rig(**ALLOWED) as r:
        impair(r)
        assert pass_through(r, [to_peer(bytes(MTU))]) == []
        assert r.verdicts() == {"outbound_too_big": 1}


def test_only_the_named_peer_is_impaired() -> None:
    with rig(**ALLOWED) as r:
        r.pump.set_impairment(0, socket.inet_aton("192.0.2.9"), until(), loss=MILLION)
        assert r.worker.offer_impairment(0)
        assert len(pass_through(r, numbered(20))) == 20
        assert r.worker.impairment_counts(0)[0] == 0


def test_it_ends_by_itself_and_what_was_held_back_comes_first() -> None:
    packets = numbered(40)
    with rig(**ALLOWED) as r:
        impair(r, delay_us=5_000_000, seconds=0.2)
        with running(r):
            for packet in packets[:20]:
                r.device.send(packet)
            came = receive(r.peer, 20)  # without a word of control, and long before they were due
            for packet in packets[20:]:
                r.device.send(packet)
            came += receive(r.peer, 20)
        assert came == [forwarded(each) for each in packets]
        assert r.worker.reclaim_impairment(0)


def test_it_can_be_ended_early_and_its_place_is_free_again() -> None:
    with rig(**ALLOWED) as r, running(r):
        impair(r, loss=MILLION)
        r.device.send(to_peer(b"lost"))
        end = time.monotonic() + DEADLINE
        while r.counts().get("outbound_impaired", 0) == 0:
            assert time.monotonic() < end
        assert not r.worker.reclaim_impairment(0), "the worker still uses it"
        r.pump.end_impairment(0)
        while not r.worker.reclaim_impairment(0):
            assert time.monotonic() < end, "also without traffic"
            time.sleep(0.01)
        r.device.send(to_peer(b"kept"))
        assert receive(r.peer, 1) == [forwarded(to_peer(b"kept"))]
        impair(r, duplicate=MILLION)
        r.device.send(to_peer(b"two"))
        receive(r.peer, 2)


def test_what_no_worker_has_taken_is_reclaimed_at_once() -> None:
    with rig(**ALLOWED) as r:
        impair(r, loss=MILLION)
        with pytest.raises(OSError, match="busy"):
            r.worker.offer_impairment(0)
        assert r.worker.reclaim_impairment(0)
        assert len(pass_through(r, numbered(3))) == 3


def test_a_pump_that_does_not_allow_it_has_no_lanes() -> None:
    with rig() as r:
        r.pump.set_impairment(0, LOOPBACK, until(), loss=MILLION)
        assert not r.worker.offer_impairment(0)
        assert len(pass_through(r, numbered(3))) == 3
        assert r.worker.reclaim_impairment(0)
        assert r.worker.impairment_counts(0) == (0,) * 7


def test_a_worker_that_only_receives_has_no_lanes() -> None:
    with rig(**ALLOWED, roles=fp.INBOUND) as r:
        r.pump.set_impairment(0, LOOPBACK, until(), loss=MILLION)
        assert not r.worker.offer_impairment(0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": MILLION + 1},
        {"duplicate": MILLION + 1},
        {"corrupt": MILLION + 1},
        {"reorder": MILLION + 1},
        {"delay_us": fp.IMPAIR_DELAY_US + 1},
        {"behind_us": fp.IMPAIR_DELAY_US + 1},
        {"delay_us": 10, "jitter_us": 11},
        {"rate": fp.IMPAIR_RATE - 1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with rig(**ALLOWED) as r:
        with pytest.raises(ValueError, match="Invalid argument"):
            r.pump.set_impairment(0, LOOPBACK, until(), **wrong)
        with pytest.raises(ValueError, match="Invalid argument"):
            r.pump.set_impairment(0, LOOPBACK, until(fp.IMPAIR_SECONDS + 60))
        with pytest.raises(ValueError, match="Invalid argument"):
            r.pump.set_impairment(0, LOOPBACK, time.monotonic_ns() - 1)


@pytest.mark.parametrize("call", ["set", "end", "offer", "reclaim", "counts"])
def test_a_place_that_there_is_not_is_refused(call: str) -> None:
    place = fp.IMPAIR_PLACES_MAX
    with rig(**ALLOWED) as r:
        calls: dict[str, Any] = {
            "set": lambda: r.pump.set_impairment(place, LOOPBACK, until()),
            "end": lambda: r.pump.end_impairment(place),
            "offer": lambda: r.worker.offer_impairment(place),
            "reclaim": lambda: r.worker.reclaim_impairment(place),
            "counts": lambda: r.worker.impairment_counts(place),
        }
        with pytest.raises(ValueError, match="out of range"):
            calls[call]()


def test_memory_of_an_ended_impairment_is_given_back() -> None:
    with rig(**ALLOWED) as r:
        before = _resident()
        for _ in range(20):
            impair(r, loss=MILLION)
            assert _resident() - before > 4 << 20, "made when it is set, not when packets come"
            r.pump.end_impairment(0)
            r.step()
            assert r.worker.reclaim_impairment(0)
        assert _resident() - before < 4 << 20


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096
