"""wireshark/extcap.py: as Wireshark runs it, with a program in the place of `udpoverlay`."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.patience import DEADLINE
from tests.support.records import NO_ROUTE, ORIGIN, SENT
from udpoverlay import _fastpath as fp
from udpoverlay.decode.capture import read_capture
from udpoverlay.trace.filter import parse_filter
from udpoverlay.trace.pcapng import capture
from udpoverlay.wireshark import extcap

PROGRAM = Path(extcap.__file__)
RECORDS = [SENT, NO_ROUTE, SENT]

FAKE = """\
#!{python}
import pathlib, signal, sys, time
here = pathlib.Path({folder!r})
with (here / "asked").open("a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
if "wrong" in sys.argv[-1]:
    sys.exit("udpoverlay trace: column 1: unknown word 'wrong'")
sys.stdout.buffer.write((here / "records.pcapng").read_bytes())
sys.stdout.buffer.flush()
if (here / "stay").exists():
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a `udpoverlay` of ours first on PATH, that shows RECORDS and notes what it is asked."""
    program = tmp_path / "udpoverlay"
    program.write_text(FAKE.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    (tmp_path / "records.pcapng").write_bytes(capture(ORIGIN, RECORDS))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


def captured(folder: Path, interface: str, *words: str) -> tuple[int, bytes, str]:
    """(exit status, what came through the fifo, standard error)."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()))
    reader.start()
    done = run("--capture", "--extcap-interface", interface, "--fifo", str(fifo), *words)
    reader.join(DEADLINE)
    return done.returncode, found[0], done.stderr


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines()


def test_interfaces_and_toolbar_are_listed_as_wireshark_reads_them() -> None:
    done = run("--extcap-interfaces", "--extcap-version=4.0")
    assert done.returncode == 0
    assert re.findall(r"^interface \{value=([^}]*)\}", done.stdout, re.M) == [
        "udpoverlay",
        "udpoverlay-tun-in",
        "udpoverlay-udp-out",
        "udpoverlay-udp-in",
        "udpoverlay-tun-out",
        "udpoverlay-drops",
    ]
    assert all(line.count("{") == line.count("}") for line in done.stdout.splitlines())


def test_reasons_of_the_toolbar_are_those_of_the_daemon() -> None:
    drops = {name.partition("_")[2] for name, _, kind, _ in fp.VERDICTS if kind == "drop"}
    assert sorted(extcap.REASONS) == sorted(drops)
    for reason in extcap.REASONS:
        parse_filter(extcap.filter_of("peer 192.0.2.2 or tcp", "udpoverlay-drops", reason))


@pytest.mark.parametrize("interface", extcap.INTERFACES)
def test_every_interface_has_a_link_type_and_settings(interface: str) -> None:
    assert run("--extcap-interface", interface, "--extcap-dlts").stdout.startswith(
        "dlt {number=101}"
    )
    config = run("--extcap-interface", interface, "--extcap-config").stdout
    assert "{call=--filter}" in config
    assert "{call=--ssh}" in config


@pytest.mark.parametrize(
    ("interface", "packets"),
    [
        ("udpoverlay", 5),
        ("udpoverlay-tun-in", 3),
        ("udpoverlay-udp-out", 2),
        ("udpoverlay-udp-in", 0),
        ("udpoverlay-drops", 5),  # what the daemon sends is what was asked for
    ],
)
def test_only_packets_of_the_point_come_through(folder: Path, interface: str, packets: int) -> None:
    status, data, said = captured(folder, interface)
    assert (status, said) == (0, "")
    assert len(list(read_capture(io.BytesIO(data), "fifo"))) == packets
    expected = "trace -w -" + (" -- drops" if interface.endswith("drops") else "")
    assert asked(folder) == [expected]


def test_settings_become_words_of_the_command(folder: Path) -> None:
    captured(folder, "udpoverlay-drops", "--filter=port 80 or icmp", "--each", "--node=n1")
    assert asked(folder) == ["trace -w - --each --node n1 -- (port 80 or icmp) and drops"]


def test_other_host_is_asked_by_ssh_with_one_quoted_line(folder: Path) -> None:
    ssh = folder / "ssh"
    shutil.copy(folder / "udpoverlay", ssh)
    captured(folder, "udpoverlay", "--ssh=root@n2.example", "--filter=port 80; reboot")
    [line] = asked(folder)
    assert line.startswith("-o BatchMode=yes -- root@n2.example ")
    remote = line.partition("root@n2.example ")[2]
    assert shlex.split(remote) == ["udpoverlay", "trace", "-w", "-", "--", "(port 80; reboot)"]


def test_command_in_front_takes_the_place_of_ssh(folder: Path) -> None:
    captured(folder, "udpoverlay", f"--via=env -u HOME {folder}/udpoverlay exec --")
    assert asked(folder) == ["exec -- udpoverlay trace -w -"]


@pytest.mark.parametrize("host", ["-oProxyCommand=reboot", "a b", "n2;reboot", "$(reboot)"])
def test_host_that_is_none_is_refused(host: str) -> None:
    args = extcap._parser().parse_args([f"--ssh={host}"])
    with pytest.raises(ValueError, match="is no"):
        extcap.command(args, "")


def test_what_the_command_says_is_what_wireshark_shows(folder: Path) -> None:
    status, data, said = captured(folder, "udpoverlay", "--filter=wrong")
    assert (status, data) == (1, b"")
    assert said == "udpoverlay trace: column 1: unknown word 'wrong'\n"


def test_program_that_is_not_there_is_named(folder: Path) -> None:
    status, _, said = captured(folder, "udpoverlay", "--program=no-such-program")
    assert (status, said) == (1, "cannot run 'no-such-program': No such file or directory\n")


def control(number: int, what: int, text: str) -> bytes:
    data = bytes((number, what)) + text.encode()
    return b"T" + len(data).to_bytes(3, "big") + data


def test_filter_of_the_toolbar_goes_on_in_the_same_capture(folder: Path) -> None:
    (folder / "stay").touch()
    fifo, to, from_ = folder / "fifo", folder / "to", folder / "from"
    for each in (fifo, to, from_):
        os.mkfifo(each)
    words = ["--capture", "--extcap-interface=udpoverlay", f"--fifo={fifo}"]
    words += [f"--extcap-control-in={to}", f"--extcap-control-out={from_}"]
    child = subprocess.Popen([sys.executable, str(PROGRAM), *words], stderr=subprocess.PIPE)
    try:
        with open(fifo, "rb", buffering=0) as packets, open(to, "wb", buffering=0) as toolbar:
            once = capture(ORIGIN, RECORDS)
            assert exactly(packets, len(once)) == once
            (folder / "stay").unlink()
            toolbar.write(control(0, 1, "port 80") + control(1, 1, "no_route"))
            rest = packets.read()
        assert child.wait(DEADLINE) == 0
    finally:
        child.kill()
        child.wait()
        assert child.stderr is not None
        child.stderr.close()
    kinds = [struct.unpack("<I", block[:4])[0] for block in extcap.blocks(io.BytesIO(once + rest))]
    assert kinds.count(0x0A0D0D0A) == 1  # one section: Wireshark keeps its interfaces
    assert kinds.count(6) >= 10
    assert asked(folder)[-1] == "trace -w - -- (port 80) and reason no_route"


def exactly(stream: io.RawIOBase, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.read(size - len(data))
        assert more
        data += more
    return data


@pytest.mark.parametrize("data", [b"", b"T", b"X\0\0\2\0\1", b"T\0\0\1\0\1", b"T\0\0\x09\0\1ab"])
def test_damaged_control_message_ends_the_toolbar_alone(data: bytes) -> None:
    assert all(value == "ab" for _, _, value in extcap.messages(io.BytesIO(data)))


@pytest.mark.parametrize("size", [0, 8, 13, 1 << 30])
def test_damaged_block_is_the_end(size: int) -> None:
    assert list(extcap.blocks(io.BytesIO(struct.pack("<II", 6, size) + bytes(100)))) == []


@pytest.mark.skipif(not shutil.which("tshark"), reason="no tshark on PATH")
def test_real_tshark_captures_through_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    install = [sys.executable, "-m", "udpoverlay.cli", "wireshark", "install"]
    subprocess.run(install, check=True, capture_output=True, timeout=DEADLINE)
    listed = subprocess.run(
        ["tshark", "-D"], capture_output=True, text=True, check=True, timeout=DEADLINE
    )
    assert "udpoverlay-drops" in listed.stdout
    shown = subprocess.run(
        [
            "tshark",
            "-i",
            "udpoverlay-tun-in",
            "-a",
            "packets:3",
            "-T",
            "fields",
            "-e",
            "frame.number",
            "-e",
            "frame.comment",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    lines = shown.stdout.splitlines()
    assert len(lines) == 3, shown.stderr
    assert "no peer has a subnet" in lines[1]
