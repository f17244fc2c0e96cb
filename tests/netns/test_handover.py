"""A daemon follows another one: nothing that is under way notices, and what fails changes nothing.

RESTARTS=100 makes as many restarts of each kind as a release is judged by; the counts are printed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.cluster import ADMIN_SOCKET, UDPOVERLAYD, Cluster, Node, links_of, wait_until
from tests.support.wire import ping
from udpoverlay.lab.actions import web
from udpoverlay.lab.hosts import Process
from udpoverlay.lab.traffic import Pair, datagrams, icmp_trips, streams

pytestmark = [pytest.mark.root, pytest.mark.etcd, pytest.mark.timeout(600)]

RESTARTS = int(os.environ.get("RESTARTS", "3"))
EACH_SECONDS = 1.5
"""From one restart to the next."""
RATE = 2000
"""Datagrams of 64 B a second: with the rest, what the TUN's queue holds over a restart."""
BATCHES = 128
"""Packets that a worker may hold."""
MANAGER = [sys.executable, "-m", "tests.support.manager"]


@dataclass
class Pairs:
    """n1's daemon is the one that is restarted."""

    cluster: Cluster
    one: Node
    other: Node
    manager: Process | None = None

    @property
    def pair(self) -> Pair:
        return Pair(self.one.end, self.other.end)

    def argv(self, *more: str) -> list[str]:
        return [*self.one.process.argv, *more]

    def replace(self, *more: str) -> Process:
        """Start another daemon, and wait until the old one has ended."""
        old = self.one.process
        new = self.one.host.popen(
            [*UDPOVERLAYD, *old.argv[len(UDPOVERLAYD) :], "--replace", *more],
            log=f"replace-{time.monotonic_ns()}.log",
        )
        wait_until(lambda: old.poll() is not None or new.poll() is not None, "one has ended")
        assert new.poll() is None, new.log()
        new_argv = tuple(word for word in new.argv if word != "--replace")
        new.argv = new_argv
        self.one.process = new
        wait_until(lambda: self.status() is not None, "the new one answers")
        return new

    def status(self) -> dict[str, object] | None:
        try:
            return self.one.status()
        except Exception:
            return None

    def managed(self) -> None:
        """End n1's daemon, and start it below a service manager."""
        argv = list(self.one.process.argv)
        self.one.process.stop()
        self.manager = self.one.host.popen([*MANAGER, *argv], log="manager.log")
        self.until_ready(1)
        wait_until(lambda: ping_once(self), "packets flow")

    def until_ready(self, count: int) -> None:
        assert self.manager is not None
        log = self.manager.log
        try:
            wait_until(lambda: f"ready {count}\n" in log(), f"start {count} is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}; its log ends with {log()[-4000:]}") from None

    def restart(self, number: int, count: int) -> None:
        assert self.manager is not None
        self.manager.signal(number)
        self.until_ready(count)


def ping_once(found: Pairs) -> bool:
    return ping(found.one.host, found.one.address, found.other.address, seconds=0.3) is not None


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pairs]:
    # A receiver that ends in a gap would count all that comes after it as lost.
    monkeypatch.setattr("udpoverlay.lab.traffic._IDLE_SECONDS", 10.0)
    with Cluster("n1", "n2") as cluster:
        one, other = cluster.start("n1"), cluster.start("n2")
        cluster.wait_for_peers(one, other)
        found = Pairs(cluster, one, other)
        yield found
        if found.manager is not None:
            found.manager.signal(signal.SIGTERM)
            wait_until(lambda: found.manager.poll() is not None, "the manager has ended")  # type: ignore[union-attr]


@dataclass
class Loss:
    """Of what was under way during restarts."""

    tcp_bytes: int
    tcp_intact: bool
    sent: int
    arrived: int
    pings: int
    answered: int


def under_traffic(found: Pairs, restart: Callable[[int], object], count: int = RESTARTS) -> Loss:
    """Restart `count` times under TCP both ways, paced 64 B datagrams and pings."""
    seconds = count * EACH_SECONDS + 1
    back = Pair(found.other.end, found.one.end)
    results: dict[str, Any] = {}
    works: dict[str, Callable[[], Any]] = {
        "there": lambda: streams(found.pair, seconds=seconds)[0],
        "back": lambda: streams(back, seconds=seconds)[0],
        "datagrams": lambda: datagrams(found.pair, size=64, seconds=seconds, rate=RATE),
        "pings": lambda: icmp_trips(found.pair, size=56, count=int(seconds * 20), pause=0.05),
    }
    threads = [
        threading.Thread(target=lambda n=name, w=work: results.update({n: w()}))
        for name, work in works.items()
    ]
    for thread in threads:
        thread.start()
    for number in range(count):
        time.sleep(EACH_SECONDS / 2)
        restart(number)
        time.sleep(EACH_SECONDS / 2)
    for thread in threads:
        thread.join()
    assert results.keys() == works.keys()
    tcp = [results["there"], results["back"]]
    sent, arrived = results["datagrams"]
    trips = results["pings"]
    intact = all(out["bytes"] == into["bytes"] and not into["corrupt"] for out, into in tcp)
    return Loss(
        sum(into["bytes"] for _, into in tcp),
        intact,
        sent["datagrams"],
        arrived["datagrams"],
        trips["sent"],
        trips["answered"],
    )


def full_speed(found: Pairs) -> None:
    """What a tunnel does that is whole: so much in half a second, every byte right."""
    [(sent, came)] = streams(found.pair, seconds=0.5)
    assert sent["bytes"] == came["bytes"] > 50_000_000
    assert came["corrupt"] == 0


def test_replacing_loses_no_packet_and_no_connection(
    two: Pairs, capsys: pytest.CaptureFixture[str]
) -> None:
    before, index = two.one.counters(), links_of(two.one.host)["flannel0"]["index"]
    loss = under_traffic(two, lambda _: two.replace())
    with capsys.disabled():
        print(f"\n{RESTARTS} replaced: {loss}")
    assert loss.tcp_intact
    assert (loss.arrived, loss.answered) == (loss.sent, loss.pings)
    assert links_of(two.one.host)["flannel0"]["index"] == index
    after = two.one.counters()
    assert after["outbound_sent"] >= before["outbound_sent"] + loss.sent
    assert two.one.status()["dataplane"]["unaccounted"] == {"outbound": 0, "inbound": 0}
    assert two.other.errors() == []
    full_speed(two)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2], ids=["restart", "kill"])
def test_restart_below_a_service_manager_breaks_no_connection(
    two: Pairs, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGHUP: the manager ends the daemon in order; SIGUSR2: by SIGKILL. Both keep descriptors."""
    two.managed()
    index = links_of(two.one.host)["flannel0"]["index"]
    before = two.one.counters()
    loss = under_traffic(two, lambda done: two.restart(number, done + 2))
    with capsys.disabled():
        print(f"\n{RESTARTS} restarted by {signal.Signals(number).name}: {loss}")
    assert loss.tcp_intact
    # What a worker that is killed has just read is lost with it: a batch or two.
    held = 0 if number == signal.SIGHUP else BATCHES * RESTARTS
    assert loss.answered >= loss.pings - min(held, RESTARTS)
    assert loss.arrived >= loss.sent - held
    assert links_of(two.one.host)["flannel0"]["index"] == index
    if number == signal.SIGHUP:
        assert two.one.counters()["outbound_sent"] >= before["outbound_sent"] + loss.sent
    full_speed(two)


def test_restart_goes_on_with_the_old_routes_while_the_registry_is_away(two: Pairs) -> None:
    two.managed()
    two.cluster.etcd.stop()
    assert two.manager is not None
    two.manager.signal(signal.SIGHUP)
    wait_until(lambda: "ended 0" in two.manager.log(), "the old one has ended")  # type: ignore[union-attr]
    wait_until(lambda: ping_once(two), "packets flow without a registry")
    assert "ready 2\n" not in two.manager.log()
    full_speed(two)
    two.cluster.etcd.start()
    two.until_ready(2)
    full_speed(two)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--iface=nosuch", "nosuch"),
        ("--etcd-cafile=/nosuch/ca.pem", "/nosuch/ca.pem"),
        ("--workers=3", "another number of workers"),
        ("--offload-off=vnet-hdr", "other offloads"),
    ],
)
def test_daemon_that_cannot_take_over_leaves_the_old_one_running(
    two: Pairs, flag: str, words: str
) -> None:
    new = two.one.host.popen([*two.one.process.argv, "--replace", flag], log="new.log")
    wait_until(lambda: new.poll() is not None, "it gives up")
    assert new.poll() == 1, new.log()
    assert words in new.log()
    assert two.one.process.poll() is None
    full_speed(two)
    two.replace()
    full_speed(two)


def handover(found: Pairs, step: str) -> tuple[int, str]:
    body = json.dumps({"step": step})
    return found.one.host.call(
        web.request, address=ADMIN_SOCKET, method="POST", path="/v1/handover", body=body
    )


def test_daemon_that_fails_between_the_steps_gives_the_tunnel_back(two: Pairs) -> None:
    assert handover(two, "commit")[0] == 409
    assert handover(two, "offer")[0] == 200
    assert handover(two, "release")[0] == 200
    assert handover(two, "release")[0] == 409
    assert not ping_once(two)  # this is what would be lost without what follows
    wait_until(lambda: ping_once(two), "the old daemon goes on")
    assert two.one.lines("was to take over has failed")
    assert handover(two, "commit")[0] == 409
    full_speed(two)
    two.replace()
    full_speed(two)
