"""ext/offload/coalesce.c with several flows and wrong checksums: nothing hidden, no overtaking."""

from __future__ import annotations

import pytest

from tests.support.coalescing import (
    ACK,
    FIN,
    KINDS,
    RST,
    SYN,
    built,
    each_kind,
    run,
    sizes,
)
from tests.support.segments import Segment, noise
from tests.support.twin import offload as twin
from udpoverlay import _pure

# ---- checksums


def broken(packet: bytes, at: int) -> bytes:
    return packet[:at] + bytes([packet[at] ^ 0x10]) + packet[at + 1 :]


@each_kind
@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("at", [-1, -50, "check"])
def test_a_wrong_checksum_passes_untouched_and_in_order(
    base: Segment, index: int, at: int | str
) -> None:
    packets = built(run(base, 100, 100, 100, 100))
    header = len(packets[0]) - 100
    place = (header - 4 if base.tcp else header - 2) if at == "check" else len(packets[0]) + int(at)
    packets[index] = broken(packets[index], place)
    writes, counters = _pure.coalesce(packets)
    assert [each for _, originals in writes for each in originals] == packets
    assert (twin.PLAIN + packets[index], [packets[index]]) in writes
    assert counters["bad_checksum"] == 1
    expected = {0: [1, 3], 1: [1, 1, 2], 2: [2, 1, 1], 3: [3, 1]}
    assert [len(originals) for _, originals in writes] == expected[index]


@pytest.mark.parametrize("base", [KINDS[0], KINDS[2]], ids=["tcp4", "udp4"])
@pytest.mark.parametrize("index", range(3))
def test_a_wrong_ip_header_checksum_passes_untouched(base: Segment, index: int) -> None:
    """The super-packet's header has a sum of its own, which would hide it."""
    packets = built(run(base, 100, 100, 100))
    packets[index] = broken(packets[index], 11)
    writes, counters = _pure.coalesce(packets)
    assert (twin.PLAIN + packets[index], [packets[index]]) in writes
    assert [each for _, originals in writes for each in originals] == packets
    assert counters["bad_checksum"] == 1


def test_a_lone_packet_is_not_summed() -> None:
    """The kernel judges it; looking twice would be work for nothing."""
    _, counters = _pure.coalesce([broken(Segment(payload=bytes(100)).build(), -1 + 140)])
    assert counters == {"supers": 0, "coalesced": 0, "plain": 1, "bad_checksum": 0, "evicted": 0}


# ---- flows


def interleaved(*flows: list[bytes]) -> list[bytes]:
    return [packet for packets in zip(*flows, strict=True) for packet in packets]


def test_interleaved_flows_are_coalesced_each_by_itself() -> None:
    bases = [base.but(ports=(port, 80)) for base in KINDS for port in range(8)]
    packets = interleaved(*(built(run(base, 100, 100, 100)) for base in bases))
    assert sizes(packets) == [3] * 32


def test_more_flows_than_fit_evict_the_oldest() -> None:
    bases = [Segment(ports=(port, 80)) for port in range(1, 34)]
    packets = interleaved(*(built(run(base, 100, 100)) for base in bases))
    writes, counters = _pure.coalesce(packets)
    assert counters["evicted"] > 0
    assert sizes(packets)
    assert [twin.flow_of(originals[0]) for _, originals in writes[:1]] == [
        twin.flow_of(packets[0])
    ], "the first to go is the oldest"


@pytest.mark.parametrize("base", [KINDS[0], KINDS[1]], ids=["tcp4", "tcp6"])
@pytest.mark.parametrize("flags", [FIN | ACK, RST, SYN, ACK])
def test_what_cannot_be_coalesced_comes_after_what_came_before(base: Segment, flags: int) -> None:
    packets = run(base, 100, 100, 0, 100)
    packets[2] = packets[2].but(flags=flags)
    assert sizes(built(packets)) == [2, 1, 1]


def test_a_fragment_holds_back_for_every_flow_between_its_addresses() -> None:
    here = [run(Segment(ports=(port, 80)), 100, 100, 100) for port in (1, 2)]
    elsewhere = run(Segment(source=7), 100, 100, 100)
    fragment = Segment(fragment=0x0010, payload=bytes(8))
    packets = [
        *built([here[0][0], here[1][0], elsewhere[0], here[0][1], here[1][1], elsewhere[1]]),
        fragment.build(),
        *built([here[0][2], here[1][2], elsewhere[2]]),
    ]
    writes, _ = _pure.coalesce(packets)
    assert [len(originals) for _, originals in writes] == [2, 2, 1, 3, 1, 1]
    assert writes[2][1] == [fragment.build()]


@pytest.mark.parametrize("ipv6", [False, True])
def test_an_icmp_message_does_not_hold_back_its_flow(ipv6: bool) -> None:
    packets = built(run(Segment(ipv6=ipv6), 100, 100, 100))
    at, protocol = (6, b"\x3a") if ipv6 else (9, b"\1")
    icmp = packets[0][:at] + protocol + packets[0][at + 1 :]
    writes, _ = _pure.coalesce([packets[0], icmp, packets[1], icmp, packets[2]])
    assert [len(originals) for _, originals in writes] == [1, 1, 3]


def test_packets_of_no_flow_do_not_hold_back_anything() -> None:
    packets = built(run(Segment(), 100, 100, 100))
    ping = Segment(payload=bytes(40)).build()
    ping = ping[:9] + b"\1" + ping[10:]
    writes, _ = _pure.coalesce([packets[0], ping, packets[1], b"", b"\x45", bytes(19), packets[2]])
    assert [len(originals) for _, originals in writes] == [1, 1, 1, 1, 3]


@pytest.mark.parametrize("length", range(60))
def test_any_truncation_is_safe(length: int) -> None:
    for base in KINDS:
        packet = base.but(payload=noise(20)).build()[:length]
        writes, _ = _pure.coalesce([packet, packet])
        assert [written for written, _ in writes] == [twin.PLAIN + packet] * 2
