"""decode/hexdump.py: bytes from what other tools print."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.captures import ethernet, pcap, tunnelled, udp
from tests.support.packets import ipv4
from udpoverlay.decode.frame import Link
from udpoverlay.decode.hexdump import frames_of_hex, looks_like_hex
from udpoverlay.errors import OperatorError

PACKET = tunnelled(ipv4(udp(b"abc. 0x|12 34  56")))


@pytest.mark.parametrize(
    "text",
    [
        PACKET.hex(),
        "0x" + PACKET.hex(),
        PACKET.hex(" "),
        PACKET.hex(":"),
        PACKET.hex(" ", 2),
        PACKET.hex("\n", 16),
        "\n".join(f"\t0x{n:04x}:  {PACKET[n : n + 16].hex(' ', -2)}" for n in range(0, 70, 16)),
    ],
)
def test_digits_of_any_grouping_are_bytes(text: str) -> None:
    [frame] = frames_of_hex(text)
    assert (frame.data, frame.length, frame.link) == (PACKET, len(PACKET), Link.RAW)


@pytest.mark.parametrize("tool", [["xxd"], ["hexdump", "-C"]])
def test_dump_of_a_tool_is_bytes(tool: list[str]) -> None:
    if not shutil.which(tool[0]):
        pytest.skip(f"no {tool[0]} on PATH")
    text = subprocess.run(tool, input=PACKET, capture_output=True, check=True).stdout.decode()
    assert [frame.data for frame in frames_of_hex(text)] == [PACKET]


@pytest.mark.parametrize("flag", ["-x", "-X"])
@pytest.mark.skipif(not shutil.which("tcpdump"), reason="no tcpdump on PATH")
def test_dump_of_tcpdump_is_bytes(tmp_path: Path, flag: str) -> None:
    file = tmp_path / "t.pcap"
    file.write_bytes(pcap(PACKET, PACKET))
    done = subprocess.run(
        ["tcpdump", "-nn", flag, "-r", str(file)], capture_output=True, text=True, check=True
    )
    assert [frame.data for frame in frames_of_hex(done.stdout)] == [PACKET, PACKET]


def test_ethernet_frame_is_known_by_its_type() -> None:
    [frame] = frames_of_hex(ethernet(PACKET).hex())
    assert frame.link == Link.ETHERNET


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no hex digit"), ("450", "3 hex digits"), ("45 zz", "'zz' is no hex")],
)
def test_text_that_is_no_packet_is_refused(text: str, words: str) -> None:
    with pytest.raises(OperatorError) as raised:
        list(frames_of_hex(text))
    assert words in str(raised.value)


def test_file_names_do_not_look_like_hex() -> None:
    assert looks_like_hex("4500 00:54")
    assert not looks_like_hex("t.pcap")
