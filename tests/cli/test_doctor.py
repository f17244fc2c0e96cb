"""cli/doctor.py: the command line, what is printed, the exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from udpoverlay.cli import main
from udpoverlay.cli.doctor import OWN_FLAGS
from udpoverlay.cli.findings import lines
from udpoverlay.doctor import checks
from udpoverlay.doctor.base import Check, Finding, failure, good, warning
from udpoverlay.doctor.patient import Patient

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/doctor.md"
SECRET = "http://root:hunter2@192.0.2.1:2379"


def check(name: str, *findings: Finding) -> Check:
    async def run(_patient: Patient) -> Sequence[Finding]:
        return findings

    return Check(name, f"title of {name}", run)


FINE = check("fine", good("all is well"))
SO_SO = check("so-so", warning("it is slow", "buy a faster one"))
BAD = check("bad", failure("it is broken", "repair it"))
LEAKY = check("leaky", failure(f"{SECRET} \x1b[31mdoes not answer", f"look at {SECRET}"))


@pytest.fixture(autouse=True)
def _checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "ALL", (FINE, SO_SO, BAD, LEAKY))


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["udpoverlay", "doctor", *words])
    return main.udpoverlay()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ((), 1),
        (("--only", "fine"), 0),
        (("--only=fine,so-so",), 0),
        (("--only", "so-so", "--only", "bad"), 1),
        (("--only=fine", "--etcd-endpoints=http://192.0.2.1:2379", "--iface=eth1"), 0),
        (("--only=fine", "--peer=192.0.2.1", "-peer", "10.5.2.0"), 0),
        (("--list",), 0),
        (("-h",), 0),
        (("--only", "fien"), 2),
        (("--peer", "node2"), 2),
        (("--iface",), 2),
        (("--no-such-flag",), 2),
        (("fine",), 2),
        (("--subnet-lease-renew-margin=5000",), 2),
        (("--listen-seconds=0",), 2),
        (("--listen-seconds=x",), 2),
    ],
)
def test_exit_status(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], status: int) -> None:
    assert run(monkeypatch, *words) == status


def test_findings_are_printed_with_their_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--only=fine,so-so,bad")
    assert capsys.readouterr().out == (
        "ok       fine          all is well\n"
        "warning  so-so         it is slow\n"
        "         fix: buy a faster one\n"
        "failure  bad           it is broken\n"
        "         fix: repair it\n"
        "ok: 1, skipped: 0, warning: 1, failure: 1\n"
    )


def test_json_holds_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--only=so-so,bad", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["worst"] == "failure"
    so_so, bad = document["checks"]
    assert (so_so["name"], so_so["title"]) == ("so-so", "title of so-so")
    assert so_so["seconds"] >= 0
    assert bad["findings"] == [{"level": "failure", "fact": "it is broken", "fix": "repair it"}]


@pytest.mark.parametrize("words", [("--only=leaky",), ("--only=leaky", "--json")])
def test_no_secret_and_no_control_character_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    run(monkeypatch, *words)
    out = capsys.readouterr().out
    assert "192.0.2.1" in out
    assert "hunter2" not in out
    assert "\x1b" not in out


def test_misspelt_flag_with_a_secret_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--etcd-pasword=hunter2") == 2
    assert "hunter2" not in capsys.readouterr().err


def test_misspelt_check_gets_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--only=fien")
    assert "did you mean fine?" in capsys.readouterr().err


def test_lines_fit_80_columns() -> None:
    shown = lines("failure", "reverse-path", "word " * 60, "sysctl -w net.ipv4.x=1 " * 9)
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("word") == 60


def test_help_fits_80_columns_and_names_every_flag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "-h")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for name in (*(flag.name for flag in OWN_FLAGS), "etcd-endpoints", "no-br-netfilter-check"):
        assert f"-{name}" in out
    assert "sudo udpoverlay doctor --etcd-endpoints" in out


def test_settings_come_from_the_environment_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def show(patient: Patient) -> Sequence[Finding]:
        return [good(f"{patient.config.etcd.prefix} {patient.config.iface} {patient.peers}")]

    monkeypatch.setattr(checks, "ALL", (Check("show", "", show),))
    monkeypatch.setenv("FLANNELD_ETCD_PREFIX", "/from/environment")
    monkeypatch.setenv("FLANNELD_PEER", "192.0.2.9")
    run(monkeypatch, "--iface=eth1", "--peer=192.0.2.1")
    assert "/from/environment ('eth1',) ('192.0.2.1',)" in capsys.readouterr().out


def test_the_page_describes_every_check_and_flag() -> None:
    """Of the real list: another process, where nothing is replaced."""
    done = subprocess.run(
        [sys.executable, "-m", "udpoverlay.cli", "doctor", "--list"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=dict(os.environ),
    )
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert len(names) == len(set(names)) >= 19
    page = PAGE.read_text()
    for name in names:
        assert f"| `{name}` |" in page, name
    for flag in OWN_FLAGS:
        assert f"`--{flag.name}" in page, flag.name
