"""Peers that do not exist any more: what waits for them does not starve those that do.

A datagram to a host whose link address is not known waits in the kernel, charged to our socket: up
to unres_qlen_bytes for each of them, for three seconds (net/core/neighbour.c).
"""

from __future__ import annotations

import socket
import threading
import time

import pytest
from netaddr import IPAddress, IPNetwork
from pyroute2 import IPRoute

from tests.support.engines import PORT, EnginePair, engine_pair
from tests.support.patience import DEADLINE
from udpoverlay.model.endpoint import Endpoint

DEAD = 100
ROUNDS = 900
PAYLOAD = bytes(1400)
QUEUE = 5000


def add_dead_peers(o: EnginePair) -> list[str]:
    """Routes of the first host to so many that are not there; an address behind each."""
    routes = {o.b.network: Endpoint(IPAddress(o.b.underlay), PORT)}
    for i in range(DEAD):
        routes[IPNetwork(f"10.5.{100 + i}.0/24")] = Endpoint(IPAddress(f"192.0.2.{100 + i}"), PORT)
    o.engines[0].replace(routes)
    return [f"10.5.{100 + i}.1" for i in range(DEAD)]


class Receiver:
    """Counts the datagrams that come to the living peer until one says that it was the last."""

    def __init__(self, sock: socket.socket) -> None:
        self.count = 0
        self._sock = sock
        self.thread = threading.Thread(target=self._receive)
        self.thread.start()

    def _receive(self) -> None:
        while self._sock.recv(100) != b"end":
            self.count += 1


def lengthen_queue(o: EnginePair) -> None:
    """What the TUN holds: a slow machine is no dead peer."""

    def run() -> None:
        with IPRoute() as ipr:
            ipr.link("set", index=o.engines[0].tun_index, txqlen=QUEUE)

    o.a.call(run)


def keep_pace(o: EnginePair, offered: int) -> None:
    """Wait until the engine has read most of it; but not for one that stands still."""
    end = time.monotonic() + 0.01
    while o.counters(0).get("outbound_sent", 0) < offered - QUEUE / 2 and time.monotonic() < end:
        time.sleep(0.001)


@pytest.mark.root
def test_living_peer_loses_nothing_beside_a_hundred_dead_ones() -> None:
    with engine_pair() as o, o.a.socket() as left, o.b.socket() as right:
        dead = add_dead_peers(o)
        living = right.getsockname()
        lengthen_queue(o)
        receiver = Receiver(right)
        for number in range(1, ROUNDS + 1):
            for address in dead:
                left.sendto(PAYLOAD, (address, 9))
            left.sendto(b"alive", living)
            keep_pace(o, number * (DEAD + 1))
        end = time.monotonic() + DEADLINE
        while receiver.thread.is_alive():
            assert time.monotonic() < end, o.counters(0)
            left.sendto(b"end", living)
            receiver.thread.join(0.1)
        assert receiver.count >= 0.99 * ROUNDS, o.counters(0)
