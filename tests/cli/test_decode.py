"""cli/decode.py: the command line, what is printed, the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin import daemon, documents
from tests.support.captures import ethernet, pcap, pcapng, tcp, tunnelled, udp, vxlan
from tests.support.packets import ipv4
from udpoverlay.cli.main import udpoverlay

GOOD = tunnelled(ipv4(udp(b"x")))
BAD = tunnelled(ipv4(tcp(value=0x1234), protocol=6))
PLAIN = ipv4(udp(b"x", port=53))


class Decode:
    """Runs the command as a shell would."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capsys = patch, capsys
        self.out = self.err = ""

    def __call__(self, *words: str | Path) -> int:
        self._patch.setattr("sys.argv", ["udpoverlay", "decode", *map(str, words)])
        try:
            code = udpoverlay()
        except SystemExit as ended:
            code = int(ended.code or 0)
        self.out, self.err = self._capsys.readouterr()
        return code

    def objects(self, *words: str | Path) -> list[dict[str, Any]]:
        self(*words, "--json")
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def decode(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Decode:
    return Decode(monkeypatch, capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "t.pcap"
    written.write_bytes(pcap(GOOD, PLAIN, BAD))
    return written


def test_capture_is_shown_by_tunnelled_packet_with_a_summary(decode: Decode, file: Path) -> None:
    assert decode(file) == 3
    lines = decode.out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = " ".join(decode.out.split())
    assert "#1 0.000000 s, 192.0.2.1:8285 > 192.0.2.2:8285 UDP, TTL 64, 57 bytes" in shown
    assert "inner 10.1.0.2:4000 > 10.2.0.2:9 UDP, TTL 64, 29 bytes" in shown
    assert "#2" not in shown
    assert "#3 2.000000 s" in shown
    assert "WRONG inner: TCP checksum 1234" in shown
    assert shown.endswith("3 packets, 2 in a tunnel, 1 with something wrong: inner checksum 1")


def test_nothing_wrong_ends_with_0(decode: Decode, tmp_path: Path) -> None:
    good = tmp_path / "good.pcapng"
    good.write_bytes(pcapng(ethernet(GOOD), link=1, comments=["seen\x1b[31m at udp-in"]))
    assert decode(good) == 0
    assert "1 packet, 1 in a tunnel, nothing is wrong" in decode.out
    assert "at udp-in" in decode.out
    assert "\x1b" not in decode.out


def test_all_and_wrong_choose_what_is_shown(decode: Decode, file: Path) -> None:
    decode(file, "--all")
    assert "#2" in decode.out
    decode(file, "--wrong")
    assert "#1" not in decode.out
    assert "#3" in decode.out


def test_json_is_an_object_for_each_packet(decode: Decode, file: Path) -> None:
    first, second = decode.objects(file)
    assert first["outer"]["source"] == "192.0.2.1"
    assert first["inner"][0]["destination_port"] == 9
    assert first["problems"] == []
    assert second["number"] == 3
    assert second["seconds"] == 1002.25
    [problem] = second["problems"]
    assert (problem["where"], problem["word"]) == ("inner", "checksum")


def test_hex_of_one_packet_is_shown_whatever_it_is(decode: Decode) -> None:
    assert decode(*PLAIN.hex(" ", 2).split()) == 0
    assert "10.1.0.2:4000 > 10.2.0.2:53 UDP" in decode.out


@pytest.mark.parametrize("given", [pcap(GOOD), pcapng(GOOD), GOOD.hex(" ").encode()])
def test_standard_input_is_a_capture_or_hex(given: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "udpoverlay.cli", "decode", "-"],
        input=given,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"1 packet, 1 in a tunnel" in done.stdout


def test_ports_beside_flannels_are_given(decode: Decode, tmp_path: Path) -> None:
    file = tmp_path / "t.pcap"
    file.write_bytes(pcap(tunnelled(ipv4(udp(b"x")), port=9000), vxlan(ethernet(GOOD), port=9001)))
    assert decode.objects(file) == []
    found = decode.objects(file, "--udp-port=9000", "--vxlan-port=9001")
    assert [each["tunnel"] for each in found] == ["udp", "vxlan"]


def test_mtu_is_held_against_outer_packets(decode: Decode, file: Path) -> None:
    decode(file, "--mtu=68")
    assert "outer: 68 bytes" not in decode.out
    long = file.with_name("long.pcap")
    long.write_bytes(pcap(tunnelled(ipv4(udp(bytes(1460))))))
    assert decode(long, "--mtu=1500") == 3
    assert "outer: 1,516 bytes do not pass an MTU of 1,500" in decode.out


def test_leases_of_the_command_line_name_a_foreign_sender(decode: Decode, file: Path) -> None:
    leases = ["--lease=10.1.0.0/24=192.0.2.7", "--lease=10.2.0.0/24=192.0.2.2"]
    assert decode(file, *leases) == 3
    assert "leased by 192.0.2.7; 192.0.2.1 sent it" in " ".join(decode.out.split())


def test_registry_takes_the_daemons_leases(decode: Decode, tmp_path: Path) -> None:
    addresses = ("10.5.73.4", "10.5.72.9")
    inner = ipv4(udp(b"x", addresses=addresses), source=addresses[0], destination=addresses[1])
    file = tmp_path / "t.pcap"
    file.write_bytes(
        pcap(
            tunnelled(inner, source="192.0.2.2", destination="192.0.2.1"),
            tunnelled(inner, source="203.0.113.7", destination="192.0.2.1"),  # proved
            tunnelled(inner, source="203.0.113.9", destination="192.0.2.1"),
        )
    )
    path = tmp_path / "admin.sock"
    with daemon(path, documents()):
        found = decode.objects(file, "--registry", f"--admin-socket={path}")
    words = [[each["word"] for each in packet["problems"]] for packet in found]
    assert words == [[], [], ["foreign_sender"]]


def test_registry_leaves_out_a_lease_that_was_refused(decode: Decode, tmp_path: Path) -> None:
    addresses = ("10.9.0.4", "10.5.72.9")  # 10.0.0.0/8 is refused: too wide
    inner = ipv4(udp(b"x", addresses=addresses), source=addresses[0], destination=addresses[1])
    file = tmp_path / "t.pcap"
    file.write_bytes(pcap(tunnelled(inner, source="192.0.2.9", destination="192.0.2.1")))
    path = tmp_path / "admin.sock"
    with daemon(path, documents()):
        [packet] = decode.objects(file, "--registry", f"--admin-socket={path}")
    assert [each["word"] for each in packet["problems"]] == ["unknown_subnet"]


def test_registry_without_a_daemon_is_an_error(decode: Decode, tmp_path: Path, file: Path) -> None:
    assert decode(file, "--registry", f"--admin-socket={tmp_path / 'none'}") == 1
    assert "start udpoverlayd" in decode.err


def test_damaged_capture_shows_what_came_before_and_ends_with_1(decode: Decode, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    assert decode(file) == 1
    assert "#1" in decode.out
    assert "byte" in decode.err
    assert decode.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such.pcap"], "cannot read 'no-such.pcap': No such file"),
        (["45 0"], "3 hex digits"),
        (["/"], "cannot read '/': Is a directory"),
    ],
)
def test_input_that_cannot_be_read_is_one_line(decode: Decode, words: list[str], said: str) -> None:
    assert decode(*words) == 1
    assert said in decode.err
    assert decode.err.count("\n") == 1


@pytest.mark.parametrize(
    "words", ["--lease=10.1.0.0/24", "--lease=10.1.0.1/24=192.0.2.1", "--mtu=9"]
)
def test_wrong_option_is_named(decode: Decode, words: str) -> None:
    assert decode("45", words) == 2
    assert words.partition("=")[2] in decode.err
