"""Who sends to us: engines whose peers send from other addresses, and what is told of strangers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from netaddr import IPAddress, IPNetwork

from tests.support.aio import until as eventually
from tests.support.engines import PORT, EnginePair, engine_pair
from tests.support.packets import reply_to
from tests.support.pumprig import NET, OWN, Rig, from_peer, received, rig
from udpoverlay import _fastpath as fp
from udpoverlay.dataplane.senders import SenderWatch
from udpoverlay.dataplane.sink import Publisher
from udpoverlay.model.endpoint import Endpoint
from udpoverlay.supervisor import Supervisor

THEIRS = socket.inet_aton("10.5.99.7")
SUBNET = (socket.inet_aton(OWN), 24)
NAT, STRANGER = "127.0.0.2", "127.0.0.3"


# ---- two engines on a cable


def until(condition: Callable[[], bool], facts: Callable[[], object] = lambda: "") -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"never became true: {facts()}"
        time.sleep(0.005)


def reaches(o: EnginePair, both: bool = True) -> None:
    """Datagrams arrive, sent again until they do."""
    with o.a.socket() as left, o.b.socket() as right:
        ways = [(left, right), (right, left)]
        for sender, receiver in ways if both else ways[:1]:
            receiver.settimeout(0.05)

            def came(sender: socket.socket = sender, receiver: socket.socket = receiver) -> bool:
                sender.sendto(b"x", receiver.getsockname())
                try:
                    return receiver.recv(10) == b"x"
                except TimeoutError:
                    return False

            until(came)


@pytest.mark.root
def test_a_peer_that_sends_from_another_address_is_found_out() -> None:
    with engine_pair(public_ips=("", "192.0.2.12")) as o:
        reaches(o)
        assert o.engines[0].proved_senders() == {"192.0.2.12": ["192.0.2.2"]}
        assert o.engines[0].sender_counters()["senders_proved"] == 1
        assert o.engines[1].proved_senders() == {}
        refused = o.counters(0)["inbound_unknown_sender"]
        reaches(o)
        assert o.counters(0)["inbound_unknown_sender"] == refused


@pytest.mark.root
def test_two_peers_that_both_send_from_other_addresses_find_each_other() -> None:
    """Each refuses the other's datagrams, save for the question: none has to come first."""
    with engine_pair(public_ips=("192.0.2.11", "192.0.2.12")) as o:
        reaches(o)
        assert o.engines[0].proved_senders() == {"192.0.2.12": ["192.0.2.2"]}
        assert o.engines[1].proved_senders() == {"192.0.2.11": ["192.0.2.1"]}


@pytest.mark.root
def test_a_host_that_drops_pings_answers_all_the_same() -> None:
    with engine_pair(public_ips=("", "192.0.2.12")) as o:
        ignore = Path("/proc/sys/net/ipv4/icmp_echo_ignore_all")
        o.b.call(lambda: ignore.write_text("1"))
        reaches(o)
        assert o.engines[0].proved_senders() == {"192.0.2.12": ["192.0.2.2"]}


@pytest.mark.root
def test_an_alias_ends_with_its_lease() -> None:
    with engine_pair(public_ips=("", "192.0.2.12")) as o:
        reaches(o)
        a = o.engines[0]
        moved = {o.b.network: Endpoint(IPAddress("192.0.2.99"), PORT)}
        o.a.run(replace(o, 0, moved))
        before = o.counters(0)["inbound_unknown_sender"]
        with o.b.socket() as sender:
            sender.sendto(b"x", (o.a.address, 9))
            until(lambda: o.counters(0)["inbound_unknown_sender"] > before)
        until(lambda: a.proved_senders() == {})
        o.a.run(replace(o, 0, o.routes_of(o.b)))
        reaches(o)


async def replace(o: EnginePair, position: int, routes: dict[IPNetwork, Endpoint]) -> None:
    o.engines[position].replace(routes)


@pytest.mark.root
def test_packets_wait_for_the_first_routes() -> None:
    """A daemon that starts beside running ones: none of them is a stranger to it."""
    with engine_pair(routes=False) as o, o.a.socket() as left, o.b.socket() as right:
        o.b.run(replace(o, 1, o.routes_of(o.a)))
        right.sendto(b"early", left.getsockname())  # b knows the way, a knows no one
        until(lambda: o.counters(1).get("outbound_sent", 0) == 1)
        left.sendto(b"early, too", right.getsockname())
        assert o.counters(0) == {}
        o.a.run(replace(o, 0, o.routes_of(o.b)))
        for position, counter in ((0, "inbound_delivered"), (0, "outbound_sent")):
            until(
                lambda: o.counters(position).get(counter, 0) >= 1,  # noqa: B023 - called at once
                lambda: (o.counters(0), o.counters(1)),
            )
        assert (left.recv(100), right.recv(100)) == (b"early", b"early, too")
        assert "inbound_unknown_sender" not in o.counters(0)
        assert "outbound_no_route" not in o.counters(0)


# ---- the watch alone, on a rig, looked at by hand


class Watched:
    """A rig, and a watch over who sends to it."""

    def __init__(self, r: Rig) -> None:
        self.rig = r
        self.publisher = Publisher(r.table)
        self.watch = SenderWatch(r.pump, [r.worker], self.publisher, r.udp, IPAddress(OWN))
        self.publisher.publish(
            {IPNetwork(f"{NET}/24"): Endpoint(IPAddress("127.0.0.1"), r.peer.getsockname()[1])}
        )

    def send(self, packet: bytes, source: str) -> None:
        """One datagram that the worker takes in at once."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((source, 0))
            sender.sendto(packet, self.rig.udp.getsockname())
        self.rig.step(fp.INBOUND)

    def count(self, name: str) -> int:
        return self.watch.counters()[name]


@contextmanager
def watched() -> Iterator[Watched]:
    with rig(source_check="enforce", subnet=SUBNET) as r:
        yield Watched(r)


def test_a_claim_is_asked_about_and_the_answer_published() -> None:
    with watched() as w:
        w.send(from_peer(), NAT)
        w.watch.look()
        [request] = received(w.rig.peer)
        assert w.count("probes_sent") == 1
        w.send(reply_to(request), NAT)
        w.watch.look()
        assert w.watch.proved() == {"127.0.0.1": [NAT]}
        w.send(from_peer(), NAT)
        assert w.rig.verdicts()["inbound_delivered"] == 1
        # Published again with other routes, it stays.
        w.publisher.publish(
            {
                IPNetwork(f"{NET}/24"): Endpoint(IPAddress("127.0.0.1"), 9),
                IPNetwork("10.5.98.0/24"): Endpoint(IPAddress("127.0.0.9"), 9),
            }
        )
        w.send(from_peer(), NAT)
        assert w.rig.verdicts()["inbound_delivered"] == 2


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(from_peer(source="10.5.1.7"), id="from no lease"),
        pytest.param(from_peer(destination="10.5.99.7"), id="to another"),
        pytest.param(b"nothing", id="no packet"),
    ],
)
def test_what_claims_no_lease_is_not_asked_about(packet: bytes) -> None:
    with watched() as w:
        w.send(packet, "127.0.0.1" if packet[12:16] == THEIRS else STRANGER)
        w.watch.look()
        assert len(w.watch.refused()) <= 1
        assert w.count("probes_sent") == 0


def test_what_answers_nothing_is_lost_and_a_late_answer_proves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("udpoverlay.dataplane.verification.ANSWER_SECONDS", 0.0)
    with watched() as w:
        w.send(from_peer(), NAT)
        w.watch.look()
        [request] = received(w.rig.peer)
        w.watch.look()
        assert w.count("probes_lost") == 1
        w.send(reply_to(request), NAT)
        w.watch.look()
        assert w.watch.proved() == {}


def test_a_probe_that_cannot_be_sent_is_lost() -> None:
    with watched() as w:
        # From a loopback address no other host is reached: the kernel refuses.
        w.publisher.publish({IPNetwork(f"{NET}/24"): Endpoint(IPAddress("192.0.2.1"), 9)})
        w.send(from_peer(), NAT)
        w.watch.look()
        assert (w.count("probes_lost"), w.count("probes_sent")) == (1, 0)


def test_a_stranger_is_told_once_and_only_if_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lines() -> int:
        return caplog.text.count("do not pass the source check")

    monkeypatch.setattr("udpoverlay.dataplane.senders.STEADY_SECONDS", 0.2)
    with watched() as w:
        w.send(from_peer(), STRANGER)
        w.watch.look()
        assert lines() == 0
        time.sleep(0.3)
        w.send(from_peer(), STRANGER)
        w.watch.look()
        assert lines() == 1
        [record] = [each for each in caplog.records if "source check" in each.getMessage()]
        fields = str(vars(record))
        assert STRANGER in fields
        assert "inbound_unknown_sender" in fields
        for _ in range(20):
            w.send(from_peer(), STRANGER)
            w.watch.look()
        assert lines() == 1


def test_a_crowd_of_strangers_costs_a_few_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("udpoverlay.dataplane.senders.STEADY_SECONDS", 0.0)
    with watched() as w:
        for _ in range(2):
            for number in range(100):
                w.send(from_peer(), f"127.1.1.{number + 1}")
            w.watch.look()
        assert 1 <= caplog.text.count("do not pass the source check") <= 10


async def test_an_error_of_ours_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udpoverlay.supervisor.FIRST_PAUSE", 0.01)
    supervisor = Supervisor()
    with watched() as w:

        def comes(condition: Callable[[], bool]) -> bool:
            w.send(from_peer(), NAT)
            return condition()

        supervisor.start("senders", w.watch.run)
        with monkeypatch.context() as patch:
            patch.setattr(w.publisher, "holder", lambda _: 1 / 0)
            await eventually(lambda: comes(lambda: supervisor.failures > 0))
        await eventually(lambda: comes(lambda: w.count("probes_sent") > 0))
        await supervisor.aclose()


async def test_a_watch_without_strangers_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    with watched() as w:
        look = w.watch.look

        def counted() -> None:
            nonlocal looks
            looks += 1
            look()

        monkeypatch.setattr(w.watch, "look", counted)
        task = asyncio.ensure_future(w.watch.run())
        for _ in range(20):
            w.send(from_peer(), "127.0.0.1")
            await asyncio.sleep(0.01)
        assert looks == 0
        w.send(from_peer(), STRANGER)
        await eventually(lambda: looks > 0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# ---- whose lease an address is in


def test_the_publisher_knows_who_holds_an_address() -> None:
    publisher = Publisher(fp.RouteTable())
    wide, narrow = IPNetwork("10.5.0.0/16"), IPNetwork("10.5.7.0/24")
    publisher.publish(
        {
            wide: Endpoint(IPAddress("192.0.2.1"), 1),
            narrow: Endpoint(IPAddress("192.0.2.2"), 2),
            IPNetwork("fd00::/64"): Endpoint(IPAddress("192.0.2.3"), 3),
        }
    )

    def at(text: str) -> tuple[str, bytes] | None:
        held = publisher.holder(socket.inet_aton(text))
        return None if held is None else (str(held[0]), held[1])

    assert at("10.5.7.9") == ("10.5.7.0/24", socket.inet_aton("192.0.2.2"))
    assert at("10.5.8.9") == ("10.5.0.0/16", socket.inet_aton("192.0.2.1"))
    assert at("10.6.0.1") is None
    assert publisher.port(narrow) == 2
    assert publisher.port(IPNetwork("10.9.0.0/24")) == 0
    assert publisher.holds(narrow, socket.inet_aton("192.0.2.2"))
    assert not publisher.holds(narrow, socket.inet_aton("192.0.2.1"))
    publisher.publish({})
    assert at("10.5.7.9") is None
