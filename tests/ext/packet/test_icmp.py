"""ICMP errors that we originate: their bytes, who gets none, and the limit over all of them."""

from __future__ import annotations

import itertools
import threading
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import twin
from tests.support.packets import icmp, ipv4, ipv6
from tests.support.twin.face import CODES, Code
from udpoverlay import _pure

Error = Literal["net_unreachable", "time_exceeded"]
ERRORS: tuple[Error, ...] = get_args(Error)
TUN = bytes([10, 1, 0, 0])
SECOND = 10**9


@pytest.fixture(params=list(CODES))
def code(request: pytest.FixtureRequest) -> Code:
    return CODES[request.param]


def test_net_unreachable_byte_for_byte(code: Code) -> None:
    offender = ipv4(b"12345678rest", source="10.1.0.2", destination="10.9.0.1")
    assert (
        code.icmp_error("net_unreachable", TUN, offender)
        == bytes.fromhex(
            "45000038 00000000 0801 9ec2 0a010000 0a010002"  # our header: TTL 8, id 0, 56 bytes
            "0300 2c2b 00000000"  # type 3 code 0
        )
        + offender[:28]
    )


@pytest.mark.parametrize(("error", "kind"), [("net_unreachable", 3), ("time_exceeded", 11)])
def test_an_error_quotes_the_header_with_options_and_eight_bytes(
    code: Code, error: Error, kind: int
) -> None:
    offender = ipv4(b"12345678rest", options=b"\x01" * 12)
    sent = code.icmp_error(error, TUN, offender)
    assert sent is not None
    assert code.check(sent) == ("ok", 20 + 8 + 32 + 8, 20)
    assert sent[12:20] == TUN + bytes([10, 1, 0, 2])
    assert sent[20:22] == bytes([kind, 0])
    assert sent[28:] == offender[:40]
    assert code.checksum(sent[:20]) == 0
    assert code.checksum(sent[20:]) == 0


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("present", range(9))
def test_what_the_offender_lacks_is_quoted_as_zeros(code: Code, error: Error, present: int) -> None:
    offender = ipv4(b"\xff" * present)
    sent = code.icmp_error(error, TUN, offender + b"not part of the packet")
    assert sent is not None
    assert sent[28:] == offender + bytes(8 - present)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("offset", [1, 0x1FFF, 0x2001])
def test_only_the_first_fragment_is_answered(code: Code, error: Error, offset: int) -> None:
    assert code.icmp_error(error, TUN, ipv4(bytes(8), fragment=offset)) is None
    assert code.icmp_error(error, TUN, ipv4(bytes(8), fragment=0x2000)) is not None
    assert code.icmp_error(error, TUN, ipv4(bytes(8), fragment=0x4000)) is not None


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    "address", ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.251", "240.0.0.1", "255.255.255.255"]
)
def test_what_is_not_one_host_is_not_answered(code: Code, error: Error, address: str) -> None:
    assert code.icmp_error(error, TUN, ipv4(bytes(8), source=address)) is None
    assert code.icmp_error(error, TUN, ipv4(bytes(8), destination=address)) is None


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_no_error_about_an_error(code: Code, error: Error, kind: int) -> None:
    assert code.icmp_error(error, TUN, ipv4(icmp(kind), protocol=1)) is None


def test_net_unreachable_is_not_sent_about_any_icmp(code: Code) -> None:
    assert code.icmp_error("net_unreachable", TUN, ipv4(icmp(8), protocol=1)) is None


@pytest.mark.parametrize("kind", [0, 8, 13, 17])
def test_time_exceeded_answers_queries_so_that_traceroute_sees_us(code: Code, kind: int) -> None:
    assert code.icmp_error("time_exceeded", TUN, ipv4(icmp(kind), protocol=1, ttl=1)) is not None


def test_icmp_without_a_type_is_not_answered(code: Code) -> None:
    assert code.icmp_error("time_exceeded", TUN, ipv4(protocol=1) + b"\x08") is None


def test_net_unreachable_is_not_sent_about_the_longest_header(code: Code) -> None:
    offender = ipv4(bytes(8), options=b"\x01" * 40)
    assert code.icmp_error("net_unreachable", TUN, offender) is None
    sent = code.icmp_error("time_exceeded", TUN, offender)
    assert sent is not None
    assert len(sent) == 20 + 8 + 60 + 8


@pytest.mark.parametrize("error", ERRORS)
def test_no_icmp_for_ipv6(code: Code, error: Error) -> None:
    assert code.icmp_error(error, TUN, ipv6(bytes(8))) is None


@given(
    st.sampled_from(ERRORS),
    st.builds(
        lambda words, rest: bytes([0x40 | words, 0, 0, words * 4 + 9]) + rest,
        st.integers(5, 15),
        st.binary(min_size=80, max_size=80),
    ),
)
def test_the_c_code_answers_any_packet_as_the_twin_does(error: Error, offender: bytes) -> None:
    assert _pure.icmp_error(error, TUN, offender) == twin.icmp_error(error, TUN, offender)


def test_a_burst_passes_and_then_the_rate_holds(code: Code) -> None:
    limiter = code.IcmpLimiter(rate=100, burst=5)
    now = 10 * SECOND
    assert [limiter.take(now) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not limiter.take(now + SECOND // 200)
    assert limiter.take(now + SECOND // 99)
    assert not limiter.take(now + SECOND // 99)


def test_an_idle_hour_earns_no_more_than_the_burst(code: Code) -> None:
    limiter = code.IcmpLimiter(rate=1000, burst=3)
    for hour in range(1, 50):
        now = hour * 3600 * SECOND
        assert sum(limiter.take(now) for _ in range(10)) == 3


def test_the_first_error_after_any_idle_time_is_sent_within_seconds() -> None:
    # The C code's clock wraps every 19 hours: wherever in that span it wakes up, it must not stay
    # silent.
    for minutes in range(0, 24 * 60, 7):
        limiter = _pure.IcmpLimiter()
        start = 5 * SECOND
        while limiter.take(start):
            pass
        later = start + minutes * 60 * SECOND + 11 * SECOND
        assert any(limiter.take(later + ms * SECOND // 1000) for ms in range(0, 12000, 100))


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (10001, 1), (1, 0), (1, 1001)])
def test_a_limit_out_of_range_names_the_range(code: Code, rate: int, burst: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.10000"):
        code.IcmpLimiter(rate, burst)


@given(
    st.integers(1, 10000),
    st.integers(1, 1000),
    st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=300),
)
def test_the_bucket_agrees_with_counted_tokens(rate: int, burst: int, steps: list[int]) -> None:
    fast, slow = _pure.IcmpLimiter(rate, burst), twin.IcmpLimiter(rate, burst)
    for now in itertools.accumulate(steps, initial=SECOND):
        assert fast.take(now) == slow.take(now)


def test_many_threads_share_one_limit() -> None:
    limiter = _pure.IcmpLimiter(rate=1000, burst=50)
    granted: list[int] = []
    start = threading.Barrier(8)

    def worker() -> None:
        start.wait()
        # One second of all clocks in 2,000 steps.
        granted.append(sum(limiter.take(SECOND + step * SECOND // 2000) for step in range(2000)))

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Workers' clocks lie apart here, by up to the second: never more than burst + rate.
    assert 50 <= sum(granted) <= 1050
