"""`udpoverlay wireshark`: what it copies where, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from udpoverlay.cli.main import udpoverlay

Run = Callable[..., int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["udpoverlay", "wireshark", *words])
        try:
            return udpoverlay()
        except SystemExit as end:
            return int(end.code or 0)

    return run


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return [f"--extcap-dir={tmp_path}/extcap", f"--plugin-dir={tmp_path}/plugins"]


def test_install_and_uninstall_are_the_way_and_the_way_back(
    tmp_path: Path, command: Run, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("install", *folders) == 0
    program, script = tmp_path / "extcap" / "udpoverlay", tmp_path / "plugins" / "udpoverlay.lua"
    assert program.read_text().startswith("#!/usr/bin/env python3\n")
    assert (program.stat().st_mode & 0o777, script.stat().st_mode & 0o777) == (0o755, 0o644)
    assert str(program) in capsys.readouterr().out
    assert command("install", *folders, "--json") == 0  # an update
    assert json.loads(capsys.readouterr().out) == {"install": [str(program), str(script)]}
    assert command("uninstall", *folders) == 0
    assert not list(tmp_path.rglob("udpoverlay*"))
    assert command("uninstall", *folders) == 0
    assert capsys.readouterr().out.endswith("nothing was there\n")


def test_file_of_another_is_left_alone(
    tmp_path: Path, command: Run, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "extcap" / "udpoverlay"
    other.parent.mkdir()
    other.write_text("mine")
    assert command("install", *folders) == 1
    assert f"{str(other)!r} is there and not ours" in capsys.readouterr().err
    assert command("uninstall", *folders) == 0
    assert other.read_text() == "mine"


def test_folder_that_cannot_be_written_is_named(
    tmp_path: Path, command: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert command("install", f"--extcap-dir={tmp_path}/file/x") == 1
    assert "cannot install" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "extcap"),
    [
        ("Personal Extcap path:\t{home}/there\nPersonal Lua Plugins:\t{home}/lua\n", "there"),
        ("Personal Lua Plugins:\t{home}/lua\nExtcap path:\t/usr/lib\n", ".config/wireshark/extcap"),
        (None, ".local/lib/wireshark/extcap"),
    ],
)
def test_folders_are_those_that_tshark_names(
    tmp_path: Path, command: Run, monkeypatch: pytest.MonkeyPatch, said: str | None, extcap: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin" if said else "/nowhere")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    if said:
        tshark = tmp_path / "bin" / "tshark"
        tshark.parent.mkdir()
        tshark.write_text(f"#!/bin/sh\ncat <<'END'\n{said.format(home=tmp_path)}END\n")
        tshark.chmod(0o755)
    assert command("install") == 0
    assert (tmp_path / extcap / "udpoverlay").exists()
