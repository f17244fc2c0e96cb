"""The TUN device's descriptors: plain numbers, ours alone."""

from __future__ import annotations

import gc
import os
import socket

import pytest

from udpoverlay.dataplane.tun import open_tun
from udpoverlay.errors import KernelError

pytestmark = [pytest.mark.root, pytest.mark.own_namespace]


async def test_device_lives_by_our_descriptor_alone() -> None:
    tun = open_tun("plain%d")
    gc.collect()  # pytun's object is gone
    assert tun.name == "plain0"
    assert socket.if_nametoindex("plain0") == tun.index
    [fd] = tun.queues
    assert not os.get_inheritable(fd)
    assert not os.get_blocking(fd)
    with pytest.raises(BlockingIOError):
        os.read(fd, 2000)
    tun.close()
    with pytest.raises(OSError, match="no interface"):
        socket.if_nametoindex("plain0")


async def test_refused_device_leaves_no_descriptor() -> None:
    taken = open_tun("plain0")
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(KernelError, match="plain0"):
        open_tun("plain0", queues=2)
    assert set(os.listdir("/proc/self/fd")) == before
    taken.close()
