"""A TUN device with vnet headers, opened by hand, for tests that meet the kernel's own offloads."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netaddr import IPAddress, IPNetwork

from tests.support.patience import DEADLINE
from udpoverlay.host.netlink import Netlink

__all__ = ["ALL_OFFLOADS", "VnetTun", "allow_forwarding", "vnet_tun"]

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN_NO_PI_VNET_HDR = 0x1001 | 0x4000
CSUM, TSO4, TSO6, TSO_ECN, USO4, USO6 = 1, 2, 4, 8, 0x20, 0x40
ALL_OFFLOADS = CSUM | TSO4 | TSO6 | TSO_ECN | USO4 | USO6
READ_BYTES = 10 + 65536


@dataclass
class VnetTun:
    """An open device; packets go in and out with their 10 bytes of vnet header in front."""

    fd: int
    name: str

    def write(self, packet: bytes) -> None:
        assert os.write(self.fd, packet) == len(packet)

    def read(self, timeout: float = DEADLINE) -> bytes | None:
        """The next packet, or None when none came in time."""
        if not select.select([self.fd], [], [], timeout)[0]:
            return None
        return os.read(self.fd, READ_BYTES)

    def read_traffic(self, count: int) -> list[bytes]:
        """The next `count` TCP and UDP packets (the kernel has others to send, too)."""
        packets: list[bytes] = []
        until = time.monotonic() + DEADLINE
        while len(packets) < count:
            packet = self.read(until - time.monotonic())
            assert packet is not None, f"{len(packets)} of {count} packets came"
            if is_traffic(packet[10:]):
                packets.append(packet)
        return packets


def is_traffic(packet: bytes) -> bool:
    if packet[0] >> 4 == 4:
        return packet[9] in (6, 17)
    return packet[6] in (6, 17, 60)


@contextmanager
def vnet_tun(offloads: int, routes: list[str], addresses: list[str]) -> Iterator[VnetTun]:
    """A device that is up; it takes from the kernel what `offloads` (TUN_F_…) allows."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    try:
        answer = fcntl.ioctl(
            fd, TUNSETIFF, struct.pack("16sH22x", b"vnet%d", IFF_TUN_NO_PI_VNET_HDR)
        )
        name = answer[:16].rstrip(b"\0").decode()
        fcntl.ioctl(fd, TUNSETOFFLOAD, offloads)
        sysctl(f"ipv6/conf/{name}/accept_dad", "0")
        asyncio.run(configure(name, routes, addresses))
        yield VnetTun(fd, name)
    finally:
        os.close(fd)


async def configure(name: str, routes: list[str], addresses: list[str]) -> None:
    index = socket.if_nametoindex(name)
    async with Netlink() as netlink:
        for address in addresses:
            await netlink.add_address(index, IPAddress(address))
        await netlink.set_up(index)
        for route in routes:
            await netlink.add_link_route(IPNetwork(route), index)


def sysctl(name: str, value: str) -> None:
    """Of the network namespace that this thread is in."""
    path = Path("/proc/sys/net", name)
    if path.exists():
        path.write_text(value)


def allow_forwarding() -> None:
    """Make this namespace pass packets on from one device to another, whatever their source."""
    for conf in ("all", "default"):
        sysctl(f"ipv4/conf/{conf}/rp_filter", "0")
        sysctl(f"ipv6/conf/{conf}/forwarding", "1")
    sysctl("ipv4/ip_forward", "1")
