"""reach/live/socket.py on the kernel: both kinds of socket, on the loopback of a namespace."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.namespace import in_new_namespace
from udpoverlay.errors import KernelError, OperatorError
from udpoverlay.reach.echo import Event, Kind
from udpoverlay.reach.live.exchange import ask
from udpoverlay.reach.live.socket import EchoSocket

pytestmark = pytest.mark.root

SIOCSIFFLAGS, SIOCSIFMTU, IFF_UP = 0x8914, 0x8922, 1


def loopback(mtu: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for request, value in ((SIOCSIFMTU, mtu), (SIOCSIFFLAGS, IFF_UP)):
            fcntl.ioctl(sock, request, struct.pack("16si20x", b"lo", value))


def without_rights() -> None:
    """Of this thread alone, which ends with the namespace."""
    header = struct.pack("=Ii", 0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def in_namespace(work: Callable[[], Event | None], *, groups: str = "", mtu: int = 1500) -> Event:
    """What `work` gives; with `groups` as a user who may use the ping socket alone."""

    def run() -> Event | None:
        loopback(mtu)
        if groups:
            Path("/proc/sys/net/ipv4/ping_group_range").write_text(groups)
            without_rights()
        return work()

    found = in_new_namespace(run)
    assert found is not None
    return found


def one(size: int, ttl: int = 64) -> Event | None:
    with EchoSocket("127.0.0.1", "127.0.0.1") as sock:
        return ask(sock, 7, size, 5.0, ttl)[0]


@pytest.mark.parametrize("groups", ["", "0 0"], ids=["raw", "ping socket"])
def test_request_is_answered(groups: str) -> None:
    event = in_namespace(lambda: one(84), groups=groups)
    assert (event.kind, event.sequence, event.sender) == (Kind.ANSWER, 7, "127.0.0.1")
    assert event.ttl == 64


@pytest.mark.parametrize("groups", ["", "0 0"], ids=["raw", "ping socket"])
def test_packet_over_the_devices_mtu_is_too_big_here(groups: str) -> None:
    assert in_namespace(lambda: one(1500), groups=groups).kind is Kind.ANSWER
    assert in_namespace(lambda: one(1501), groups=groups).kind is Kind.TOO_BIG_HERE


def test_user_without_any_right_is_told_what_it_takes() -> None:
    with pytest.raises(OperatorError, match="CAP_NET_RAW") as caught:
        in_namespace(lambda: one(84), groups="1 0")
    assert "ping_group_range" in caught.value.fix


def test_source_that_is_not_ours_is_named() -> None:
    def work() -> None:
        EchoSocket("127.0.0.1", "10.5.72.0")

    with pytest.raises(KernelError, match=r"cannot send from 10\.5\.72\.0 to 127\.0\.0\.1"):
        in_namespace(work)


def test_two_at_a_time_get_their_own_answers() -> None:
    def work() -> Event | None:
        with EchoSocket("127.0.0.1") as first, EchoSocket("127.0.0.1") as second:
            first.send(1, 84)
            assert ask(second, 2, 84, 5.0)[0] is not None
            assert second.receive(time.monotonic() + 0.05) == []
            return first.receive(time.monotonic() + 5)[0]

    assert in_namespace(work).sequence == 1


def test_closed_socket_keeps_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with EchoSocket("127.0.0.1"):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
