"""cli/admin/web.py: which daemons it asks, and the error when there is none."""

from __future__ import annotations

import socket

import pytest

from tests.support.admin import Command, Documents
from udpoverlay.cli.main import udpoverlay


def test_host_without_a_daemon_is_an_error_before_a_page_is_served(command: Command) -> None:
    assert command("web") == 1
    assert "has the admin socket" in command.err
    assert command.out == ""


def test_other_socket_that_is_not_there_is_named(command: Command, found: Documents) -> None:
    assert found
    assert command("web", "--also", "/nosuch/n2.sock") == 1
    assert "'/nosuch/n2.sock'" in command.err


def test_port_that_is_taken_is_named_with_the_way_out(command: Command, found: Documents) -> None:
    assert found
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert command("web", "--port", str(port)) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in command.err
    assert "--port" in command.err


@pytest.mark.parametrize("other", ["--node=n1", "--also=x"])
def test_lab_and_what_names_others_exclude_each_other(command: Command, other: str) -> None:
    assert command("web", "--lab", other) == 1
    assert "find their daemons" in command.err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_port_out_of_range_is_a_wrong_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    monkeypatch.setattr("sys.argv", ["udpoverlay", "web", f"--port={port}"])
    with pytest.raises(SystemExit) as ended:
        udpoverlay()
    assert ended.value.code == 2
    assert "is not from 0 to 65,535" in capsys.readouterr().err
