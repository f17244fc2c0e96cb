"""cli/admin/ping.py and traceroute.py: words, exit codes and JSON; nothing is sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.admin import Command, Documents
from udpoverlay.cli.admin import ping, traceroute, way
from udpoverlay.reach.echo import Event, Kind
from udpoverlay.reach.live import exchange

Rule = Callable[[int, int, int], Event | None]


def answered(sequence: int, size: int = 0, ttl: int = 64) -> Event | None:
    return Event(sequence, Kind.ANSWER, time.monotonic(), "10.5.73.0", 62)


def silent(sequence: int, size: int = 0, ttl: int = 64) -> Event | None:
    return None


class World:
    """What is on the way to 10.5.73.0, and what changes while it is asked."""

    def __init__(self) -> None:
        self.rule: Rule = answered
        self.device = "flannel0"
        self.meanwhile: Callable[[], None] = lambda: None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    class Socket:
        source, mtu = "10.5.72.0", 1472

        def __init__(self, target: str, source: str = "") -> None:
            self.coming: list[Event] = []

        def send(self, sequence: int, size: int, ttl: int = 64) -> Event | None:
            made.meanwhile()
            event = made.rule(sequence, size, ttl)
            self.coming += [event] if event else []
            return None

        def receive(self, until: float) -> list[Event]:
            found, self.coming = self.coming, []
            if not found:
                time.sleep(max(0.0, until - time.monotonic()))
            return found

        def __enter__(self) -> Socket:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    async def device(address: str) -> str:
        return made.device

    monkeypatch.setattr(ping, "EchoSocket", Socket)
    monkeypatch.setattr(traceroute, "EchoSocket", Socket)
    monkeypatch.setattr(way, "_device", device)
    monkeypatch.setattr(exchange, "_LEAST_SECONDS", 0.01)
    return made


QUICK = ("-i", "0.001", "-W", "0.01", "-c", "3")


def flat(command: Command) -> str:
    return " ".join(command.out.split())


def test_answered_ping_is_summed_up_in_80_columns(
    found: Documents, command: Command, world: World
) -> None:
    assert command("ping", "192.0.2.2", *QUICK) == 0
    assert max(map(len, command.out.splitlines())) <= 80
    assert command.out.startswith(
        "ping 10.5.73.0 (tunnel of 192.0.2.2) from 10.5.72.0 by flannel0, 84 bytes"
    )
    assert "answered 3 of 3, loss 0 %" in flat(command)
    assert "1,472 bytes pass, the tunnel's MTU" in flat(command)


def test_one_lost_request_is_exit_1(found: Documents, command: Command, world: World) -> None:
    world.rule = lambda n, size, ttl: None if n == 2 else answered(n)
    assert command("ping", "192.0.2.2", *QUICK) == 1
    assert "2 no answer within 0.01 s" in flat(command)
    assert "2 of 3, loss 33.3 %" in flat(command)


def test_packets_that_left_unanswered_are_told_with_what_to_do(
    found: Documents, command: Command, world: World
) -> None:
    peers: Any = found["/v1/peers"]["peers"]
    world.rule = silent

    def count() -> None:
        peers[0]["traffic"]["sent_packets"] += 1

    world.meanwhile = count
    assert command("ping", "192.0.2.2", *QUICK) == 1
    assert "loss 100 %" in flat(command)
    assert "3 packets left this host for 192.0.2.2 UDP 8285, and nothing came back" in flat(command)
    assert "fix udpoverlay explain 10.5.73.0" in flat(command)


def test_black_hole_is_exit_3_and_named_with_the_mtu_that_fixes_it(
    found: Documents, command: Command, world: World
) -> None:
    world.rule = lambda n, size, ttl: answered(n) if size <= 1372 else None
    assert command("ping", "192.0.2.2", *QUICK) == 3
    assert "1,372 bytes pass, of 1,472, the tunnel's MTU" in flat(command)
    assert "lost in silence: a black hole" in flat(command)
    assert "ip link set eth0 mtu 1400" in flat(command)


def test_router_that_reports_the_mtu_is_named(
    found: Documents, command: Command, world: World
) -> None:
    world.rule = lambda n, size, ttl: (
        answered(n)
        if size <= 1300
        else Event(n, Kind.TOO_BIG, 0.0, "10.5.73.0", mtu=1300, words="fragmentation needed")
    )
    document = command.json("ping", "10.5.73.7", *QUICK)
    assert document["size"] == {
        "largest": 1300,
        "asked": 1472,
        "limit": "icmp",
        "reporter": "10.5.73.0",
        "reported_mtu": 1300,
    }
    assert "10.5.73.0 says fragmentation needed, at most 1,300" in document["findings"][0]["fact"]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            Event(0, Kind.UNREACHABLE, 0.0, "10.5.73.0", words="host unreachable"),
            "10.5.73.0 says host unreachable, to 3 requests",
        ),
        (
            Event(0, Kind.REFUSED_HERE, 0.0, words="a packet filter of this host forbids it"),
            "3 requests not sent: a packet filter of this host forbids it",
        ),
        (
            Event(0, Kind.TOO_BIG_HERE, 0.0, words="too big for this host"),
            "3 requests not sent: 84 bytes are too big here",
        ),
    ],
)
def test_error_in_place_of_an_answer_is_the_finding(
    found: Documents, command: Command, world: World, event: Event, words: str
) -> None:
    world.rule = lambda n, size, ttl: replace(event, sequence=n)
    document = command.json("ping", "10.5.73.7", *QUICK)
    [finding] = document["findings"]
    assert finding["fact"] == words
    assert finding["fix"]
    assert document["answered"] == 0


def test_json_has_the_figures_and_no_other_line(
    found: Documents, command: Command, world: World
) -> None:
    document = command.json("ping", "10.5.73.7", *QUICK, "--no-size-search")
    assert (document["sent"], document["answered"], document["loss"]) == (3, 3, 0)
    assert set(document["rtt_ms"]) == {"min", "p50", "avg", "max", "mdev"}
    assert (document["peer"], document["size"], document["findings"]) == ("192.0.2.2", None, [])


def test_way_past_the_tunnel_is_noted(found: Documents, command: Command, world: World) -> None:
    world.device = "eth0"
    command("ping", "10.5.73.7", *QUICK)
    assert "note: the kernel sends 10.5.73.7 to eth0, not to flannel0" in flat(command)


def test_without_a_daemon_an_address_is_pinged_all_the_same(command: Command, world: World) -> None:
    """As beside flanneld."""
    assert command("ping", "10.5.73.0", *QUICK) == 0
    assert "note: no lease is known: no daemon on this host has the admin socket" in flat(command)
    assert "the route's MTU" in flat(command)


def test_address_of_no_lease_sends_nothing(
    found: Documents, command: Command, world: World
) -> None:
    assert command("ping", "203.0.113.1", *QUICK) == 1
    assert "nor the public IP of a lease" in command.err
    assert command.out == ""


def expired(address: str) -> Callable[[int], Event]:
    return lambda n: Event(n, Kind.TIME_EXCEEDED, time.monotonic(), address, words="time exceeded")


def test_every_hop_is_shown_with_its_name(found: Documents, command: Command, world: World) -> None:
    way_there = {1: expired("10.5.72.0"), 2: expired("10.5.73.0"), 3: expired("10.5.73.0")}
    world.rule = lambda n, size, ttl: (
        way_there[ttl](n)
        if ttl in way_there
        else Event(n, Kind.ANSWER, time.monotonic(), "10.5.73.7", 60)
    )
    assert command("traceroute", "10.5.73.7") == 0
    lines = command.out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = flat(command)
    for words in (
        "this host's daemon",
        "daemon of 192.0.2.2, lease 10.5.73.0/24",
        "kernel of 192.0.2.2, lease 10.5.73.0/24",
        "target, in 10.5.73.0/24 of 192.0.2.2",
    ):
        assert words in shown
    document = command.json("traceroute", "10.5.73.7")
    assert document["reached"]
    assert [(hop["ttl"], hop["address"]) for hop in document["hops"]] == [
        (1, "10.5.72.0"),
        (2, "10.5.73.0"),
        (3, "10.5.73.0"),
        (4, "10.5.73.7"),
    ]


def test_target_that_is_not_reached_is_exit_1(
    found: Documents, command: Command, world: World
) -> None:
    world.rule = lambda n, size, ttl: expired("10.5.72.0")(n) if ttl == 1 else None
    assert command("traceroute", "10.5.73.7", "-m", "2", "-q", "1", "-W", "0.01") == 1
    assert "no answer from 10.5.73.7: udpoverlay explain 10.5.73.7" in flat(command)
