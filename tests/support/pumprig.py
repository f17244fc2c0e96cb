"""A pump between a socket pair in the TUN's place and UDP sockets on the loopback interface.

    device (the kernel's side of the TUN) ── tun │ Worker │ udp ── peer

No root: a datagram socket pair keeps packet boundaries as a TUN does. With `narrow` another pair
stands in the UDP socket's place: one whose send buffer can be full, which a UDP socket's on the
loopback interface never is. SOCK_SEQPACKET ignores the destination that a message names.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.packets import ipv4
from tests.support.patience import DEADLINE
from tests.support.twin.packet import decrease_ttl
from udpoverlay import _fastpath as fp
from udpoverlay.dataplane.recorder import Recorder

__all__ = [
    "DEADLINE",
    "MTU",
    "NET",
    "OWN",
    "Rig",
    "forwarded",
    "from_peer",
    "names",
    "receive",
    "received",
    "rig",
    "send_recorded",
    "to_peer",
]

MTU = 1400
NET = "10.5.99.0"
OWN = "10.5.72.0"


def names() -> tuple[list[str], list[str]]:
    return [facts[0] for facts in fp.VERDICTS], [facts[0] for facts in fp.COUNTERS]


class Rig:
    """One worker with both roles unless `roles` says otherwise."""

    def __init__(
        self,
        *,
        mtu: int = MTU,
        roles: int = fp.OUTBOUND | fp.INBOUND,
        narrow: bool = False,
        recorder: fp.Recorder | None = None,
        number: int = 0,
        **pump: Any,
    ) -> None:
        self.device, self.tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.device.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.table = fp.RouteTable()
        if narrow:
            self.udp, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            self.route_to(("127.0.0.1", 9))
        else:
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for each in (self.udp, self.peer):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                each.bind(("127.0.0.1", 0))
            self.route_to(self.peer.getsockname())
        for each in (self.device, self.tun, self.udp, self.peer):
            each.setblocking(False)
        self.pump = fp.Pump(self.table, mtu=mtu, tun_address=socket.inet_aton(OWN), **pump)
        self.worker = fp.Worker(
            self.pump,
            roles=roles,
            tun_fds=[self.tun.fileno()],
            udp_fd=self.udp.fileno(),
            recorder=recorder,
            number=number,
        )

    def route_to(self, address: tuple[str, int], *, mtu: int = 0) -> None:
        """Make the peer at `address` the holder of 10.5.99.0/24, and of nothing else."""
        host, port = address
        self.table.publish([(socket.inet_aton(NET), 24, socket.inet_aton(host), port, mtu)])

    def send(self, datagram: bytes) -> None:
        """A datagram from the peer to the pump."""
        self.peer.sendto(datagram, self.udp.getsockname())

    def step(self, directions: int = fp.OUTBOUND | fp.INBOUND, batches: int = 1) -> int:
        return self.worker.step(directions, batches)

    def counts(self) -> dict[str, int]:
        """Names of what was counted, without zeros."""
        verdicts, counters = self.worker.counts()
        both = zip((*names()[0], *names()[1]), (*verdicts, *counters), strict=True)
        return {name: count for name, count in both if count}

    def verdicts(self) -> dict[str, int]:
        pairs = zip(names()[0], self.worker.counts()[0], strict=True)
        return {name: count for name, count in pairs if count}

    def close(self) -> None:
        self.worker.close()
        for each in (self.device, self.tun, self.udp, self.peer):
            each.close()


@contextmanager
def rig(**options: Any) -> Iterator[Rig]:
    made = Rig(**options)
    try:
        yield made
    finally:
        made.close()


def received(sock: socket.socket) -> list[bytes]:
    """All that is there now."""
    found = []
    while True:
        try:
            found.append(sock.recv(65536))
        except BlockingIOError:
            return found


def receive(sock: socket.socket, count: int) -> list[bytes]:
    """`count` datagrams, awaited."""
    found: list[bytes] = []
    end = time.monotonic() + DEADLINE
    while len(found) < count:
        left = end - time.monotonic()
        assert left > 0, f"only {len(found)} of {count} packets came"
        if select.select([sock], [], [], left)[0]:
            found += received(sock)
    return found


def to_peer(payload: bytes = b"payload", **fields: Any) -> bytes:
    """A packet that the rig's route sends to the peer."""
    return ipv4(payload, **{"destination": "10.5.99.7", **fields})


def from_peer(payload: bytes = b"payload", **fields: Any) -> bytes:
    return ipv4(payload, **{"source": "10.5.99.7", "destination": "10.5.72.3", **fields})


def forwarded(packet: bytes) -> bytes:
    """The packet as it leaves the pump."""
    hop_less = decrease_ttl(packet)
    assert hop_less is not None
    return hop_less


def send_recorded(recorder: Recorder, count: int = 1, destination: str = "10.5.99.7") -> None:
    """So many packets through a pump that notes them in `recorder`."""
    with rig(recorder=recorder.rings) as r:
        for _ in range(count):
            r.device.send(to_peer(destination=destination))
            r.step()
            received(r.peer)
