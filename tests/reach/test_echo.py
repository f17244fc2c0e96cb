"""reach/echo.py: the bytes of a request, and what comes back for it."""

from __future__ import annotations

import errno
import struct

import pytest

from tests.support.wire import checksum
from udpoverlay.reach.echo import (
    SMALLEST,
    Event,
    Kind,
    answer,
    refusal,
    report,
    request,
    without_ip_header,
)

NONCE = b"01234567"
OURS = request(7, 3, NONCE, 84)


def error(
    number: int = errno.EHOSTUNREACH,
    *,
    origin: int = 2,
    icmp: int = 3,
    code: int = 1,
    info: int = 0,
    sender: str = "10.5.73.0",
) -> list[tuple[int, int, bytes]]:
    """An entry of the error queue, as linux/errqueue.h lays it out."""
    data = struct.pack("=IBBBBII", number, origin, icmp, code, 0, info, 0)
    data += struct.pack("=HH4s8x", 2, 0, bytes(map(int, sender.split("."))))
    return [(0, 11, data)]


@pytest.mark.parametrize("size", [SMALLEST, 37, 84, 1472])
def test_request_has_its_size_and_a_right_checksum(size: int) -> None:
    message = request(0x1234, 0xFFFF, NONCE, size)
    assert len(message) == size - 20
    assert checksum(message) == 0
    assert message[:2] == b"\x08\0"
    assert message[4:16] == b"\x12\x34\xff\xff" + NONCE


def test_answer_to_our_request_has_its_number() -> None:
    assert answer(b"\0" + OURS[1:], NONCE) == 3


def test_answer_to_another_programs_request_is_none() -> None:
    assert answer(b"\0" + OURS[1:], b"another.") is None


def test_our_own_request_is_no_answer() -> None:
    assert answer(OURS, NONCE) is None


@pytest.mark.parametrize("length", range(17))
def test_cut_message_is_neither_answer_nor_error(length: int) -> None:
    cut = (b"\0" + OURS[1:])[: min(length, 15)]
    assert answer(cut, NONCE) is None
    assert report(OURS[: min(length, 7)], error(), 7, 1.0) is None


def test_ip_header_with_options_is_taken_off() -> None:
    assert without_ip_header(b"\x46" + bytes(23) + b"icmp") == b"icmp"
    assert without_ip_header(b"\x60" + bytes(40)) == b""
    assert without_ip_header(b"") == b""


def test_time_exceeded_names_who_says_so() -> None:
    found = report(OURS[:8], error(icmp=11, code=0), 7, 1.5)
    assert found == Event(3, Kind.TIME_EXCEEDED, 1.5, "10.5.73.0", words="time exceeded")


def test_fragmentation_needed_has_the_mtu() -> None:
    found = report(OURS[:8], error(errno.EMSGSIZE, code=4, info=1300), 7, 1.0)
    assert found is not None
    assert (found.kind, found.mtu, found.sender) == (Kind.TOO_BIG, 1300, "10.5.73.0")


@pytest.mark.parametrize(
    ("code", "words"), [(1, "host unreachable"), (13, "prohibited by a packet filter")]
)
def test_unreachable_has_its_reason(code: int, words: str) -> None:
    found = report(OURS[:8], error(code=code), 7, 1.0)
    assert found is not None
    assert (found.kind, found.words) == (Kind.UNREACHABLE, words)


def test_error_about_another_identifier_is_not_ours() -> None:
    assert report(request(8, 3, NONCE, 84), error(), 7, 1.0) is None


@pytest.mark.parametrize("length", range(16))
def test_cut_entry_of_the_error_queue_says_nothing(length: int) -> None:
    [(level, kind, data)] = error()
    assert report(OURS, [(level, kind, data[:length])], 7, 1.0) is None


def test_error_of_this_hosts_kernel_is_told_apart_from_a_routers() -> None:
    found = report(OURS, error(errno.EMSGSIZE, origin=1, icmp=0, info=1472), 7, 1.0)
    assert found == Event(3, Kind.TOO_BIG_HERE, 1.0, mtu=1472, words="too big for this host")


def test_refusal_by_a_packet_filter_of_this_host_says_so() -> None:
    found = refusal(1, errno.EPERM, 1.0)
    assert (found.kind, found.sender) == (Kind.REFUSED_HERE, "")
    assert "packet filter of this host" in found.words
    assert refusal(1, errno.EIO, 1.0).words == "EIO"
