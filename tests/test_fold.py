"""ext/fold.c: which packets become one, which do not, and in which order they are written."""

from __future__ import annotations

import pytest

from tests.support.segments import Segment, noise, super_packet
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
    """How many packets each write holds; on the way, everything that must hold of any fold."""
    writes, tally = _pure.fold(packets, **options)
    for written, originals in writes:
        assert twin.segment(twin.Vnet.unpack(written), written[10:]) == originals
    flows = {twin.flow_of(packet) for packet in packets}
    out = [original for _, originals in writes for original in originals]
    for flow in flows:
        assert [each for each in out if twin.flow_of(each) == flow] == [
            each for each in packets if twin.flow_of(each) == flow
        ]
    assert tally["supers"] == sum(len(originals) > 1 for _, originals in writes)
    assert tally["folded"] + tally["plain"] == len(packets)
    assert tally["plain"] == sum(len(originals) == 1 for _, originals in writes)
    return [len(originals) for _, originals in writes]


def built(segments: list[Segment]) -> list[bytes]:
    return [segment.build() for segment in segments]


# ---- what is folded


@each_kind
def test_a_run_becomes_the_super_packet_it_was_cut_from(base: Segment) -> None:
    made = super_packet(base.but(payload=noise(40000), flags=ACK | PSH), 1400)
    segments = twin.segment(twin.Vnet.unpack(made[0]), made[1])
    writes, tally = _pure.fold(segments)
    assert writes == [(made[0] + made[1], segments)]
    assert tally == {"supers": 1, "folded": 29, "plain": 0, "bad_checksum": 0, "evicted": 0}


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
    written = _pure.fold(built(packets))[0][0][0]
    assert written[10 + 33] == ACK | PSH


def test_push_first_is_written_at_once_and_alone() -> None:
    packets = run(Segment(), 100, 100, 100)
    packets[0] = packets[0].but(flags=ACK | PSH)
    assert sizes(built(packets)) == [1, 2]


def test_congestion_echo_is_folded_when_all_have_it() -> None:
    assert sizes(built(run(Segment(flags=ACK | ECE), 100, 100, 100))) == [3]


def test_window_reduced_may_only_be_in_the_first() -> None:
    packets = run(Segment(), 100, 100, 100, 100, 100)
    packets[2] = packets[2].but(flags=ACK | CWR)
    assert sizes(built(packets)) == [2, 3]
    written = _pure.fold(built(packets))[0][1][0]
    assert written[1] == 0x81, "the vnet header says that the first segment carries CWR"


@each_kind
def test_ids_and_sequence_numbers_may_wrap(base: Segment) -> None:
    start = base.but(id=0xFFFF, sequence=0xFFFFFFFF)
    assert sizes(built(run(start, 100, 100, 100))) == [3]


@pytest.mark.parametrize("base", [KINDS[0], KINDS[1]], ids=["tcp4", "tcp6"])
def test_equal_options_are_folded(base: Segment) -> None:
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


def test_udp_is_never_folded_beyond_what_the_kernel_takes() -> None:
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
def test_segments_that_open_or_close_are_never_folded(flags: int) -> None:
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
    writes, _ = _pure.fold(built(run(base, 96, 96, 96)))
    assert [len(originals) for _, originals in writes] == [1, 1, 1]


@each_kind
def test_a_length_that_does_not_match_is_kept_apart(base: Segment) -> None:
    packets = built(run(base, 100, 100, 100))
    trailing = [packet + b"\0\0" for packet in packets]
    writes, tally = _pure.fold(trailing)
    assert [written for written, _ in writes] == [twin.PLAIN + packet for packet in trailing]
    assert tally["bad_checksum"] == 0


def test_bytes_behind_the_packet_are_never_folded_into_it() -> None:
    """Even where the TCP sum, over all of them, would be right."""
    packets = []
    for whole in built(run(Segment(), 102, 102, 102)):
        header = (
            whole[:2] + (len(whole) - 2).to_bytes(2, "big") + whole[4:10] + b"\0\0" + whole[12:20]
        )
        check = twin.internet_checksum(header).to_bytes(2, "big")
        packets.append(header[:10] + check + header[12:] + whole[20:])
    writes, tally = _pure.fold(packets)
    assert [written for written, _ in writes] == [twin.PLAIN + packet for packet in packets]
    assert tally["bad_checksum"] == 0


def test_udp_without_checksum_is_kept_apart() -> None:
    packets = [each[:26] + b"\0\0" + each[28:] for each in built(run(KINDS[2], 100, 100))]
    writes, tally = _pure.fold(packets)
    assert [originals for _, originals in writes] == [[packet] for packet in packets]
    assert tally["bad_checksum"] == 0, "none is not a wrong one"


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
    writes, tally = _pure.fold([packets[0].build(), as_ffff])
    assert [originals for _, originals in writes] == [[packets[0].build()], [as_ffff]]
    assert tally["bad_checksum"] == 0


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
    writes, tally = _pure.fold([pair[0], as_ffff])
    assert [originals for _, originals in writes] == [[pair[0]], [as_ffff]]
    assert tally["bad_checksum"] == 0


@pytest.mark.parametrize("kinds", range(16))
def test_only_the_kinds_that_are_switched_on_are_folded(kinds: int) -> None:
    for bit, base in zip((1, 2, 4, 8), KINDS, strict=True):
        packets = built(run(base, 100, 100, 100))
        assert sizes(packets, kinds=kinds) == ([3] if kinds & bit else [1, 1, 1])


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
    writes, tally = _pure.fold(packets)
    assert [each for _, originals in writes for each in originals] == packets
    assert (twin.PLAIN + packets[index], [packets[index]]) in writes
    assert tally["bad_checksum"] == 1
    expected = {0: [1, 3], 1: [1, 1, 2], 2: [2, 1, 1], 3: [3, 1]}
    assert [len(originals) for _, originals in writes] == expected[index]


@pytest.mark.parametrize("base", [KINDS[0], KINDS[2]], ids=["tcp4", "udp4"])
@pytest.mark.parametrize("index", range(3))
def test_a_wrong_ip_header_checksum_passes_untouched(base: Segment, index: int) -> None:
    """The super-packet's header has a sum of its own, which would hide it."""
    packets = built(run(base, 100, 100, 100))
    packets[index] = broken(packets[index], 11)
    writes, tally = _pure.fold(packets)
    assert (twin.PLAIN + packets[index], [packets[index]]) in writes
    assert [each for _, originals in writes for each in originals] == packets
    assert tally["bad_checksum"] == 1


def test_a_lone_packet_is_not_summed() -> None:
    """The kernel judges it; looking twice would be work for nothing."""
    _, tally = _pure.fold([broken(Segment(payload=bytes(100)).build(), -1 + 140)])
    assert tally == {"supers": 0, "folded": 0, "plain": 1, "bad_checksum": 0, "evicted": 0}


# ---- flows


def interleaved(*flows: list[bytes]) -> list[bytes]:
    return [packet for packets in zip(*flows, strict=True) for packet in packets]


def test_interleaved_flows_are_folded_each_by_itself() -> None:
    bases = [base.but(ports=(port, 80)) for base in KINDS for port in range(8)]
    packets = interleaved(*(built(run(base, 100, 100, 100)) for base in bases))
    assert sizes(packets) == [3] * 32


def test_more_flows_than_fit_evict_the_oldest() -> None:
    bases = [Segment(ports=(port, 80)) for port in range(1, 34)]
    packets = interleaved(*(built(run(base, 100, 100)) for base in bases))
    writes, tally = _pure.fold(packets)
    assert tally["evicted"] > 0
    assert sizes(packets)
    assert [twin.flow_of(originals[0]) for _, originals in writes[:1]] == [
        twin.flow_of(packets[0])
    ], "the first to go is the oldest"


@pytest.mark.parametrize("base", [KINDS[0], KINDS[1]], ids=["tcp4", "tcp6"])
@pytest.mark.parametrize("flags", [FIN | ACK, RST, SYN, ACK])
def test_what_cannot_be_folded_comes_after_what_came_before(base: Segment, flags: int) -> None:
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
    writes, _ = _pure.fold(packets)
    assert [len(originals) for _, originals in writes] == [2, 2, 1, 3, 1, 1]
    assert writes[2][1] == [fragment.build()]


@pytest.mark.parametrize("ipv6", [False, True])
def test_an_icmp_message_does_not_hold_back_its_flow(ipv6: bool) -> None:
    packets = built(run(Segment(ipv6=ipv6), 100, 100, 100))
    at, protocol = (6, b"\x3a") if ipv6 else (9, b"\1")
    icmp = packets[0][:at] + protocol + packets[0][at + 1 :]
    writes, _ = _pure.fold([packets[0], icmp, packets[1], icmp, packets[2]])
    assert [len(originals) for _, originals in writes] == [1, 1, 3]


def test_packets_of_no_flow_do_not_hold_back_anything() -> None:
    packets = built(run(Segment(), 100, 100, 100))
    ping = Segment(payload=bytes(40)).build()
    ping = ping[:9] + b"\1" + ping[10:]
    writes, _ = _pure.fold([packets[0], ping, packets[1], b"", b"\x45", bytes(19), packets[2]])
    assert [len(originals) for _, originals in writes] == [1, 1, 1, 1, 3]


@pytest.mark.parametrize("length", range(60))
def test_any_truncation_is_safe(length: int) -> None:
    for base in KINDS:
        packet = base.but(payload=noise(20)).build()[:length]
        writes, _ = _pure.fold([packet, packet])
        assert [written for written, _ in writes] == [twin.PLAIN + packet] * 2
