"""`udpoverlay trace` and `udpoverlay record dump`: what they print, write and refuse."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.admin import Command, daemon
from tests.support.captures import tcp
from tests.support.packets import ipv4
from tests.support.records import NO_ROUTE, ORIGIN, SENT, record
from udpoverlay.cli.admin.packets import Table, line
from udpoverlay.cli.main import udpoverlay
from udpoverlay.dataplane.recorder import Recorder
from udpoverlay.decode.capture import read_capture
from udpoverlay.model.packet_record import PacketRecord
from udpoverlay.observe.trace import Traces
from udpoverlay.trace.pcapng import capture

RECORDS = [SENT, NO_ROUTE, record(ipv4(tcp(), protocol=6), packets=45)]


class Rings(Recorder):
    """A recorder that holds `RECORDS`, and then has each of them again whenever it is read."""

    def __init__(self) -> None:
        super().__init__(1, 64)
        self.next = 0

    def read(self, position=None, *, most=4096, drops_only=False):  # type: ignore[no-untyped-def]
        found: list[PacketRecord] = [
            each for each in reversed(RECORDS) if each.dropped or not drops_only
        ]
        self.next += 1
        return Found(found, (self.next, self.next), 7 if position is not None else 0)


class Found:
    """A reading."""

    def __init__(self, records: list[PacketRecord], position: tuple[int, ...], lost: int) -> None:
        self.records, self.position, self.lost = records, position, lost


@pytest.fixture
def running(path: Path) -> Iterator[None]:
    with daemon(path, {}, streams=Traces(Rings(), lambda: ORIGIN).by_path()):
        yield


def test_dump_prints_a_line_for_each_packet_and_the_counts(running: None, command: Command) -> None:
    assert command("record", "dump") == 0
    *lines, counts = command.out.splitlines()
    sent = next(each for each in lines if each.endswith(" sent") and "UDP" in each)
    assert sent[12:] == " out udp-out 10.1.0.2:4000 > 10.2.0.2:53 UDP 33 192.0.2.2 sent"
    assert len(sent) <= 80
    assert any(
        each.endswith("dropped, no route: no peer has a subnet with the destination")
        for each in lines
    )
    assert any("TCP SYN ACK 40 (first of 45)" in each for each in lines)
    assert counts == "3 records seen, 3 shown, 0 lost"


def test_dump_takes_a_filter_with_options_between_its_words(
    running: None, command: Command
) -> None:
    assert command("record", "dump", "drops", "and", "--json", "udp") == 0
    assert [json.loads(each).get("verdict") for each in command.out.splitlines()] == [
        "outbound_no_route",
        None,
    ]
    assert command("record", "dump", "drops") == 0
    assert command.out.splitlines()[-1] == "1 record seen, 1 shown, 0 lost"


def test_json_has_an_object_for_each_packet(running: None, command: Command) -> None:
    assert command("trace", "drops", "-c", "2", "--json") == 0
    first, second, counts = map(json.loads, command.out.splitlines())
    assert first == second
    assert first["verdict"] == "outbound_no_route"
    assert first["meaning"] == "no peer has a subnet with the destination"
    assert (first["direction"], first["point"], first["dropped"]) == ("outbound", "tun-in", True)
    assert (first["source"], first["source_port"]) == ("10.1.0.2", 4000)
    assert len(first["id"]) == 16
    assert (counts["shown"], counts["schema"]) == (2, 1)
    assert counts["seen"] >= 2


def test_trace_ends_after_its_time_and_tells_what_was_lost(running: None, command: Command) -> None:
    assert command("trace", "not", "out", "--for", "200ms") == 0
    counts = command.out.splitlines()[-1]
    assert "0 shown" in counts
    assert "records lost here" in command.out
    assert counts.endswith("lost (they came faster than they were read)")


def test_files_are_captures_of_the_same_packets(
    running: None, command: Command, tmp_path: Path
) -> None:
    dump, live = tmp_path / "dump.pcapng", tmp_path / "live.pcapng"
    assert command("record", "dump", "-w", str(dump)) == 0
    assert (command.out, command.err) == ("", "3 records seen, 3 shown, 0 lost\n")
    assert dump.read_bytes() == capture(ORIGIN, list(reversed(RECORDS)))
    assert command("trace", "-c", "3", "-w", str(live)) == 0
    frames = list(read_capture(io.BytesIO(live.read_bytes()), "live"))
    assert len(frames) == 5


@pytest.mark.parametrize("words", [("trace", "-c1"), ("record", "dump")])
def test_file_that_is_no_regular_one_is_refused(
    running: None, command: Command, tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert command(*words, "-w", str(tmp_path)) == 1
    assert f"{str(tmp_path)!r} is a directory, which is not written over" in command.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("trace", "prot", "tcp"), 1, "column 1: unknown word 'prot': did you mean proto?"),
        (("record", "dump", "peer"), 1, "column 5: it ends too early"),
        (("trace", "--for", "soon"), 2, "'soon' is no time: write for example 30s, 5m or 1h"),
        (("trace", "--for", "0"), 2, "is no time"),
        (("trace", "-c", "0"), 2, "is not from 1"),
        (("record", "drop"), 2, "invalid choice"),
    ],
)
def test_wrong_word_is_refused_before_the_daemon_is_asked(
    command: Command,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    try:
        found = command(*words)
    except SystemExit as end:  # argparse
        found = int(end.code or 0)
        command.err = capsys.readouterr().err
    assert found == code
    assert said in command.err


def test_daemon_that_is_gone_is_named(command: Command) -> None:
    assert command("trace") == 1
    assert "no daemon on this host has the admin socket" in command.err


def test_daemon_without_a_recorder_names_the_flag(path: Path, command: Command) -> None:
    with daemon(path, {}, streams=Traces(None, lambda: ORIGIN).by_path()):
        assert command("trace") == 1
    assert "start the daemon without --flight-recorder=0" in command.err
    assert command.out == ""


def test_older_daemon_is_named(path: Path, command: Command) -> None:
    with daemon(path, {}):
        assert command("record", "dump") == 1
    assert "the daemon is older than this command" in command.err


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": b""}, "its bytes were gone"),
        ({"data": b"\0" * 40}, "no IP packet"),
        ({"verdict": "inbound_new", "dropped": True}, "dropped, new: a reason of another version"),
    ],
)
def test_line_of_an_odd_packet_says_what_is_known(changed: dict[str, object], words: str) -> None:
    assert words in line(SENT._replace(**changed))  # type: ignore[arg-type]


def test_line_that_is_too_long_for_a_terminal_goes_on_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, color_system=None, width=80)
    monkeypatch.setattr("udpoverlay.cli.admin.ask.console", lambda: terminal)
    Table().packet(NO_ROUTE)
    Table().packet(SENT)
    first, more, sent = screen.getvalue().splitlines()
    assert max(len(first), len(more)) <= 80
    assert f"{first} {more.strip()}" == line(NO_ROUTE)
    assert more.startswith(" " * 13)
    assert sent == line(SENT)


@pytest.mark.parametrize("name", ["trace", "record"])
def test_help_has_examples_within_80_columns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", ["udpoverlay", name, "-h"])
    with pytest.raises(SystemExit):
        udpoverlay()
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert max(map(len, shown.splitlines())) <= 80
