"""Our verdict on checksums beside Wireshark's, over the same file."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.captures import pcap, tcp, tunnelled, udp
from tests.support.packets import icmp, ipv4
from udpoverlay.decode.frame import Frame
from udpoverlay.decode.problem import Word
from udpoverlay.decode.tunnel import dissect

pytestmark = pytest.mark.skipif(not shutil.which("tshark"), reason="no tshark on PATH")

_STATUS = ("ip.checksum.status", "udp.checksum.status", "tcp.checksum.status")
_ICMP = "icmp.checksum.status"
_OURS = {Word.HEADER_CHECKSUM, Word.CHECKSUM, Word.OFFLOAD_CHECKSUM}


def packets() -> list[bytes]:
    """Half of them with a byte changed behind the addresses of the inner packet."""
    chance = random.Random(3)
    made = []
    for number in range(300):
        payload = chance.randbytes(chance.randint(0, 60))
        inner = chance.choice(
            (
                ipv4(tcp(payload), protocol=6),
                ipv4(udp(payload, port=40000)),
                ipv4(udp(payload, port=40000, value=0)),
                ipv4(icmp(8, rest=bytes(4) + payload), protocol=1),
            )
        )
        if number % 2:
            at = chance.choice((8, *range(24, len(inner))))  # TTL; not the lengths and addresses
            inner = inner[:at] + bytes([inner[at] ^ 0x41]) + inner[at + 1 :]
        made.append(tunnelled(inner))
    return made


def test_wrong_checksums_are_those_that_wireshark_finds(tmp_path: Path) -> None:
    made = packets()
    file = tmp_path / "t.pcap"
    file.write_bytes(pcap(*made))
    checks = [f"{protocol}.check_checksum:TRUE" for protocol in ("ip", "udp", "tcp")]
    fields = [word for name in (*_STATUS, _ICMP) for word in ("-e", name)]
    done = subprocess.run(
        ["tshark", "-r", str(file), "-d", "udp.port==8285,ip", "-T", "fields", *fields]
        + [word for check in checks for word in ("-o", check)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    theirs = ["0" in line.replace("\t", ",").split(",") for line in done.stdout.splitlines()]
    found = [dissect(Frame(1, packet, len(packet))) for packet in made]
    ours = [any(each.word in _OURS for each in one.problems) for one in found]
    unreadable = [any(each.word is Word.BAD_HEADER for each in one.problems) for one in found]
    compared = [n for n in range(len(made)) if not unreadable[n]]
    assert [n for n in compared if ours[n] != theirs[n]] == []
    assert sum(ours) > 80
    assert len(compared) > 280
