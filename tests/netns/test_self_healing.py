"""A tunnel or an underlay that changes under a running daemon: noticed, repaired, logged.

Two hosts; datagrams go from n1 to n2 and back all the time. What counts is how long none comes.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.cluster import SUBNET_FILE, Cluster, Node, wait_until
from udpoverlay.lab.actions import files, links
from udpoverlay.lab.hosts import Fabric

pytestmark = [pytest.mark.root, pytest.mark.etcd]

INTERVAL = 0.005
SECONDS = 2.0
"""What a repair may take, from the change to the first datagram that passes again."""
STEADY = 40
"""So many in a row without a loss: it works again."""
PORT = 7007


class Stream:
    """Datagrams from one host to another and echoed back, one each 5 ms, as long as it is open."""

    def __init__(self, here: Node, there: Node) -> None:
        self._there = (there.address, PORT)
        self._socket = here.host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((here.address, PORT))
        self._socket.setblocking(False)
        self._echo = there.host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._echo.bind(self._there)
        self._echo.settimeout(0.2)
        self._open = True
        self.sent: list[float] = []
        self.came: set[int] = set()
        self._threads = [threading.Thread(target=part) for part in (self._send, self._answer)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while self._open:
            self.sent.append(time.monotonic())
            with contextlib.suppress(OSError):
                self._socket.sendto(b"%d" % (len(self.sent) - 1), self._there)
            time.sleep(INTERVAL)
            with contextlib.suppress(OSError):
                while True:
                    self.came.add(int(self._socket.recv(64)))

    def _answer(self) -> None:
        while self._open:
            with contextlib.suppress(OSError):
                data, source = self._echo.recvfrom(64)
                self._echo.sendto(data, source)

    def recovered(self, since: float) -> float:
        """Seconds from `since` to the first of 40 datagrams in a row that came back."""
        first = -1

        def steady() -> bool:
            nonlocal first
            run = 0
            for number, sent in enumerate(list(self.sent)):
                run = run + 1 if sent > since and number in self.came else 0
                if run == STEADY:
                    first = number - STEADY + 1
                    return True
            return False

        wait_until(steady, "datagrams come back again")
        return self.sent[first] - since

    def close(self) -> None:
        self._open = False
        for thread in self._threads:
            thread.join()
        for each in (self._socket, self._echo):
            each.close()


@dataclass
class World:
    cluster: Cluster
    n1: Node
    n2: Node
    stream: Stream

    def ip(self, *words: str) -> None:
        status, output = self.n1.host.run(["ip", *words])
        assert status == 0, f"ip {' '.join(words)}: {output}"

    def device(self) -> dict[str, object]:
        name = self.n1.status()["node"]["tun"]
        for link in self.n1.host.call(links.links):
            if link["name"] == name:
                return link
        raise AssertionError(f"no {name}")


@pytest.fixture
def world() -> Iterator[World]:
    with Cluster("n1", "n2") as cluster:
        n1, n2 = cluster.start("n1"), cluster.start("n2")
        cluster.wait_for_peers(n1, n2)
        stream = Stream(n1, n2)
        try:
            stream.recovered(time.monotonic())
            yield World(cluster, n1, n2, stream)
        finally:
            stream.close()


def down(world: World) -> None:
    world.ip("link", "set", "flannel0", "down")


def down_and_up(world: World) -> None:
    world.ip("link", "set", "flannel0", "down")
    world.ip("link", "set", "flannel0", "up")


def renamed(world: World) -> None:
    world.ip("link", "set", "flannel0", "down")
    world.ip("link", "set", "flannel0", "name", "odd0")


def flushed(world: World) -> None:
    world.ip("address", "flush", "dev", "flannel0")


def route_deleted(world: World) -> None:
    world.ip("route", "del", "10.5.0.0/16")


def deleted(world: World) -> None:
    world.ip("link", "del", "flannel0")


def small(world: World) -> None:
    world.ip("link", "set", "flannel0", "mtu", "600")


CHANGES: dict[str, tuple[Callable[[World], None], str]] = {
    "down": (down, "it was down"),
    "down and up": (down_and_up, "its route to 10.5.0.0/16 was gone"),
    "renamed": (renamed, "tunnel device renamed"),
    "address flushed": (flushed, "was gone"),
    "route deleted": (route_deleted, "its route to 10.5.0.0/16 was gone"),
    "deleted": (deleted, "tunnel rebuilt"),
    "mtu": (small, "its MTU was 600"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_tunnel_device_that_was_changed_is_as_before(world: World, name: str) -> None:
    change, line = CHANGES[name]
    features = world.n1.status()["dataplane"]["features"]
    since = time.monotonic()
    change(world)
    assert world.stream.recovered(since) < SECONDS
    wait_until(lambda: bool(world.n1.lines(line)), f"{line!r} is in the log")
    wait_until(lambda: world.device()["mtu"] == 1472, "the MTU is as before")
    status = world.n1.status()
    assert status["network"]["troubles"] == {}
    assert status["network"]["repairs"] + status["network"]["rebuilds"] > 0
    assert status["dataplane"]["counters"]["outbound_sent"] >= len(world.stream.came)
    assert status["dataplane"]["features"] == features  # full speed is back
    assert world.n1.process.poll() is None
    assert world.n1.errors() == []


def test_traffic_of_a_peer_goes_on_counting_over_a_rebuild(world: World) -> None:
    def traffic() -> dict[str, Any]:
        [peer] = world.n1.ask("/v1/peers")["peers"]
        found: dict[str, Any] = peer["traffic"]
        return found

    before = traffic()
    assert before["sent_packets"] > 0
    deleted(world)
    assert world.stream.recovered(time.monotonic()) < SECONDS
    assert world.n1.status()["network"]["rebuilds"] == 1
    after = traffic()
    for name in ("sent_packets", "sent_bytes", "delivered_packets", "delivered_bytes"):
        assert after[name] > before[name]
    assert after["heard_seconds_ago"] < SECONDS


def test_underlay_that_goes_down_and_up_again(world: World) -> None:
    world.ip("link", "set", "eth0", "down")
    wait_until(lambda: bool(world.n1.status()["network"]["troubles"]), "the status says so")
    world.ip("link", "set", "eth0", "up")
    world.ip("route", "replace", "default", "via", Fabric.GATEWAY)
    assert world.stream.recovered(time.monotonic()) < SECONDS
    wait_until(lambda: world.n1.status()["network"]["troubles"] == {}, "it is over")


def test_mtu_of_the_underlay_becomes_the_tunnels(world: World) -> None:
    since = time.monotonic()
    world.ip("link", "set", "eth0", "mtu", "1400")
    wait_until(lambda: world.device()["mtu"] == 1372, "the tunnel follows")
    assert world.stream.recovered(since) < SECONDS
    text = world.n1.host.call(files.read_text, path=SUBNET_FILE)
    assert "FLANNEL_MTU=1372\n" in text
    assert world.n1.status()["node"]["mtu"] == 1372
    world.ip("link", "set", "eth0", "mtu", "1500")
    wait_until(lambda: world.device()["mtu"] == 1472, "the tunnel follows back")


def moved(world: World) -> str:
    """Another address of the interface, as a DHCP server gives; returns it."""
    old = world.cluster.fabric.address("n1")
    new = old.rpartition(".")[0] + ".77"
    world.ip("address", "flush", "dev", "eth0")
    world.ip("address", "add", f"{new}/24", "dev", "eth0")
    world.ip("route", "replace", "default", "via", Fabric.GATEWAY)
    return new


def test_another_address_of_the_underlay_is_published(world: World) -> None:
    since = time.monotonic()
    new = moved(world)
    assert world.stream.recovered(since) < SECONDS
    key = world.n1.subnet.replace("/", "-")
    assert f'"PublicIP":"{new}"' in (world.cluster.leases()[key] or "")
    status = world.n1.status()
    assert status["node"]["public_ip"] == status["node"]["interface_address"] == new
    assert world.n1.process.poll() is None
    assert world.n2.ask("/v1/peers")["peers"][0]["public_ip"] == new


def test_interface_that_is_made_again_carries_the_same_tunnel(world: World) -> None:
    world.ip("link", "del", "eth0")
    wait_until(lambda: bool(world.n1.status()["network"]["troubles"]), "the status says so")
    world.cluster.fabric._join("n1", "eth0", 1500, True)
    assert world.stream.recovered(time.monotonic()) < SECONDS
    wait_until(lambda: world.n1.status()["network"]["troubles"] == {}, "it is over")
    assert world.n1.status()["network"]["rebuilds"] == 0


def test_default_route_that_moves_takes_the_tunnel_along(world: World) -> None:
    """Both interfaces stand in the same network, as on a host whose cable is moved."""
    fabric = world.cluster.fabric
    world.n1.host.add_veth("eth1", fabric.switch, "port9", 1500)
    fabric.switch.call(links.set_link, name="port9", master="br0")
    world.ip("address", "add", "198.18.0.99/24", "dev", "eth1")
    since = time.monotonic()
    world.ip("route", "replace", "default", "via", Fabric.GATEWAY, "dev", "eth1")
    assert world.stream.recovered(since) < SECONDS
    wait_until(lambda: world.n1.status()["node"]["interface"] == "eth1", "it goes by eth1")
    assert world.n1.status()["node"]["public_ip"] == "198.18.0.99"


def test_another_address_is_noticed_where_no_default_route_is() -> None:
    with Cluster("n1") as cluster:
        host = cluster.fabric.hosts["n1"]
        assert host.run(["ip", "route", "del", "default"]) == (0, "")
        n1 = cluster.start("n1", "--iface=eth0")
        for words in (
            "address add 198.18.0.77/25 dev eth0",
            f"address del {cluster.fabric.address('n1')}/24 dev eth0",
        ):
            assert host.run(["ip", *words.split()]) == (0, "")
        since = time.monotonic()
        wait_until(lambda: n1.status()["node"]["public_ip"] == "198.18.0.77", "it follows")
        assert time.monotonic() - since < SECONDS


def test_public_ip_that_was_fixed_stays() -> None:
    with Cluster("n1") as cluster:
        n1 = cluster.start("n1", "--public-ip=198.18.0.200", "--iface=eth0")
        before = cluster.leases()
        status, output = n1.host.run(["ip", "address", "flush", "dev", "eth0"])
        assert status == 0, output
        status, output = n1.host.run(["ip", "address", "add", "198.18.0.77/24", "dev", "eth0"])
        assert status == 0, output
        wait_until(lambda: n1.status()["node"]["interface_address"] == "198.18.0.77", "it follows")
        assert n1.status()["node"]["public_ip"] == "198.18.0.200"
        assert [value for value in cluster.leases().values()] == [*before.values()]


def test_device_that_is_deleted_again_and_again_costs_no_busy_loop(world: World) -> None:
    for _ in range(8):
        with contextlib.suppress(AssertionError):
            world.ip("link", "del", "flannel0")
        time.sleep(0.1)
    assert world.stream.recovered(time.monotonic()) < SECONDS
    assert world.n1.status()["network"]["rebuilds"] <= 8
