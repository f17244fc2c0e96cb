"""ext/offload: segment.c and vnet.c against the twin of the kernel's rules, hostile headers."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.segments import Segment, noise, super_packet
from tests.support.twin import offload as twin
from udpoverlay import _pure

TIMESTAMPS = b"\1\1\x08\x0a" + bytes(range(8))
KINDS = [Segment(tcp=tcp, ipv6=ipv6) for tcp in (True, False) for ipv6 in (False, True)]
each_kind = pytest.mark.parametrize("base", KINDS, ids=["tcp4", "tcp6", "udp4", "udp6"])


def datagrams(header: bytes, packet: bytes, **limits: int) -> list[bytes]:
    groups = _pure.segment(header, packet, **limits)  # type: ignore[arg-type] # ints only here
    assert not isinstance(groups, str), groups
    return [datagram for _, group in groups for datagram in group]


def expected(header: bytes, packet: bytes) -> list[bytes]:
    return twin.segment(twin.Vnet.unpack(header), packet)


# ---- what comes out


@each_kind
@pytest.mark.parametrize("length", [1, 999, 1000, 1001, 2000, 60000])
def test_segments_are_those_of_the_kernel(base: Segment, length: int) -> None:
    header, packet = super_packet(base.but(payload=noise(length)), 1000)
    assert datagrams(header, packet) == expected(header, packet)


def test_every_flag_goes_where_the_kernel_puts_it() -> None:
    for flags in range(256):
        segment = Segment(payload=bytes(250), flags=flags, options=TIMESTAMPS)
        header, packet = super_packet(segment, 100)
        segments = datagrams(header, packet)
        assert segments == expected(header, packet)
        fin_psh, cwr, rest = 0x09, 0x80, 0x76
        assert [each[33] & fin_psh for each in segments] == [0, 0, flags & fin_psh]
        assert [each[33] & cwr for each in segments] == [flags & cwr, 0, 0]
        assert {each[33] & rest for each in segments} == {flags & rest}


def test_the_ipv4_id_and_the_sequence_number_wrap() -> None:
    segment = Segment(payload=bytes(500), id=0xFFFE, sequence=0xFFFFFF9C)
    segments = datagrams(*super_packet(segment, 100))
    assert [int.from_bytes(each[4:6], "big") for each in segments] == [0xFFFE, 0xFFFF, 0, 1, 2]
    assert [int.from_bytes(each[24:28], "big") for each in segments] == [
        0xFFFFFF9C,
        0,
        100,
        200,
        300,
    ]
    assert all(twin.internet_checksum(each[:20]) == 0 for each in segments)


def test_ip_options_are_in_every_segment() -> None:
    segment = Segment(payload=noise(300), ip_options=b"\x94\x04\0\0\1\1\1\0")
    header, packet = super_packet(segment, 100)
    segments = datagrams(header, packet)
    assert segments == expected(header, packet)
    assert {each[20:28] for each in segments} == {segment.ip_options}


def test_extension_headers_are_in_every_segment() -> None:
    segment = Segment(ipv6=True, payload=noise(300), extension=b"?\1" + bytes(14))
    header, packet = super_packet(segment, 100)
    segments = datagrams(header, packet)
    assert segments == expected(header, packet)
    assert {each[40:56] for each in segments} == {b"\x06\1" + bytes(14)}


@pytest.mark.parametrize("kind", [0, 43, 60], ids=["hop-by-hop", "routing", "destination"])
def test_each_extension_header_that_the_kernel_segments_with_is_passed_over(kind: int) -> None:
    segment = Segment(ipv6=True, payload=noise(300), extension=bytes([0, 2]) + bytes(22))
    header, packet = super_packet(segment, 100)
    two = bytes([60, 1]) + bytes(14) + bytes([6, 0]) + bytes(6)
    chained = packet[:6] + bytes([kind]) + packet[7:40] + two + packet[64:]
    segments = datagrams(header, chained)
    assert segments == expected(header, chained)
    assert len(segments) == 3


@pytest.mark.parametrize("kind", [44, 51, 59, 135, 17])
def test_any_other_header_before_tcp_is_malformed(kind: int) -> None:
    header, packet = super_packet(Segment(ipv6=True, payload=noise(300), extension=bytes(8)), 100)
    assert _pure.segment(header, packet[:6] + bytes([kind]) + packet[7:]) == "malformed"


def test_an_extension_header_longer_than_the_packet_is_malformed() -> None:
    header, packet = super_packet(Segment(ipv6=True, payload=noise(300), extension=bytes(8)), 100)
    assert _pure.segment(header, packet[:41] + b"\xff" + packet[42:]) == "malformed"


def test_behind_a_routing_header_the_sum_keeps_the_final_destination() -> None:
    """The pseudo-header of such a packet holds an address that its IPv6 header does not show."""
    plain = Segment(ipv6=True, payload=noise(300))
    header, packet = super_packet(plain, 100)
    routing = bytes([6, 2, 4, 1, 0, 0, 0, 0]) + packet[24:40]  # next TCP, type 4, one segment left
    first_hop = bytes.fromhex("fd00") + bytes(13) + b"\x09"
    length = struct.pack("!H", len(packet) - 40 + len(routing))
    routed = packet[:4] + length + b"\x2b" + packet[7:24] + first_hop + routing + packet[40:]
    vnet = twin.Vnet.unpack(header)
    routed_header = vnet._replace(csum_start=vnet.csum_start + len(routing)).pack()
    for with_route, without in zip(
        datagrams(routed_header, routed), datagrams(header, packet), strict=True
    ):
        assert with_route[40 + len(routing) :] == without[40:]


def test_a_udp_sum_of_zero_is_sent_as_ffff() -> None:
    """Searched for: the payload word that makes the sum come out as 0."""
    base = Segment(tcp=False, payload=bytes(200))
    header, packet = super_packet(base, 100)
    sum_of_first = int.from_bytes(datagrams(header, packet)[0][26:28], "big")
    segment = base.but(payload=struct.pack("!H", sum_of_first) + bytes(198))
    first = datagrams(*super_packet(segment, 100))[0]
    assert first[26:28] == b"\xff\xff"


def test_a_udp_super_packet_without_checksum_stays_without() -> None:
    header, packet = super_packet(Segment(tcp=False, payload=bytes(200)), 100)
    bare = packet[:26] + b"\0\0" + packet[28:]
    no_sum = twin.Vnet.unpack(header)._replace(flags=0, csum_start=0, csum_offset=0).pack()
    assert [each[26:28] for each in datagrams(no_sum, bare)] == [b"\0\0", b"\0\0"]


def test_without_needs_csum_the_sum_is_made_from_the_addresses() -> None:
    for base in KINDS:
        header, packet = super_packet(base.but(payload=noise(777)), 100)
        other = twin.Vnet.unpack(header)._replace(flags=0, csum_start=0, csum_offset=0).pack()
        assert datagrams(other, packet) == datagrams(header, packet)


# ---- how it is grouped


@pytest.mark.parametrize("max_segments", [1, 2, 3, 7, 128])
@pytest.mark.parametrize("max_bytes", [120, 121, 239, 240, 241, 359, 360, 1000, 65507])
@pytest.mark.parametrize("length", [80, 81, 159, 160, 161, 500, 560])
def test_no_group_is_over_its_limits(max_segments: int, max_bytes: int, length: int) -> None:
    header, packet = super_packet(Segment(payload=noise(length)), 80)
    groups = _pure.segment(header, packet, max_segments=max_segments, max_bytes=max_bytes)
    assert not isinstance(groups, str)
    assert [each for _, group in groups for each in group] == expected(header, packet)
    for datagram, group in groups:
        assert 1 <= len(group) <= max_segments
        assert sum(map(len, group)) <= max_bytes
        assert {len(each) for each in group[:-1]} <= {datagram}
        assert len(group[-1]) <= datagram
    for (_, group), (_, after) in pairwise(groups):
        full = len(group) == max_segments
        assert full or sum(map(len, group)) + len(after[0]) > max_bytes, "a group could be longer"


def test_a_small_header_space_makes_more_groups() -> None:
    header, packet = super_packet(Segment(payload=noise(1000)), 100)
    groups = _pure.segment(header, packet, headers_size=130)
    assert not isinstance(groups, str)
    assert [len(group) for _, group in groups] == [3, 3, 3, 1]


def test_an_encapsulation_header_stands_before_each_segment() -> None:
    header, packet = super_packet(Segment(payload=noise(250)), 100)
    groups = _pure.segment(header, packet, encap=b"vxlan header and such")
    assert not isinstance(groups, str)
    ((datagram, group),) = groups
    assert group == [b"vxlan header and such" + each for each in expected(header, packet)]
    assert datagram == len(group[0])


@pytest.mark.parametrize(
    "limits", [{"max_segments": 0}, {"max_bytes": 139}, {"headers_size": 39}], ids=str
)
def test_what_fits_no_limit_is_refused(limits: dict[str, int]) -> None:
    header, packet = super_packet(Segment(payload=bytes(200)), 100)
    assert _pure.segment(header, packet, **limits) == "too_large"  # type: ignore[arg-type] # ints


# ---- hostile headers


def changed(base: Segment, **fields: int) -> tuple[bytes, bytes]:
    header, packet = super_packet(base.but(payload=bytes(300)), 100)
    return twin.Vnet.unpack(header)._replace(**fields).pack(), packet


@each_kind
@pytest.mark.parametrize(
    "fields",
    [
        {"gso_size": 0},
        {"csum_start": 0},
        {"csum_start": 65535},
        {"csum_offset": 0},
        {"csum_offset": 65535},
        {"csum_offset": 15},
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_is_malformed(base: Segment, fields: dict[str, int]) -> None:
    assert _pure.segment(*changed(base, **fields)) == "malformed"


@pytest.mark.parametrize("gso_type", [0, 2, 3, 6, 7, 0x20, 0x41, 0x7F, 0x80, 0x83, 0xFF])
def test_types_that_were_never_asked_for_are_unsupported(gso_type: int) -> None:
    assert _pure.segment(*changed(Segment(), gso_type=gso_type)) == "unsupported"


def test_a_type_that_contradicts_the_packet_is_malformed() -> None:
    kinds = {(True, False): 1, (True, True): 4, (False, False): 5, (False, True): 5}
    for base in KINDS:
        for gso_type in (1, 4, 5, 0x81, 0x84, 0x85):
            right = kinds[base.tcp, base.ipv6]
            fits = gso_type == right or (base.tcp and gso_type == right | 0x80)
            result = _pure.segment(*changed(base, gso_type=gso_type))
            assert (result != "malformed") == fits, (base, gso_type)


def test_the_header_length_is_not_believed() -> None:
    for base in KINDS:
        for hint in (0, 1, 39, 1000, 65535):
            header, packet = changed(base, header_length=hint)
            assert datagrams(header, packet) == expected(header, packet)


@each_kind
def test_every_shorter_packet_is_malformed(base: Segment) -> None:
    header, packet = super_packet(base.but(payload=bytes(30)), 10)
    for length in range(len(packet)):
        assert _pure.segment(header, packet[:length]) == "malformed"


@pytest.mark.parametrize("fragment", [0x2000, 0x0001, 0x1FFF, 0x6000])
def test_a_fragment_is_malformed(fragment: int) -> None:
    header, packet = super_packet(Segment(payload=bytes(300), fragment=fragment), 100)
    assert _pure.segment(header, packet) == "malformed"


@pytest.mark.parametrize("length", [0, 8, 307, 309, 65535])
def test_a_udp_length_that_does_not_fit_is_malformed(length: int) -> None:
    header, packet = super_packet(Segment(tcp=False, payload=bytes(300)), 100)
    wrong = packet[:24] + struct.pack("!H", length) + packet[26:]
    assert _pure.segment(header, wrong) == "malformed"


def test_a_gso_packet_no_longer_than_a_segment_is_one_segment() -> None:
    for base in KINDS:
        for length in (0, 1, 100):
            segment = base.but(payload=noise(length), flags=0xFF)
            header, packet = super_packet(segment, 100)
            assert datagrams(header, packet) == [segment.build()]


bytes_changed = st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), max_size=4)


@given(
    base=st.sampled_from(KINDS),
    vnet=st.binary(min_size=10, max_size=10) | st.none(),
    header_changes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 255)), max_size=2),
    packet_changes=bytes_changed,
)
def test_no_header_leads_out_of_the_packet(
    base: Segment,
    vnet: bytes | None,
    header_changes: list[tuple[int, int]],
    packet_changes: list[tuple[int, int]],
) -> None:
    """Nothing but a list or a word comes back; what is cut carries the payload, whole, once."""
    header, packet = super_packet(base.but(payload=noise(333)), 50)
    header_bytes = bytearray(vnet or header)
    for at, value in header_changes:
        header_bytes[at] = value
    packet_bytes = bytearray(packet)
    for at, value in packet_changes:
        packet_bytes[at] = value
    groups = _pure.segment(bytes(header_bytes), bytes(packet_bytes))
    if isinstance(groups, str):
        assert groups in ("unsupported", "malformed", "too_large")
        return
    parts = twin.take_apart(bytes(packet_bytes))
    overhead = len(parts.ip) + len(parts.header)
    segments = [each for _, group in groups for each in group]
    assert b"".join(each[overhead:] for each in segments) == parts.payload


@st.composite
def supers(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Any super-packet that a kernel could hand over."""
    tcp = draw(st.booleans())
    ipv6 = draw(st.booleans())
    segment = Segment(
        tcp=tcp,
        ipv6=ipv6,
        payload=draw(st.randoms(use_true_random=False)).randbytes(draw(st.integers(0, 3000))),
        sequence=draw(st.integers(0, 2**32 - 1)),
        acknowledgment=draw(st.integers(0, 2**32 - 1)),
        flags=draw(st.integers(0, 255)),
        reserved=draw(st.integers(0, 15)),
        window=draw(st.integers(0, 65535)),
        urgent=draw(st.integers(0, 65535)),
        options=draw(st.binary(max_size=40)),
        id=draw(st.integers(0, 65535)),
        tos=draw(st.integers(0, 255)),
        ttl=draw(st.integers(1, 255)),
        fragment=draw(st.sampled_from([0, 0x4000, 0x8000])),
        ip_options=bytes(4 * draw(st.integers(0, 10))),
        extension=bytes([0, 1]) + bytes(14) if draw(st.booleans()) else b"",
    )
    return super_packet(segment, draw(st.integers(1, 1500)))


@given(made=supers())
def test_any_super_packet_is_cut_like_the_kernel_does(made: tuple[bytes, bytes]) -> None:
    assert datagrams(*made) == expected(*made)


# ---- ordinary packets


def needs_csum(start: int, offset: int) -> bytes:
    return twin.Vnet(flags=1, csum_start=start, csum_offset=offset).pack()


@each_kind
@pytest.mark.parametrize("length", [0, 1, 2, 777])
def test_an_unfinished_checksum_is_finished(base: Segment, length: int) -> None:
    segment = base.but(payload=noise(length))
    at = 40 if base.ipv6 else 20
    offset = 16 if base.tcp else 6
    packet = segment.build(sums=False)
    header = needs_csum(at, offset)
    done = _pure.finish_checksum(header, packet)
    assert done == twin.finish(twin.Vnet.unpack(header), packet)
    assert done is not None
    assert done[at + offset :][:2] in (segment.build()[at + offset :][:2], b"\xff\xff")


def test_a_sum_of_zero_is_finished_as_ffff() -> None:
    """For TCP too: so does skb_checksum_help()."""
    for base in KINDS:
        at, offset = 40 if base.ipv6 else 20, 16 if base.tcp else 6
        sum_of_zeros = base.but(payload=bytes(8)).build()[at + offset :][:2]
        packet = base.but(payload=sum_of_zeros + bytes(6)).build(sums=False)
        done = _pure.finish_checksum(needs_csum(at, offset), packet)
        assert done is not None
        assert done[at + offset :][:2] == b"\xff\xff"


def test_a_finished_packet_is_left_alone() -> None:
    packet = Segment(payload=b"abc").build()
    assert _pure.finish_checksum(twin.PLAIN, packet) == packet
    valid = twin.Vnet(flags=2, csum_start=9999).pack()
    assert _pure.finish_checksum(valid, packet) == packet


@pytest.mark.parametrize(
    ("start", "offset"),
    [(0, 10), (19, 0), (20, 22), (20, 21), (42, 0), (43, 0), (65535, 65535), (20, 65535)],
)
def test_a_checksum_outside_the_packet_is_refused(start: int, offset: int) -> None:
    packet = Segment(payload=b"ab").build(sums=False)
    assert len(packet) == 42
    assert _pure.finish_checksum(needs_csum(start, offset), packet) is None


def test_a_checksum_inside_ip_options_is_refused() -> None:
    packet = Segment(payload=b"ab", ip_options=bytes(8)).build(sums=False)
    assert _pure.finish_checksum(needs_csum(20, 6), packet) is None
    assert _pure.finish_checksum(needs_csum(28, 16), packet) is not None
