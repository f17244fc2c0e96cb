"""host/notify.py against real sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from udpoverlay.errors import OperatorError
from udpoverlay.host.notify import READY, notify


def test_a_path_socket_gets_exactly_one_datagram(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        assert notify(str(tmp_path / "notify"), READY)
        assert manager.recv(100) == b"READY=1"
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_an_abstract_socket_is_reached() -> None:
    name = f"udpoverlay-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        assert notify("@" + name, READY)
        assert manager.recv(100) == b"READY=1"


def test_without_a_socket_nothing_is_sent() -> None:
    assert not notify("", READY)


@pytest.mark.parametrize("address", ["relative", "@", "vsock:2:3"])
def test_an_address_of_another_kind_is_named(address: str) -> None:
    with pytest.raises(OperatorError, match=f"NOTIFY_SOCKET '{address}'"):
        notify(address, READY)


@pytest.mark.parametrize("name", ["nobody", "x" * 200, "nul\0byte"])
def test_a_socket_that_nobody_reads_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(OperatorError, match="cannot notify NOTIFY_SOCKET"):
        notify(f"{tmp_path}/{name}", READY)
