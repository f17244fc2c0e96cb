"""Workers in threads, their life, and what a caller may get wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.packets import ipv4, ipv6
from tests.support.pumprig import (
    DEADLINE,
    MTU,
    Rig,
    forwarded,
    from_peer,
    receive,
    rig,
    to_peer,
)
from udpoverlay import _fastpath as fp

# ---- running in a thread


class Running:
    """The rig's worker in a thread, joined at the end; `error` is what ended it."""

    def __init__(self, r: Rig) -> None:
        self.rig = r
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.rig.worker.run()
        except OSError as error:
            self.error = error

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.rig.worker.stop()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


def eventually(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "never became true"
        time.sleep(0.001)


def test_a_thread_moves_packets_both_ways() -> None:
    with rig() as r, Running(r):
        for i in range(50):
            r.device.send(to_peer(bytes([i])))
            r.send(from_peer(bytes([i])))
        assert receive(r.peer, 50) == [forwarded(to_peer(bytes([i]))) for i in range(50)]
        assert receive(r.device, 50) == [forwarded(from_peer(bytes([i]))) for i in range(50)]


def test_stop_wakes_a_sleeping_worker() -> None:
    with rig() as r:
        with Running(r) as running:
            r.send(from_peer())
            receive(r.device, 1)
        assert running.error is None


def test_a_worker_that_was_stopped_before_it_runs_returns_at_once() -> None:
    with rig() as r:
        r.worker.stop()
        r.worker.run()


def test_thread_blocked_by_a_full_socket_receives_and_goes_on() -> None:
    with rig(narrow=True) as r, Running(r):
        for i in range(100):
            r.device.send(to_peer(bytes([i]) * 200))
        eventually(lambda: r.counts().get("udp_send_blocked"))
        r.peer.send(from_peer())
        assert receive(r.device, 1) == [forwarded(from_peer())]
        assert receive(r.peer, 100) == [forwarded(to_peer(bytes([i]) * 200)) for i in range(100)]
        eventually(lambda: r.counts()["outbound_sent"] == 100)


def test_worker_sends_as_soon_as_there_is_room_although_poll_does_not_tell() -> None:
    """poll calls a socket writable only when a good part of its buffer is free."""
    with rig(narrow=True) as r, Running(r):
        for i in range(100):
            r.device.send(to_peer(bytes([i]) * 200))
        eventually(lambda: r.counts().get("udp_send_blocked"))
        for _ in range(5):
            sent = r.counts()["outbound_sent"]
            r.peer.recv(2000)
            eventually(lambda sent=sent: r.counts()["outbound_sent"] > sent)
            assert not select.select([], [r.udp], [], 0)[1], "poll tells of it"


def test_device_that_is_gone_ends_the_worker_with_its_errno() -> None:
    with rig() as r:
        with open("/dev/null", "wb") as unreadable:
            os.dup2(unreadable.fileno(), r.tun.fileno())
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            r.step(fp.OUTBOUND)
        assert caught.value.errno == errno.EBADF


def test_only_one_thread_at_a_time_moves_packets() -> None:
    with rig() as r, Running(r):
        r.send(from_peer())
        receive(r.device, 1)
        with pytest.raises(RuntimeError, match="another thread"):
            r.step()
        with pytest.raises(RuntimeError, match="another thread"):
            r.worker.close()


def test_both_directions_flow_while_both_are_loaded() -> None:
    """Neither direction waits for the other to be idle, which it never is here."""
    with rig(batch=4) as r:
        for _ in range(200):
            r.device.send(to_peer())
            r.send(from_peer())
        r.step(batches=10)
        counts = r.verdicts()
        assert counts == {"outbound_sent": 40, "inbound_delivered": 40}


@contextlib.contextmanager
def offering(r: Rig) -> Iterator[None]:
    """Packets keep coming to the device."""
    stop = threading.Event()

    def offer() -> None:
        while not stop.is_set():
            try:
                r.device.send(to_peer())
            except BlockingIOError:
                time.sleep(0)

    feeder = threading.Thread(target=offer)
    feeder.start()
    try:
        yield
    finally:
        stop.set()
        feeder.join()


def test_routes_change_while_packets_flow_and_old_tables_are_freed() -> None:
    with rig() as r, Running(r):
        with offering(r):
            for i in range(300):
                routes = [(socket.inet_aton(f"10.{i % 200}.0.0"), 16, b"\x7f\0\0\1", 9, 0)]
                r.table.publish(
                    [*routes, (b"\x0a\x05\x63\0", 24, b"\x7f\0\0\1", r.peer.getsockname()[1], 0)]
                )
                # Not until there is none: more may come as fast as they are read.
                with contextlib.suppress(BlockingIOError):
                    for _ in range(64):
                        r.peer.recv(2048)
        eventually(lambda: r.table.collect() == 0)
        counts = r.verdicts()
        assert set(counts) == {"outbound_sent"}


def test_a_polling_worker_stops_in_the_middle_of_traffic() -> None:
    for _ in range(20):
        with rig(busy_poll_us=1000) as r, offering(r), Running(r):
            eventually(lambda r=r: r.counts().get("spin_hits"))


def test_the_verdicts_add_up_to_the_packets_offered() -> None:
    offered = {"outbound": 0, "inbound": 0}
    with rig(udp_segment=True) as r:
        for i in range(300):
            kinds = [to_peer(bytes(i)), to_peer(ttl=1), b"x", ipv6(), ipv4(), to_peer()[:-3]]
            r.device.send(kinds[i % len(kinds)])
            offered["outbound"] += 1
            kinds = [from_peer(bytes(i)), from_peer(ttl=1), b"", b"\0" * 30, from_peer(bytes(2000))]
            r.send(kinds[i % len(kinds)])
            offered["inbound"] += 1
        r.step(batches=20)
        verdicts = r.verdicts()
        for direction, count in offered.items():
            assert sum(n for name, n in verdicts.items() if name.startswith(direction)) == count


# ---- what a caller may get wrong


@pytest.mark.parametrize(
    "wrong", [{"batch": 0}, {"batch": fp.BATCH_MAX + 1}, {"mtu": 19}, {"mtu": 65536}]
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with rig() as r:
        pump = fp.Pump(r.table, **{"mtu": MTU, **wrong}, tun_address=bytes(4))
        with pytest.raises(ValueError, match="Invalid argument"):
            fp.Worker(pump, roles=fp.OUTBOUND, tun_fds=[r.tun.fileno()], udp_fd=r.udp.fileno())


@pytest.mark.parametrize("roles", [0, 4])
def test_a_worker_needs_a_direction(roles: int) -> None:
    with rig() as r, pytest.raises(ValueError, match="Invalid argument"):
        fp.Worker(r.pump, roles=roles, tun_fds=[r.tun.fileno()], udp_fd=r.udp.fileno())


def test_a_closed_worker_keeps_its_counts_and_moves_nothing() -> None:
    with rig() as r:
        r.device.send(to_peer())
        r.step()
        r.worker.close()
        r.worker.close()
        r.worker.stop()
        assert r.verdicts() == {"outbound_sent": 1}
        with pytest.raises(ValueError, match="closed"):
            r.step()
