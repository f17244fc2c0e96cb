"""ICMP errors that come back for our datagrams: counted by kind and peer, from any sender."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import time
from collections.abc import Callable

import pytest
from netaddr import IPAddress, IPNetwork

from tests.support.clock import FakeClock
from tests.support.engines import EnginePair, engine_pair
from tests.support.icmperrors import PORT, icmp_error, send_error
from tests.support.patience import DEADLINE
from udpoverlay.dataplane.reports import KINDS, QUIET_SECONDS, Reports, open_reports, read_report
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.model.report import PathReport

OURS, PEER = "192.0.2.1", "192.0.2.2"


# ---- what one packet says


@pytest.mark.parametrize(
    ("type_", "code", "kind"),
    [
        (3, 0, "net_unreachable"),
        (3, 1, "host_unreachable"),
        (3, 2, "protocol_unreachable"),
        (3, 3, "port_unreachable"),
        (3, 4, "fragmentation_needed"),
        (3, 13, "prohibited"),
        (3, 99, "other"),
        (11, 0, "time_exceeded"),
        (12, 0, "parameter_problem"),
        (4, 0, "other"),
    ],
)
def test_report_tells_kind_reporter_and_peer(type_: int, code: int, kind: str) -> None:
    read = read_report(icmp_error(type_, code, OURS, PEER, rest=1300, reporter="198.51.100.1"))
    assert read is not None
    assert read.kind == kind
    assert kind in KINDS
    assert read.reporter == socket.inet_aton("198.51.100.1")
    assert read.destination == socket.inet_aton(PEER)
    assert read.port == PORT
    assert read.mtu == (1300 if kind == "fragmentation_needed" else 0)


def test_router_that_tells_no_mtu_means_the_smallest() -> None:
    """One older than RFC 1191: its report must not read as if the path were wide enough."""
    read = read_report(icmp_error(3, 4, OURS, PEER, rest=0))
    assert read is not None
    assert read.mtu == 68


def test_no_bytes_upset_the_reader() -> None:
    whole = icmp_error(3, 3, OURS, PEER)
    for length in range(len(whole)):
        assert read_report(whole[:length]) is None
    dice = random.Random(8285)
    for _ in range(20_000):
        damaged = bytearray(whole + bytes(dice.randrange(40)))
        for _ in range(dice.randrange(1, 6)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        read = read_report(bytes(damaged))
        assert read is None or read.kind in KINDS


def test_peers_that_are_remembered_are_bounded() -> None:
    reports = Reports(None, lambda *_: True)
    for number in range(3000):
        peer = f"10.{number >> 8}.{number & 255}.9"
        reports._take(icmp_error(3, 3, OURS, peer))
    found = reports.by_peer()
    assert len(found) == 1024
    assert found[0].peer == "10.11.183.9", "the latest comes first"


async def test_first_report_of_a_kind_about_a_peer_is_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    reports = Reports(None, lambda *_: True, clock=clock)

    def told(*packets: bytes) -> list[str]:
        caplog.clear()
        for packet in packets:
            reports._take(packet)
        return [record.getMessage().partition(":")[0] for record in caplog.records]

    closed, gone = icmp_error(3, 3, OURS, PEER), icmp_error(3, 1, OURS, PEER)
    assert told(closed, closed, gone, closed) == [
        "nothing listens on the peer's UDP port",
        "no host answers at the peer's address",
    ]
    assert told(icmp_error(3, 3, OURS, "192.0.2.3")) == ["nothing listens on the peer's UDP port"]
    await clock.advance(QUIET_SECONDS + 1)
    assert len(told(closed, closed)) == 1, "news again"
    assert not told(icmp_error(11, 0, OURS, PEER)), "only counted"
    forged = [icmp_error(3, 3, OURS, f"198.51.100.{number}") for number in range(200)]
    assert len(told(*forged)) <= 10, "anybody can send them"


# ---- on a real network


@pytest.mark.root
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOPROTOOPT])
def test_kernel_without_such_a_socket_is_a_line_in_the_log(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("udpoverlay.dataplane.reports.fp.attach_filter", refuse)
    assert open_reports("127.0.0.1", PORT) is None
    [record] = caplog.records
    assert "looks like one that listens" in record.getMessage()


def wait_for(o: EnginePair, position: int, kind: str) -> PathReport:
    """The report of that kind, awaited."""
    end = time.monotonic() + DEADLINE
    while True:
        for report in o.engines[position].path_reports():
            if report.kind == kind:
                return report
        assert time.monotonic() < end, o.engines[position].report_counters()
        time.sleep(0.02)


def restart(o: EnginePair, position: int) -> None:
    host, other = o.hosts[position], o.hosts[1 - position]
    o.engines[position] = host.run(o._start(host, other, {}))


@pytest.mark.root
def test_closed_port_of_a_peer_does_not_look_like_success() -> None:
    with engine_pair() as o, o.a.socket() as left:
        o.b.run(o.engines[1].stop())
        left.sendto(b"into the void", (o.b.address, 9))
        report = wait_for(o, 0, "port_unreachable")
        assert (report.peer, report.reporter) == (o.b.underlay, o.b.underlay)
        assert o.engines[0].report_counters()["port_unreachable"] >= 1
        restart(o, 1)
        with o.b.socket() as right:
            left.sendto(b"back", right.getsockname())
            assert right.recv(100) == b"back"


@pytest.mark.root
def test_closed_port_of_one_peer_costs_the_others_no_packet() -> None:
    """One that reports an error for each datagram, beside one that takes them all."""
    with engine_pair() as o, o.a.socket() as left, o.b.socket() as right:
        allow_all_reports(o)
        routes = dict(o.routes_of(o.b))
        routes[IPNetwork("10.5.9.0/24")] = Endpoint(IPAddress(o.b.underlay), 9)
        o.engines[0].replace(routes)
        for number in range(500):
            left.sendto(b"closed", ("10.5.9.1", 9))
            left.sendto(number.to_bytes(2, "big"), right.getsockname())
            assert right.recv(10) == number.to_bytes(2, "big")
        assert wait_for(o, 0, "port_unreachable").peer == o.b.underlay
        end = time.monotonic() + DEADLINE
        while o.counters(0)["outbound_sent"] < 1000:
            assert time.monotonic() < end, o.counters(0)


def allow_all_reports(o: EnginePair) -> None:
    """Let b answer each datagram, not one a second."""

    def run() -> None:
        for name, value in (("icmp_ratelimit", "0"), ("icmp_msgs_per_sec", "100000")):
            with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
                file.write(value)

    o.b.call(run)


@pytest.mark.root
def test_peer_that_is_gone_is_reported_by_our_own_host() -> None:
    with engine_pair() as o, o.a.socket() as left:
        o.engines[0].replace({o.b.network: Endpoint(IPAddress("192.0.2.77"), PORT)})
        left.sendto(b"into the void", (o.b.address, 9))
        report = wait_for(o, 0, "host_unreachable")
        assert (report.peer, report.reporter) == ("192.0.2.77", o.a.underlay)


def forge(o: EnginePair, *packets: bytes) -> None:
    with o.b.call(
        lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    ) as raw:
        for packet in packets:
            send_error(raw, packet)


def settled(o: EnginePair, done: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    end = time.monotonic() + DEADLINE
    while not done(o.engines[0].report_counters()):
        assert time.monotonic() < end, o.engines[0].report_counters()
        time.sleep(0.02)
    return {name: count for name, count in o.engines[0].report_counters().items() if count}


@pytest.mark.root
def test_reports_about_others_are_not_ours() -> None:
    with engine_pair() as o:
        forge(
            o,
            icmp_error(3, 3, OURS, PEER, protocol=6),
            icmp_error(3, 3, OURS, PEER, ports=(PORT + 1, PORT)),
            icmp_error(0, 0, OURS, PEER),
            icmp_error(3, 3, OURS, "198.51.100.7"),
            icmp_error(3, 3, OURS, PEER, ports=(PORT, PORT + 1)),
            icmp_error(3, 3, OURS, PEER),
        )
        found = settled(o, lambda counts: counts["port_unreachable"] > 0)
        assert found == {"unknown_peer": 2, "port_unreachable": 1}


@pytest.mark.root
def test_flood_of_reports_leaves_the_event_loop_its_time() -> None:
    with engine_pair() as o:
        report = icmp_error(3, 3, OURS, PEER)
        for _ in range(20):
            forge(o, *[report] * 500)
            start = time.monotonic()
            o.a.run(asyncio.sleep(0))
            assert time.monotonic() - start < DEADLINE / 10
        found = settled(o, lambda counts: counts["port_unreachable"] > 0)
        assert found["port_unreachable"] < 5000, "the kernel drops what is too much"
        o.a.run(o.engines[0].stop())
        assert o.engines[0].report_counters()["port_unreachable"] >= found["port_unreachable"]
