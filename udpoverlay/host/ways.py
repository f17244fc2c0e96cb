"""Which way this host's kernel sends a datagram: to the underlay, into the tunnel, to itself.

Owns: how the kernel is asked. Must not know: leases, what follows from the answer.

Connecting a UDP socket looks the route up, sends nothing, needs no right and takes some
microseconds; the source address that it gets is that of the device the datagram would leave by
(man 7 ip). For an address of the host itself it is that address.
"""

from __future__ import annotations

import socket

from netaddr import IPAddress

from udpoverlay.model.endpoint import Way

__all__ = ["Ways"]


class Ways:
    """The ways from this host with one tunnel, as the kernel would go at each moment."""

    def __init__(self, tunnel: IPAddress, port: int) -> None:
        """`tunnel` is the address of the tunnel device, which no other device has."""
        self._tunnel = str(tunnel)
        self._port = port

    def to(self, address: IPAddress) -> Way:
        """Where a datagram for the IPv4 `address` would go now; UNDERLAY also when it cannot."""
        text = str(address)
        try:
            source = _source_for((text, self._port), broadcast=False)
        except PermissionError:
            # What a broadcast address needs a right for; a route may also forbid the address.
            return Way.BROADCAST if self._needs_broadcast(text) else Way.UNDERLAY
        except OSError:  # no route now, or no descriptor: nothing is known against it
            return Way.UNDERLAY
        if source == text:
            return Way.LOCAL
        return Way.TUNNEL if source == self._tunnel else Way.UNDERLAY

    def _needs_broadcast(self, text: str) -> bool:
        try:
            _source_for((text, self._port), broadcast=True)
        except OSError:
            return False
        return True


def _source_for(target: tuple[str, int], *, broadcast: bool) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        if broadcast:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        probe.connect(target)
        source: str = probe.getsockname()[0]
    return source
