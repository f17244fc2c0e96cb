"""doctor/facts/shapes.py: questions and answers, beside the probe that the C code builds."""

from __future__ import annotations

import struct

import pytest
from netaddr import IPAddress

from udpoverlay import _fastpath as fp
from udpoverlay.doctor.facts import shapes
from udpoverlay.doctor.facts.shapes import PROBE_BYTES, VXLAN_BYTES, answer, question, read, wrapped

A, B = IPAddress("10.5.1.0"), IPAddress("10.5.2.0")
NONCE = 0x0123456789ABCDEF
FACTS = {"ports": [8285, 8472], "bad_checksums": 3}


def sums_up(data: bytes) -> bool:
    """Whether an Internet checksum inside holds (RFC 1071)."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    return total % 0xFFFF == 0


def test_short_question_is_the_probe_of_the_data_path() -> None:
    """The nonce is in the machine's order there and in the network's here: it means nothing."""
    swapped = int.from_bytes(NONCE.to_bytes(8, "big"), "little")
    built = fp.build_probe(A.packed, B.packed, swapped)
    assert question(A, B, NONCE) == built


@pytest.mark.parametrize("length", [0, PROBE_BYTES, 60, 1472])
@pytest.mark.parametrize("vxlan", [False, True])
def test_question_and_answer_are_read_again(length: int, vxlan: bool) -> None:
    packet = question(A, B, NONCE, length)
    assert len(packet) == max(length, PROBE_BYTES)
    assert sums_up(packet[:20])
    assert sums_up(packet[20:])
    sent = wrapped(packet) if vxlan else packet
    asked = read(sent)
    assert asked is not None
    assert (asked.nonce, asked.is_answer, asked.in_vxlan) == (NONCE, False, vxlan)
    assert asked.facts == {}

    back = answer(sent, FACTS)
    assert len(back) == len(sent)
    inner = back[VXLAN_BYTES:] if vxlan else back
    assert sums_up(inner[:20])
    assert sums_up(inner[20:])
    assert (inner[12:16], inner[16:20]) == (B.packed, A.packed)
    told = read(back)
    assert told is not None
    assert (told.nonce, told.is_answer, told.in_vxlan) == (NONCE, True, vxlan)
    assert told.facts == (FACTS if length > 60 else {})


def test_vxlan_header_is_rfc_7348s() -> None:
    datagram = wrapped(question(A, B, NONCE))
    assert datagram[0] == 0x08
    assert int.from_bytes(datagram[4:7], "big") == 1
    assert datagram[8 + 12 : 8 + 14] == b"\x08\x00"
    assert datagram[8] & 3 == datagram[8 + 6] & 3 == 2  # of one host, administered locally


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x45" * 20,
        bytes(PROBE_BYTES),
        question(A, B, NONCE)[:-1],
        question(A, B, NONCE).replace(b"udpovrly", b"anything"),
        b"\x46" + question(A, B, NONCE)[1:],
        wrapped(b""),
        wrapped(question(A, B, NONCE))[:-1],
    ],
)
def test_anything_else_is_not_read(datagram: bytes) -> None:
    assert read(datagram) is None


@pytest.mark.parametrize("filling", [b"{", b"[1]", b"\xff\xfe", b"7"])
def test_filling_that_is_no_facts_is_none(filling: bytes) -> None:
    packet = question(A, B, NONCE, 100)
    packet = packet[: shapes.PROBE_BYTES] + filling.ljust(100 - PROBE_BYTES, b"\0")
    probe = read(packet)
    assert probe is not None
    assert probe.facts == {}
