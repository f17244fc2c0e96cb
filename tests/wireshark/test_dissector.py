"""udpoverlay/wireshark/udpoverlay.lua in a real tshark, over captures of our making."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.captures import ethernet, pcap, tcp, tunnelled, udp
from tests.support.packets import icmp, ipv4, ipv6

SCRIPT = Path(__file__).parents[2] / "udpoverlay" / "wireshark" / "udpoverlay.lua"
ECHO = ipv4(icmp(8, rest=bytes(8)), protocol=1)
SEGMENT = ipv4(tcp(b"hello"), protocol=6)
FIELDS = ("ip.src", "ipv6.src", "udpoverlay.packets", "_ws.expert.message")

pytestmark = pytest.mark.skipif(not shutil.which("tshark"), reason="no tshark on PATH")


def shown(
    tmp_path: Path,
    *packets: bytes,
    link: int = 101,
    snap: int = 65535,
    options: tuple[str, ...] = (),
) -> list[list[str]]:
    """What tshark says of each packet, by FIELDS."""
    file = tmp_path / "t.pcap"
    file.write_bytes(pcap(*packets, link=link, snap=snap))
    fields = [word for name in FIELDS for word in ("-e", name)]
    done = subprocess.run(
        [
            "tshark",
            "-X",
            f"lua_script:{SCRIPT}",
            "-r",
            str(file),
            "-T",
            "fields",
            *fields,
            *options,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "Lua" not in done.stderr  # an error in the script
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_inner_packet_is_shown_behind_the_outer_one(tmp_path: Path) -> None:
    [found] = shown(tmp_path, ethernet(tunnelled(ipv4(protocol=253))), link=1)
    assert found[0] == "192.0.2.1,10.1.0.2"
    assert found[2:] == ["1", ""]


def test_malformed_inner_packet_is_still_told_as_one(tmp_path: Path) -> None:
    [found] = shown(tmp_path, tunnelled(ipv4(udp(b"x", port=53)), ECHO))
    assert found[0] == "192.0.2.1,10.1.0.2,10.1.0.2"
    assert found[2] == "2"
    assert "Malformed" in found[3]


def test_every_packet_of_a_datagram_is_shown(tmp_path: Path) -> None:
    six = ipv6(bytes(8), next_header=253)
    for packets in ((SEGMENT, ECHO), (ECHO, SEGMENT, ECHO), (six, six, SEGMENT)):
        [found] = shown(tmp_path, tunnelled(*packets))
        assert found[0].count("10.1.0.2") == sum(packet[0] == 0x45 for packet in packets)
        assert found[1].count("2001:db8::1") == packets.count(six)
        assert found[2] == str(len(packets))
        assert "Several inner packets" in found[3]


@pytest.mark.parametrize("size", [20, 30, 44])
def test_packet_that_the_capture_cut_is_shown_as_far_as_it_goes(tmp_path: Path, size: int) -> None:
    [found] = shown(tmp_path, tunnelled(SEGMENT[:size]))
    assert found[0] == "192.0.2.1,10.1.0.2"
    assert found[2] == "1"


def test_packet_that_was_longer_than_the_capture_keeps_is_not_called_malformed(
    tmp_path: Path,
) -> None:
    [found] = shown(tmp_path, tunnelled(ipv4(udp(bytes(900), 9))), snap=100)
    assert found == ["192.0.2.1,10.1.0.2", "", "1", ""]


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"\x01" + SEGMENT, "no IP packet"),
        (SEGMENT[:12], "no IP packet"),
        (SEGMENT + b"tail", "Bytes behind the end"),
    ],
)
def test_what_is_wrong_is_an_expert_message(tmp_path: Path, payload: bytes, words: str) -> None:
    [found] = shown(tmp_path, tunnelled(payload))
    assert words in found[3]


def test_other_port_is_a_preference(tmp_path: Path) -> None:
    packet = tunnelled(SEGMENT, port=9000)
    assert shown(tmp_path, packet)[0][2] == ""
    options = ("-o", "udpoverlay.ports:9000")
    found = shown(tmp_path, packet, tunnelled(SEGMENT), options=options)
    assert [each[2] for each in found] == ["1", ""]


def test_any_bytes_are_no_error_of_the_script(tmp_path: Path) -> None:
    payloads = [bytes([first]) * size for first in (0x45, 0x60, 0xFF) for size in range(45)]
    payloads += [SEGMENT[:size] for size in range(len(SEGMENT))]
    found = shown(tmp_path, *map(tunnelled, payloads))
    assert len(found) == len(payloads)
    assert [each for each in found if "Lua" in each[3]] == []
