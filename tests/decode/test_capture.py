"""decode/capture.py and pcapng.py: every format that is written today, and files that lie."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.support.captures import block, option, pcap, pcapng, tunnelled, udp
from tests.support.packets import ipv4
from udpoverlay.decode.capture import read_capture
from udpoverlay.decode.frame import Frame
from udpoverlay.errors import OperatorError

PACKETS = [tunnelled(ipv4(udp(bytes([n]) * (30 + n)))) for n in range(3)]


def read(file: bytes) -> list[Frame]:
    return list(read_capture(io.BytesIO(file), "t.pcap"))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_pcap_of_either_order_and_unit_is_read(order: str, nanoseconds: bool) -> None:
    frames = read(pcap(*PACKETS, order=order, nanoseconds=nanoseconds))
    assert [frame.data for frame in frames] == PACKETS
    assert [frame.number for frame in frames] == [1, 2, 3]
    assert [frame.seconds for frame in frames] == [1000.25, 1001.25, 1002.25]
    assert {frame.link for frame in frames} == {101}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("resolution", [6, 9, 3])
def test_pcapng_of_either_order_and_resolution_is_read(order: str, resolution: int) -> None:
    file = pcapng(*PACKETS, order=order, resolution=resolution, comments=["first", "second"])
    frames = read(file)
    assert [frame.data for frame in frames] == PACKETS
    assert [frame.seconds for frame in frames] == [1000.25, 1001.25, 1002.25]
    assert [frame.comment for frame in frames] == ["first", "second", ""]


def test_pcapng_with_a_second_section_of_the_other_order_is_read() -> None:
    assert [f.data for f in read(pcapng(*PACKETS) + pcapng(*PACKETS, order=">"))] == PACKETS * 2


def test_pcapng_simple_packet_has_no_time() -> None:
    head = pcapng()
    body = struct.pack("<I", len(PACKETS[0])) + PACKETS[0]
    [frame] = read(head + block("<", 3, body))
    assert (frame.data, frame.seconds) == (PACKETS[0], None)


def described(options: bytes, snap: int = 0) -> bytes:
    """The begin of a file whose interface has these options."""
    section = block("<", 0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    return section + block("<", 1, struct.pack("<HHI", 101, 0, snap) + options)


def test_pcapng_time_in_powers_of_two_with_an_offset_is_read() -> None:
    head = described(option("<", 9, b"\x84") + option("<", 14, struct.pack("<q", 7)))
    body = struct.pack("<5I", 0, 0, 24, len(PACKETS[0]), len(PACKETS[0])) + PACKETS[0]
    [frame] = read(head + block("<", 6, body))
    assert frame.seconds == 8.5


def test_pcapng_simple_packet_is_cut_where_its_interface_cuts() -> None:
    body = struct.pack("<I", len(PACKETS[0])) + PACKETS[0][:41]
    [frame] = read(described(b"", snap=41) + block("<", 3, body))
    assert (frame.data, frame.length) == (PACKETS[0][:41], len(PACKETS[0]))


def test_pcap_link_is_told_without_its_check_sequence() -> None:
    [frame] = read(pcap(PACKETS[0], link=0x24000065))
    assert frame.link == 101


def test_cut_packet_keeps_its_length_on_the_wire() -> None:
    [frame] = read(pcap(PACKETS[0], snap=40))
    assert (len(frame.data), frame.length) == (40, len(PACKETS[0]))


@pytest.mark.parametrize("file_format", ["pcap", "pcapng"])
@pytest.mark.skipif(not shutil.which("text2pcap"), reason="no text2pcap on PATH")
def test_wiresharks_own_file_is_read(tmp_path: Path, file_format: str) -> None:
    written = tmp_path / "written"
    lines = "".join(f"000000 {packet.hex(' ')}\n" for packet in PACKETS)
    subprocess.run(
        ["text2pcap", "-q", "-l", "101", "-F", file_format, "-", str(written)],
        input=lines.encode(),
        check=True,
        capture_output=True,
    )
    assert [frame.data for frame in read(written.read_bytes())] == PACKETS


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (b"", "byte 0: the file is empty"),
        (b"GIF89a", "byte 0: the file begins with 47 49 46 38: neither pcap nor pcapng"),
        (pcap()[:10], "byte 4: the header needs 20 bytes, the file has 6 more"),
        (pcap(*PACKETS)[:-1], "byte 245: packet 3 needs 88 bytes, the file has 87 more"),
        (pcap() + struct.pack("<4I", 0, 0, 1 << 31, 9), "byte 40: packet 1 would have"),
        (pcapng()[:8] + bytes(4), "byte 8: 00 00 00 00 is no byte order"),
        (block("<", 0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
         + struct.pack("<II", 6, 13), "byte 32: a block cannot have 13 bytes"),
        (pcapng()[:28] + block("<", 6, bytes(20)), "its interface 0"),
    ],
)  # fmt: skip
def test_file_that_cannot_be_read_is_named_with_the_offset(file: bytes, words: str) -> None:
    with pytest.raises(OperatorError) as raised:
        read(file)
    assert "t.pcap, byte" in str(raised.value)
    assert words in str(raised.value)


def test_frames_in_front_of_the_damage_come_first() -> None:
    frames = read_capture(io.BytesIO(pcap(*PACKETS)[:-1]), "t.pcap")
    assert next(frames).data == PACKETS[0]
    assert next(frames).data == PACKETS[1]
    with pytest.raises(OperatorError):
        next(frames)


@pytest.mark.parametrize("file", [pcap(*PACKETS), pcapng(*PACKETS, comments=["x"])])
def test_file_cut_or_changed_anywhere_is_read_or_refused(file: bytes) -> None:
    def survives(changed: bytes) -> None:
        with contextlib.suppress(OperatorError):
            read(changed)

    for size in range(len(file)):
        survives(file[:size])
    chance = random.Random(7)
    for _ in range(3000):
        changed = bytearray(file)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(file))] = chance.choice((0, 1, 255, chance.randrange(256)))
        survives(bytes(changed))
