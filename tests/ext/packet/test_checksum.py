"""The internet checksum: every implementation, every length, every alignment."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import twin
from tests.support.twin.face import CODES, Code
from udpoverlay import _pure

IMPLEMENTATIONS = _pure.checksum_implementations()


@pytest.fixture(params=list(CODES))
def code(request: pytest.FixtureRequest) -> Code:
    return CODES[request.param]


def test_the_portable_implementation_is_always_there_and_last() -> None:
    assert IMPLEMENTATIONS[-1] == "portable"
    assert len(set(IMPLEMENTATIONS)) == len(IMPLEMENTATIONS)


def test_an_unknown_implementation_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'mmx'.*portable"):
        _pure.checksum(b"", "mmx")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0xFFFF),
        (b"\x01", 0xFEFF),
        (bytes.fromhex("0001f203f4f5f6f7"), 0x220D),  # RFC 1071 section 3
        (b"\xff\xff", 0x0000),
        (bytes(64), 0xFFFF),
        (b"\xff" * 65536, 0x0000),
        # A header seen on a wire: 192.168.0.1 -> 192.168.0.199, UDP.
        (bytes.fromhex("45000073000040004011b861c0a80001c0a800c7"), 0x0000),
    ],
)
def test_known_sums(code: Code, data: bytes, expected: int) -> None:
    assert code.checksum(data) == expected


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_length_up_to_three_vectors_and_long_ones(implementation: str) -> None:
    source = random.Random(1071).randbytes(70000)
    for length in [*range(300), 1471, 1472, 4095, 4097, 65534, 65535, 69999]:
        data = source[:length]
        assert _pure.checksum(data, implementation) == twin.checksum(data), length


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_carries_out_of_every_word_are_kept(implementation: str) -> None:
    for length in range(1, 300):
        data = b"\xff" * length
        assert _pure.checksum(data, implementation) == twin.checksum(data), length


@given(st.binary(max_size=2000))
def test_all_implementations_agree_with_the_twin(data: bytes) -> None:
    expected = twin.checksum(data)
    assert {_pure.checksum(data, name) for name in IMPLEMENTATIONS} == {expected}


def test_a_udp_datagram_with_its_pseudo_header(code: Code) -> None:
    # 10.0.0.1:1 -> 10.0.0.2:2, "hi": the words add up to 0x7C94.
    addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
    datagram = bytes.fromhex("00010002000a0000") + b"hi"
    assert code.transport_checksum(addresses, 17, datagram) == 0x7C94 ^ 0xFFFF


@pytest.mark.parametrize("width", [8, 32])
@given(data=st.data())
def test_pseudo_headers_agree_with_the_twin(width: int, data: st.DataObject) -> None:
    addresses = data.draw(st.binary(min_size=width, max_size=width))
    protocol = data.draw(st.sampled_from([6, 17, 58]))
    segment = data.draw(st.binary(max_size=1500))
    assert _pure.transport_checksum(addresses, protocol, segment) == twin.transport_checksum(
        addresses, protocol, segment
    )


def test_a_datagram_with_its_checksum_in_place_sums_to_nothing(code: Code) -> None:
    addresses = bytes(range(32))
    segment = bytes(16) + b"odd"
    value = code.transport_checksum(addresses, 6, segment)
    in_place = value.to_bytes(2, "big") + segment[2:]
    assert code.transport_checksum(addresses, 6, in_place) == 0


def test_addresses_of_a_wrong_length_are_refused(code: Code) -> None:
    with pytest.raises(ValueError, match="8 or 32"):
        code.transport_checksum(bytes(7), 17, b"")
