"""cli/admin/where.py and ends.py: who is asked, how, and what of an answer is believed."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from tests.support.admin import Documents
from udpoverlay.cli.admin import ends
from udpoverlay.cli.admin.ends import via
from udpoverlay.cli.main import udpoverlay
from udpoverlay.errors import OperatorError

RECORD = (
    '{"id": "1", "direction": "outbound", "point": "udp-out", "verdict": "outbound_sent",'
    ' "meaning": "", "peer": "", "packets": 1, "length": 20, "time_ns": 1, "dropped": false,'
    ' "source": null, "destination": null, "protocol": null, "source_port": null,'
    ' "destination_port": null, "data": ""}'
)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `udpoverlay` on PATH: prints the file `says`, keeps its words."""
    program = tmp_path / "udpoverlay"
    program.write_text(
        f'#!/bin/sh\nfor each in "$@"; do echo "$each"; done > {tmp_path}/words\n'
        f"cat {tmp_path}/says\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_filter_reaches_the_other_host_word_by_word(remote: Path) -> None:
    (remote / "says").write_text(RECORD + '\n{"seen": 1, "shown": 1, "lost": 2}\n')
    packets, lost = via("env -u NOTHING").packets("( port 80 or icmp )", 1.5)
    assert (len(packets), lost) == (1, 2)
    words = (remote / "words").read_text().splitlines()
    assert words == [
        *["record", "dump", "--since=1.500s", "(", "port", "80", "or", "icmp", ")", "--json"]
    ]


def test_words_behind_ssh_survive_the_shell_that_reads_them_again(remote: Path) -> None:
    ssh = remote / "ssh"
    ssh.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    ssh.chmod(0o755)
    (remote / "says").write_text('{"seen": 0, "shown": 0, "lost": 0}\n')
    assert via("ssh root@n2").packets("( port 80 )", 1.0) == ([], 0)
    assert "(" in (remote / "words").read_text().splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "no JSON\n",
        "[" * 100_000,
        '{"id": 1}\n{"lost": 0}',
        RECORD.replace('"packets": 1', '"packets": "1"') + '\n{"lost": 0}',
        RECORD.replace('"packets": 1', '"packets": -1') + '\n{"lost": 0}',
        RECORD.replace('"data": ""', '"data": "0"') + '\n{"lost": 0}',
        RECORD.replace('"source": null', '"source": []') + '\n{"lost": 0}',
    ],
)
def test_answer_that_is_no_dump_is_an_error_with_the_command_to_try(
    remote: Path, text: str
) -> None:
    (remote / "says").write_text(text)
    with pytest.raises(OperatorError, match="does this work: env udpoverlay status"):
        via("env").packets("icmp", 1.0)


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("", "is empty"),
        ("ssh 'n2", "is no command"),
        ("/nosuch/ssh n2", "cannot run '/nosuch/ssh'"),
    ],
)
def test_command_that_cannot_be_run_is_named(command: str, what: str) -> None:
    with pytest.raises(OperatorError, match=what):
        via(command).document("status")


def test_control_characters_of_the_other_host_do_not_reach_the_terminal(remote: Path) -> None:
    (remote / "udpoverlay").write_text("#!/bin/sh\nprintf 'no \\033[2J way\\n' >&2; exit 1\n")
    with pytest.raises(OperatorError) as caught:
        via("env").document("status")
    assert "\033" not in str(caught.value)


def test_filter_that_is_none_is_refused_before_anyone_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["udpoverlay", "where", "10.5.1.0", "10.5.2.0", "prot", "tcp"])
    assert udpoverlay() == 1
    assert "unknown word 'prot': did you mean proto?" in capsys.readouterr().err


def test_lab_and_a_command_for_an_end_exclude_each_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["udpoverlay", "where", "n1", "n2", "--lab", "--src-via", "ssh n1"]
    monkeypatch.setattr(sys, "argv", argv)
    assert udpoverlay() == 1
    assert "--lab finds both ends" in capsys.readouterr().err


@pytest.mark.parametrize("says", ["{}", '{"node": 1}', '{"node": {}, "lease": {}}'])
def test_document_of_another_version_is_an_error_and_no_traceback(
    remote: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    (remote / "says").write_text(says)
    ends = ["--src-via=env", "--dst-via=env"]
    monkeypatch.setattr(sys, "argv", ["udpoverlay", "where", "10.5.1.0", "10.5.2.0", *ends])
    assert udpoverlay() == 1
    assert "has not what it should" in capsys.readouterr().err


def test_command_that_leads_to_another_host_is_named_with_the_right_one(
    remote: Path,
    found: Documents,
    path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DST is a subnet of 192.0.2.2, and what --dst-via asks is 203.0.113.50."""
    there = json.loads(json.dumps(found["/v1/status"]))
    there["node"]["public_ip"] = "203.0.113.50"
    (remote / "says").write_text(json.dumps({**there, "peers": []}))
    argv = ["udpoverlay", "where", "10.5.72.0", "10.5.73.0", "--dst-via", "env"]
    monkeypatch.setattr(sys, "argv", [*argv, "--admin-socket", str(path)])
    assert udpoverlay() == 1
    said = capsys.readouterr().err
    assert "behind 'env' is 203.0.113.50, and DST belongs to 192.0.2.2" in said
    assert "let --dst-via lead to 192.0.2.2" in said


def test_answer_without_an_end_is_refused_and_its_program_ended(
    remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "_MOST_BYTES", 1 << 20)
    (remote / "udpoverlay").write_text("#!/bin/sh\nexec cat /dev/zero\n")
    with pytest.raises(OperatorError, match="more than 1 MiB"):
        via("env").document("status")


def test_errors_without_an_end_do_not_stop_the_answer(remote: Path) -> None:
    (remote / "udpoverlay").write_text(
        "#!/bin/sh\nhead -c 3000000 /dev/zero >&2\necho '{\"schema\": 1}'\n"
    )
    assert via("env").document("status") == {"schema": 1}


def test_host_that_does_not_answer_is_given_up(
    remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "_SECONDS", 0.3)
    (remote / "udpoverlay").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(OperatorError, match="no answer within"):
        via("env").document("status")
