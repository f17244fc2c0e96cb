"""ext/worker: a worker that never finds its descriptors empty, and one that always does.

    device (the kernel's side of the TUN) ── tun │ Worker │ udp ── peer

A SOCK_SEQPACKET socket whose other end has shut down its writing side gives an empty packet at each
read, for ever: a descriptor that always has more, whatever the machine's speed.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.packets import ipv4
from tests.support.patience import DEADLINE
from udpoverlay import _fastpath as fp

BOTH = fp.OUTBOUND | fp.INBOUND
VERDICTS = [facts[0] for facts in fp.VERDICTS]
COUNTERS = [facts[0] for facts in fp.COUNTERS]


class Running:
    """A worker in its thread, with socket pairs for the TUN and the UDP socket."""

    def __init__(self, roles: int = BOTH) -> None:
        self.device, self.tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.udp, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (self.device, self.tun, self.udp, self.peer):
            each.setblocking(False)
        self.table = fp.RouteTable()
        self.publish()
        pump = fp.Pump(self.table, mtu=1400, tun_address=socket.inet_aton("10.5.72.0"))
        self.worker = fp.Worker(
            pump, roles=roles, tun_fds=[self.tun.fileno()], udp_fd=self.udp.fileno()
        )
        self.thread = threading.Thread(target=self.worker.run)
        self.thread.start()

    def publish(self) -> None:
        route = (socket.inet_aton("10.5.99.0"), 24, socket.inet_aton("192.0.2.1"), 8285, 0)
        self.table.publish([route])

    def count(self, name: str) -> int:
        verdicts, counters = self.worker.counts()
        if name in VERDICTS:
            return verdicts[VERDICTS.index(name)]
        return counters[COUNTERS.index(name)]

    def stop(self) -> None:
        self.worker.stop()
        self.thread.join(DEADLINE)
        self.worker.close()
        for each in (self.device, self.tun, self.udp, self.peer):
            each.close()


@contextmanager
def running(roles: int = BOTH) -> Iterator[Running]:
    made = Running(roles)
    try:
        yield made
    finally:
        made.stop()


def until(condition: object, what: str) -> None:
    assert callable(condition)
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.002)


def asleep(run: Running) -> None:
    """Wait until the worker has nothing to do: what is offered once is counted, then it sleeps."""
    calls = -1
    while calls != run.count("tun_read_calls"):
        calls = run.count("tun_read_calls")
        time.sleep(0.05)


@pytest.mark.parametrize("side", ["device", "peer"])
def test_old_tables_are_freed_under_a_load_that_never_ends(side: str) -> None:
    with running() as run:
        getattr(run, side).shutdown(socket.SHUT_WR)
        calls = "tun_read_calls" if side == "device" else "udp_receive_calls"
        for _ in range(5):
            seen = run.count(calls)
            until(lambda seen=seen: run.count(calls) > seen + 100, "the worker is loaded")
            run.publish()
        until(lambda: run.table.collect() == 0, f"{run.table.retired} tables are kept under load")


def test_old_tables_are_freed_while_the_worker_sleeps() -> None:
    with running() as run:
        for _ in range(3):
            asleep(run)
            run.publish()
            assert run.table.collect() == 0, "a sleeping worker holds a table"


def test_datagrams_come_in_while_the_device_is_always_full() -> None:
    with running() as run:
        asleep(run)
        run.device.shutdown(socket.SHUT_WR)
        until(lambda: run.count("tun_read_calls") > 1000, "the worker is loaded")
        run.peer.send(ipv4(b"in", source="10.5.99.7", destination="10.5.72.3"))
        until(lambda: run.count("inbound_delivered") == 1, "nothing comes in")


def test_packets_go_out_while_datagrams_always_come() -> None:
    with running() as run:
        asleep(run)
        run.peer.shutdown(socket.SHUT_WR)
        until(lambda: run.count("udp_receive_calls") > 1000, "the worker is loaded")
        run.device.send(ipv4(b"out", destination="10.5.99.7"))
        until(lambda: run.count("outbound_sent") == 1, "nothing goes out")


def test_blocked_worker_sleeps_although_the_device_is_full() -> None:
    """What waits comes first: reading on would only fill memory, looking on burns a CPU."""
    with running() as run:
        packet, offered = ipv4(bytes(1000), destination="10.5.99.7"), 0
        while True:  # until both the peer's buffer and the device's queue are full
            try:
                run.device.send(packet)
                offered += 1
            except BlockingIOError:
                before = run.count("outbound_sent")
                time.sleep(0.05)
                if run.count("udp_send_blocked") and before == run.count("outbound_sent"):
                    break
        sleeps, calls = run.count("sleeps"), run.count("tun_read_calls")
        start = time.monotonic()
        time.sleep(0.2)
        # Every 5 ms it tries whether there is room that poll does not tell of.
        slept = run.count("sleeps") - sleeps
        assert slept <= 2 + (time.monotonic() - start) / 0.005
        assert run.count("tun_read_calls") == calls
        run.peer.settimeout(DEADLINE)
        for _ in range(offered):  # with the first room, all of it goes on
            assert len(run.peer.recv(2000)) == len(packet)
