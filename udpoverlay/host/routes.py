"""Routes of this host as /proc shows them: enough for a look, without netlink.

Owns: the reading of /proc/net/route (linux/net/ipv4/fib_trie.c, fib_route_seq_show).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from netaddr import IPNetwork

__all__ = ["gateway_routes"]

_ROUTES = "/proc/thread-self/net/route"
_RTF_GATEWAY = 0x2


def gateway_routes(path: str = _ROUTES) -> Iterator[tuple[IPNetwork, str]]:
    """IPv4 routes through a gateway: network and device. None where /proc cannot be read."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        device, destination, _, flags, _, _, _, mask, *_ = line.split()
        if int(flags, 16) & _RTF_GATEWAY:
            length = _swapped(mask).bit_count()
            yield IPNetwork((_swapped(destination), length), version=4), device


def _swapped(text: str) -> int:
    """The kernel prints the four bytes in the machine's order."""
    return int.from_bytes(int(text, 16).to_bytes(4, sys.byteorder), "big")
