"""host/notify.py against real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from udpoverlay.errors import OperatorError
from udpoverlay.host.notify import ServiceManager, kept_descriptors, send

READY = "READY=1"


def test_a_path_socket_gets_exactly_one_datagram(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        assert send(str(tmp_path / "notify"), READY)
        assert manager.recv(100) == b"READY=1"
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_an_abstract_socket_is_reached() -> None:
    name = f"udpoverlay-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        assert send("@" + name, READY)
        assert manager.recv(100) == b"READY=1"


def test_without_a_socket_nothing_is_sent() -> None:
    assert not send("", READY)


@pytest.mark.parametrize("address", ["relative", "@", "vsock:2:3"])
def test_an_address_of_another_kind_is_named(address: str) -> None:
    with pytest.raises(OperatorError, match=f"NOTIFY_SOCKET '{address}'"):
        send(address, READY)


@pytest.mark.parametrize("name", ["absent", "x" * 200, "nul\0byte"])
def test_socket_without_a_reader_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(OperatorError, match="cannot notify NOTIFY_SOCKET"):
        send(f"{tmp_path}/{name}", READY)


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        yield manager


def test_life_of_a_service_is_told(tmp_path: Path, heard: socket.socket) -> None:
    manager = ServiceManager(str(tmp_path / "notify"))
    manager.status("waiting")
    manager.status("waiting")
    manager.ready("subnet 10.5.1.0/24")
    manager.stopping()
    assert [heard.recv(100) for _ in range(3)] == [
        b"STATUS=waiting",
        b"READY=1\nSTATUS=subnet 10.5.1.0/24",
        b"STOPPING=1\nSTATUS=stopping",
    ]


async def test_watchdog_hears_from_us_while_we_are_alive(
    tmp_path: Path, heard: socket.socket
) -> None:
    manager = ServiceManager(str(tmp_path / "notify"), "30000000")
    lives = iter([True, False, True])
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await manager.watch(lambda: next(lives), sleep)
    assert pauses == [10.0] * 4
    assert [heard.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
    heard.setblocking(False)
    with pytest.raises(BlockingIOError):
        heard.recv(100)


@pytest.mark.parametrize("usec", ["", "0", "x", "-5"])
def test_without_a_watchdog_no_sign_of_life_is_due(usec: str) -> None:
    assert ServiceManager("/n", usec).watchdog_seconds == 0.0


def test_manager_that_does_not_listen_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ServiceManager(str(tmp_path / "absent"))
    manager.status("a")
    manager.stopping()
    assert caplog.messages == ["the service manager cannot be notified"]


def test_descriptors_are_kept_under_a_name_in_place_of_the_old(heard: socket.socket) -> None:
    address = heard.getsockname()
    ServiceManager(address).keep("tun", [0])
    assert heard.recv(200) == b"FDSTOREREMOVE=1\nFDNAME=tun"
    data, descriptors, _, _ = socket.recv_fds(heard, 200, 4)
    assert data == b"FDSTORE=1\nFDNAME=tun\nFDPOLL=0"
    assert os.fstat(descriptors[0]) == os.fstat(0)
    os.close(descriptors[0])


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, {}),
        ({"LISTEN_PID": "5", "LISTEN_FDS": "0"}, {}),
        ({"LISTEN_PID": "6", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "tun"}, {}),
        ({"LISTEN_PID": "5", "LISTEN_FDS": "-1"}, {}),
        ({"LISTEN_PID": "5", "LISTEN_FDS": "9" * 20}, {}),
        ({"LISTEN_PID": "5", "LISTEN_FDS": "1"}, {"": [3]}),
        (
            {"LISTEN_PID": "5", "LISTEN_FDS": "4", "LISTEN_FDNAMES": "tun:udp:tun"},
            {"tun": [3, 5], "udp": [4], "unknown": [6]},
        ),
    ],
)
def test_kept_descriptors_are_those_that_are_meant_for_us(
    environ: dict[str, str], found: dict[str, list[int]]
) -> None:
    assert kept_descriptors(environ, 5) == found
