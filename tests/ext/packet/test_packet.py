"""The header check and the TTL rule, in C and in the twin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import twin
from tests.support.namespace import in_new_namespace
from tests.support.packets import ipv4, ipv6
from tests.support.twin.face import CODES, Code
from tests.support.vnet_tun import allow_forwarding, vnet_tun
from udpoverlay import _pure


@pytest.fixture(params=list(CODES))
def code(request: pytest.FixtureRequest) -> Code:
    return CODES[request.param]


def test_a_plain_packet_passes_with_its_lengths(code: Code) -> None:
    assert code.check(ipv4(b"x" * 8)) == ("ok", 28, 20)


def test_options_belong_to_the_header(code: Code) -> None:
    assert code.check(ipv4(b"x", options=bytes(40))) == ("ok", 61, 60)


def test_bytes_after_the_total_length_are_cut_off(code: Code) -> None:
    assert code.check(ipv4(b"x" * 8) + b"padding") == ("ok", 28, 20)


def test_a_header_alone_is_a_packet(code: Code) -> None:
    assert code.check(ipv4()) == ("ok", 20, 20)


def test_the_longest_packet_passes(code: Code) -> None:
    assert code.check(ipv4(bytes(65515))) == ("ok", 65535, 20)


@pytest.mark.parametrize("length", range(20))
def test_less_than_a_header_is_too_short(code: Code, length: int) -> None:
    assert code.check(ipv4()[:length]) == ("too_short", 0, 0)


@pytest.mark.parametrize("version", [v for v in range(16) if v != 4])
def test_only_ipv4_is_carried(code: Code, version: int) -> None:
    packet = bytes([version << 4 | 5]) + ipv4(bytes(40))[1:]
    assert code.check(packet) == ("wrong_version", 0, 0)


@pytest.mark.parametrize("words", range(5))
def test_a_header_length_under_20_is_refused(code: Code, words: int) -> None:
    assert code.check(bytes([0x40 | words]) + ipv4(bytes(60))[1:]) == ("bad_header", 0, 0)


@pytest.mark.parametrize("words", range(6, 16))
def test_a_header_longer_than_what_came_is_refused(code: Code, words: int) -> None:
    packet = bytes([0x40 | words]) + ipv4(bytes(words * 4 - 21))[1:]
    assert code.check(packet) == ("bad_header", 0, 0)


@pytest.mark.parametrize("total", [0, 1, 19, 29, 1500, 65535])
def test_a_total_length_that_cannot_be_is_refused(code: Code, total: int) -> None:
    assert code.check(ipv4(bytes(8), total_length=total)) == ("bad_length", 0, 0)


def test_a_total_length_within_the_options_is_refused(code: Code) -> None:
    assert code.check(ipv4(options=bytes(8), total_length=24)) == ("bad_length", 0, 0)


def test_a_wrong_header_checksum_is_the_next_kernels_business(code: Code) -> None:
    assert code.check(ipv4(header_checksum=0x1234)) == ("ok", 20, 20)


def test_ipv6_passes_where_the_tunnel_carries_it(code: Code) -> None:
    assert code.check(ipv6(b"x" * 8) + b"padding", ipv6=True) == ("ok", 48, 40)
    assert code.check(ipv4(), ipv4=False, ipv6=True) == ("wrong_version", 0, 0)


@pytest.mark.parametrize("length", [20, 39])
def test_less_than_an_ipv6_header_is_too_short(code: Code, length: int) -> None:
    assert code.check(ipv6()[:length], ipv6=True) == ("too_short", 0, 0)


def test_an_ipv6_payload_beyond_what_came_is_refused(code: Code) -> None:
    assert code.check(ipv6(bytes(8))[:-1], ipv6=True) == ("bad_length", 0, 0)


def test_a_jumbogram_is_refused(code: Code) -> None:
    assert code.check(ipv6(next_header=0) + bytes(8), ipv6=True) == ("bad_length", 0, 0)


def test_one_hop_less_and_the_checksum_still_right(code: Code) -> None:
    assert code.decrease_ttl(ipv4(b"payload", ttl=64)) == ipv4(b"payload", ttl=63)


def test_the_last_hop_that_can_be_taken(code: Code) -> None:
    assert code.decrease_ttl(ipv4(ttl=2)) == ipv4(ttl=1)


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_packet_without_a_hop_to_spare_expires(code: Code, ttl: int) -> None:
    assert code.decrease_ttl(ipv4(ttl=ttl)) is None
    assert code.decrease_ttl(ipv6(hop_limit=ttl)) is None


def test_ipv6_has_no_checksum_to_patch(code: Code) -> None:
    assert code.decrease_ttl(ipv6(b"payload", hop_limit=2)) == ipv6(b"payload", hop_limit=1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # What ip_decrease_ttl (include/net/ip.h) leaves in the field. On a little-endian machine
        # that function works on the swapped number, where these are 0xFFFD, 0xFFFE, 0xFFFF, 0x00FF:
        (0xFDFF, 0xFEFF),
        (0xFEFF, 0x0000),
        (0xFFFF, 0x0100),
        (0xFF00, 0x0001),
        (0xFEFE, 0xFFFE),
        (0xFFFE, 0x00FF),
        (0x0000, 0x0100),
        (0xFF01, 0x0002),
    ],
)
def test_the_checksum_edges_are_those_of_the_kernel(code: Code, before: int, after: int) -> None:
    changed = code.decrease_ttl(ipv4(header_checksum=before))
    assert changed == ipv4(ttl=63, header_checksum=after)


def kernels_arithmetic(check: int, byteorder: str) -> int:
    """ip_decrease_ttl as the kernel computes it on a machine of that byte order."""
    raw = check if byteorder == "big" else (check & 0xFF) << 8 | check >> 8
    raw += 0x0100 if byteorder == "big" else 0x0001
    raw = (raw + (raw >= 0xFFFF)) & 0xFFFF
    return raw if byteorder == "big" else (raw & 0xFF) << 8 | raw >> 8


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_every_checksum_is_patched_as_the_kernel_does(byteorder: str) -> None:
    for check in range(0x10000):
        changed = _pure.decrease_ttl(ipv4(header_checksum=check))
        assert changed is not None
        assert int.from_bytes(changed[10:12], "big") == kernels_arithmetic(check, byteorder)


def with_checksum(check: int) -> bytes:
    """A correct packet whose header checksum is `check`: the identification makes up for it."""
    rest = ipv4(bytes(8), source="10.1.0.2", destination="10.1.1.2")
    identification = ((check ^ 0xFFFF) + int.from_bytes(rest[10:12], "big")) % 0xFFFF
    packet = ipv4(
        bytes(8), source="10.1.0.2", destination="10.1.1.2", identification=identification
    )
    assert int.from_bytes(packet[10:12], "big") == check
    return packet


@pytest.mark.root
def test_the_kernel_forwards_byte_for_byte_what_we_forward() -> None:
    edges = [0x0000, 0x00FF, 0x0100, 0xFDFF, 0xFEFE, 0xFEFF, 0xFF00, 0xFF01, 0xFFFD, 0xFFFE]
    packets = [with_checksum(check) for check in [*edges, *range(0, 0xFFFE, 997)]]

    def forward() -> None:
        allow_forwarding()
        with vnet_tun(0, [], []) as entry, vnet_tun(0, ["10.1.1.0/24"], []) as leave:
            for packet in packets:
                entry.write(bytes(10) + packet)
                assert leave.read_traffic(1)[0][10:] == _pure.decrease_ttl(packet)

    in_new_namespace(forward)


def test_what_does_not_pass_the_check_cannot_lose_a_hop(code: Code) -> None:
    with pytest.raises(ValueError, match="check"):
        code.decrease_ttl(b"\x45")


hostile = st.one_of(
    st.binary(max_size=100),
    # Nearly right: random first bytes before something long enough.
    st.builds(
        lambda head, rest: head + rest,
        st.builds(
            lambda first, tos, length: bytes([first, tos]) + length.to_bytes(2, "big"),
            st.sampled_from([0x45, 0x46, 0x4F, 0x44, 0x40, 0x55, 0x60]),
            st.integers(0, 255),
            st.integers(0, 120),
        ),
        st.binary(min_size=10, max_size=100),
    ),
)


def test_a_batch_is_checked_packet_by_packet() -> None:
    batch = ipv4(bytes(8)) + ipv4(bytes(8), ttl=1) + b"\x55" + ipv4(bytes(8))[1:]
    assert _pure.forward_many(batch, 28, rounds=3) == 3
    with pytest.raises(ValueError, match="29"):
        _pure.forward_many(ipv4(bytes(8)), 29)


@given(hostile, st.booleans(), st.booleans())
def test_the_c_code_judges_any_bytes_as_the_twin_does(data: bytes, v4: bool, v6: bool) -> None:
    assert _pure.check(data, v4, v6) == twin.check(data, v4, v6)


@given(st.builds(lambda rest: b"\x45\x00\x00\x1c" + rest, st.binary(min_size=24, max_size=24)))
def test_the_c_code_takes_a_hop_as_the_twin_does(packet: bytes) -> None:
    assert _pure.decrease_ttl(packet) == twin.decrease_ttl(packet)
