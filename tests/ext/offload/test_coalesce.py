"""ext/offload/coalesce.c: which packets become one, and in which order they are written."""

from __future__ import annotations

import pytest

from tests.support.coalescing import (
    ACK,
    CWR,
    ECE,
    FIN,
    KINDS,
    PSH,
    RST,
    SYN,
    TIMESTAMPS,
    URG,
    built,
    each_kind,
    run,
    sizes,
)
from tests.support.segments import Segment, noise, super_packet
from tests.support.twin import offload as twin
from udpoverlay import _pure

# ---- what is coalesced


@each_kind
def test_a_run_becomes_the_super_packet_it_was_cut_from(base: Segment) -> None:
    made = super_packet(base.but(payload=noise(40000), flags=ACK | PSH), 1400)
    segments = twin.segment(twin.Vnet.unpack(made[0]), made[1])
    writes, counters = _pure.coalesce(segments)
    assert writes == [(made[0] + made[1], segments)]
    assert counters == {"supers": 1, "coalesced": 29, "plain": 0, "bad_checksum": 0, "evicted": 0}


@each_kind
def test_a_shorter_packet_ends_the_run(base: Segment) -> None:
    assert sizes(built(run(base, 100, 100, 99, 99, 99))) == [3, 2]


@each_kind
def test_a_longer_packet_starts_another_run(base: Segment) -> None:
    assert sizes(built(run(base, 100, 100, 101, 101))) == [2, 2]


def test_push_ends_the_run() -> None:
    packets = run(Segment(), 100, 100, 100, 100)
    packets[1] = packets[1].but(flags=ACK | PSH)
    assert sizes(built(packets)) == [2, 2]
    written = _pure.coalesce(built(packets))[0][0][0]
    assert written[10 + 33] == ACK | PSH


def test_push_first_is_written_at_once_and_alone() -> None:
    packets = run(Segment(), 100, 100, 100)
    packets[0] = packets[0].but(flags=ACK | PSH)
    assert sizes(built(packets)) == [1, 2]


def test_congestion_echo_is_coalesced_when_all_have_it() -> None:
    assert sizes(built(run(Segment(flags=ACK | ECE), 100, 100, 100))) == [3]


def test_window_reduced_may_only_be_in_the_first() -> None:
    packets = run(Segment(), 100, 100, 100, 100, 100)
    packets[2] = packets[2].but(flags=ACK | CWR)
    assert sizes(built(packets)) == [2, 3]
    written = _pure.coalesce(built(packets))[0][1][0]
    assert written[1] == 0x81, "the vnet header says that the first segment carries CWR"


@each_kind
def test_ids_and_sequence_numbers_may_wrap(base: Segment) -> None:
    start = base.but(id=0xFFFF, sequence=0xFFFFFFFF)
    assert sizes(built(run(start, 100, 100, 100))) == [3]


@pytest.mark.parametrize("base", [KINDS[0], KINDS[1]], ids=["tcp4", "tcp6"])
def test_equal_options_are_coalesced(base: Segment) -> None:
    assert sizes(built(run(base.but(options=TIMESTAMPS), 100, 100, 50))) == [3]


@each_kind
def test_a_super_packet_stays_within_65535_bytes(base: Segment) -> None:
    packets = built(run(base, *[1400] * 50))
    headers = len(packets[0]) - 1400
    most = (65535 - headers) // 1400
    assert sizes(packets) == [most, 50 - most]


@pytest.mark.parametrize(("limit", "expected"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (4, [4, 3])])
def test_no_more_packets_than_the_limit(limit: int, expected: list[int]) -> None:
    assert sizes(built(run(Segment(), *[10] * 7)), max_segments=limit) == expected


def test_udp_is_never_coalesced_beyond_what_the_kernel_takes() -> None:
    tcp, udp = Segment(), Segment(tcp=False)
    assert sizes(built(run(udp, *[10] * 130)), max_segments=128) == [64, 64, 2]
    assert sizes(built(run(tcp, *[10] * 130)), max_segments=128) == [128, 2]


# ---- what is not


@each_kind
@pytest.mark.parametrize(
    "change",
    [
        {"tos": 1},
        {"tos": 4},
        {"ttl": 62},
        {"fragment": 0, "flow_label": 1},
        {"ports": (40000, 5202)},
        {"ports": (40001, 5201)},
        {"source": 9},
        {"destination": 9},
        {"tcp": None},
    ],
    ids=str,
)
def test_a_difference_in_the_ip_header_or_ports_is_kept_apart(
    base: Segment, change: dict[str, object]
) -> None:
    packets = run(base, 100, 100)
    if "tcp" in change:
        change = {"tcp": not base.tcp}
    packets[1] = packets[1].but(**change)
    assert sizes(built(packets)) == [1, 1]


@pytest.mark.parametrize("base", [KINDS[0], KINDS[1]], ids=["tcp4", "tcp6"])
@pytest.mark.parametrize(
    "change",
    [
        {"acknowledgment": 778},
        {"window": 511},
        {"urgent": 1},
        {"reserved": 1},
        {"options": TIMESTAMPS[:-1] + b"\xff"},
        {"options": b""},
        {"options": TIMESTAMPS + b"\1\1\1\1"},
        {"sequence": 1099},
        {"sequence": 1101},
        {"sequence": 1000},
        {"sequence": 900},
        *({"flags": ACK | flag} for flag in (FIN, SYN, RST, URG, ECE, CWR)),
        {"flags": 0},
        {"flags": PSH},
    ],
    ids=str,
)
def test_a_difference_in_the_tcp_header_is_kept_apart(
    base: Segment, change: dict[str, object]
) -> None:
    packets = run(base.but(options=TIMESTAMPS), 100, 100)
    packets[1] = packets[1].but(**change)
    assert sizes(built(packets)) == [1, 1]


@pytest.mark.parametrize("flags", [FIN, SYN, RST, URG, 0])
def test_segments_that_open_or_close_are_never_coalesced(flags: int) -> None:
    ack = ACK if flags else 0
    assert sizes(built(run(Segment(flags=flags | ack), 100, 100, 100))) == [1, 1, 1]


@pytest.mark.parametrize("tcp", [True, False])
@pytest.mark.parametrize("step", [0, 2, 0xFFFF, 100])
@pytest.mark.parametrize("fragment", [0, 0x4000])
def test_ids_that_do_not_count_up_by_one_are_kept_apart(
    tcp: bool, step: int, fragment: int
) -> None:
    """Also with DF set and the id fixed: segmentation would count it up."""
    base = Segment(tcp=tcp, fragment=fragment)
    packets = [each.but(id=7 + i * step) for i, each in enumerate(run(base, 100, 100, 100))]
    assert sizes(built(packets)) == [1, 1, 1]


@each_kind
def test_an_empty_payload_is_kept_apart(base: Segment) -> None:
    assert sizes(built(run(base, 0, 0, 0))) == [1, 1, 1]
    assert sizes(built(run(base, 100, 0, 100))) == [1, 1, 1]


@pytest.mark.parametrize(
    "base",
    [
        Segment(ip_options=b"\1\1\1\0"),
        Segment(tcp=False, ip_options=b"\1\1\1\0"),
        Segment(ipv6=True, extension=bytes(8)),
        Segment(fragment=0x2000),
        Segment(fragment=0x0010),
        Segment(fragment=0x8000),
    ],
    ids=["options", "udp options", "extension", "first fragment", "later fragment", "evil"],
)
def test_options_extensions_and_fragments_are_kept_apart(base: Segment) -> None:
    writes, _ = _pure.coalesce(built(run(base, 96, 96, 96)))
    assert [len(originals) for _, originals in writes] == [1, 1, 1]


@each_kind
def test_a_length_that_does_not_match_is_kept_apart(base: Segment) -> None:
    packets = built(run(base, 100, 100, 100))
    trailing = [packet + b"\0\0" for packet in packets]
    writes, counters = _pure.coalesce(trailing)
    assert [written for written, _ in writes] == [twin.PLAIN + packet for packet in trailing]
    assert counters["bad_checksum"] == 0


def test_bytes_behind_the_packet_are_never_coalesced_into_it() -> None:
    """Even where the TCP sum, over all of them, would be right."""
    packets = []
    for whole in built(run(Segment(), 102, 102, 102)):
        header = (
            whole[:2] + (len(whole) - 2).to_bytes(2, "big") + whole[4:10] + b"\0\0" + whole[12:20]
        )
        check = twin.internet_checksum(header).to_bytes(2, "big")
        packets.append(header[:10] + check + header[12:] + whole[20:])
    writes, counters = _pure.coalesce(packets)
    assert [written for written, _ in writes] == [twin.PLAIN + packet for packet in packets]
    assert counters["bad_checksum"] == 0


def test_udp_without_checksum_is_kept_apart() -> None:
    packets = [each[:26] + b"\0\0" + each[28:] for each in built(run(KINDS[2], 100, 100))]
    writes, counters = _pure.coalesce(packets)
    assert [originals for _, originals in writes] == [[packet] for packet in packets]
    assert counters["bad_checksum"] == 0, "none is not a wrong one"


def test_a_tcp_sum_of_ffff_is_kept_apart() -> None:
    """It means 0, and 0 is what segmentation would write."""
    packets = run(Segment(), 100, 100)
    check = packets[1].build()[36:38]
    second = packets[1].but(payload=check + packets[1].payload[2:])
    for _ in range(3):  # the payload's first word absorbs the difference
        bare = second.build()
        rest = int.from_bytes(bare[36:38], "big")
        word = int.from_bytes(second.payload[:2], "big") + rest
        second = second.but(
            payload=((word & 0xFFFF) + (word >> 16)).to_bytes(2, "big") + second.payload[2:]
        )
    bare = second.build()
    assert bare[36:38] == b"\0\0"
    assert sizes([packets[0].build(), bare]) == [2]
    as_ffff = bare[:36] + b"\xff\xff" + bare[38:]
    writes, counters = _pure.coalesce([packets[0].build(), as_ffff])
    assert [originals for _, originals in writes] == [[packets[0].build()], [as_ffff]]
    assert counters["bad_checksum"] == 0


def test_an_ip_header_sum_of_ffff_is_kept_apart() -> None:
    """Right as well, and not what segmentation would write either."""
    packets = run(Segment(), 100, 100)
    rest = int.from_bytes(packets[1].build()[10:12], "big")
    ids = packets[1].id + rest  # the id absorbs the difference
    second = packets[1].but(id=(ids & 0xFFFF) + (ids >> 16))
    first = packets[0].but(id=second.id - 1)
    pair = built([first, second])
    assert pair[1][10:12] == b"\0\0"
    assert sizes(pair) == [2]
    as_ffff = pair[1][:10] + b"\xff\xff" + pair[1][12:]
    writes, counters = _pure.coalesce([pair[0], as_ffff])
    assert [originals for _, originals in writes] == [[pair[0]], [as_ffff]]
    assert counters["bad_checksum"] == 0


@pytest.mark.parametrize("kinds", range(16))
def test_only_the_kinds_that_are_switched_on_are_coalesced(kinds: int) -> None:
    for bit, base in zip((1, 2, 4, 8), KINDS, strict=True):
        packets = built(run(base, 100, 100, 100))
        assert sizes(packets, kinds=kinds) == ([3] if kinds & bit else [1, 1, 1])
