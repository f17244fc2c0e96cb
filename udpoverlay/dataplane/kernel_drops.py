"""What the kernel dropped in front of us and behind us: packets that no worker ever saw.

Owns: where the kernel's counts are read. Must not know: what is done with them. They are read on
demand, with one file and one system call; the packets pay nothing.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

__all__ = ["device_drops", "socket_drops"]

_SO_MEMINFO = 55
"""asm-generic/socket.h (Linux 4.12)."""
_MEMINFO = struct.Struct("=9I")
_DROPS = 8
"""SK_MEMINFO_DROPS (linux/sock_diag.h)."""
_DEVICES = Path("/proc/thread-self/net/dev")
_TX_DROPPED = 11
"""Column behind the device's name: eight of reception, then bytes, packets, errors, dropped."""


def socket_drops(udp: socket.socket) -> int:
    """Datagrams for which `udp` had no room; 0 where the kernel does not say."""
    try:
        data = udp.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(data)[_DROPS])
    except (OSError, struct.error):
        return 0


def device_drops(index: int) -> int:
    """Packets (a super-packet is one) that found no room in the queue of this TUN device."""
    try:
        name = socket.if_indextoname(index)
        lines = _DEVICES.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    for line in lines:
        device, _, columns = line.partition(":")
        if device.strip() == name:
            fields = columns.split()
            return int(fields[_TX_DROPPED]) if len(fields) > _TX_DROPPED else 0
    return 0
