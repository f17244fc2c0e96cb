"""Datagrams of hosts that are no nodes, and of nodes that claim what is not theirs.

    stranger ─┐                     n1 flannel0 ── pod
              ├── 198.18.0.0/24 ──  n1 127.0.0.1, 198.18.0.11
    n2 ───────┘                     169.254.169.254 behind n1's default route

Each attack is tried on two daemons: with `--source-check=off` it arrives, as with flanneld, so the
attack is a real one; by default it is refused under the name of its reason.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.cluster import PREFIX, Cluster, Node, wait_until
from tests.support.stranger import (
    Pod,
    inner,
    listening,
    pod_of,
    send,
    send_as,
    sysctl,
)
from tests.support.wire import captured, ping
from udpoverlay import _fastpath as fp
from udpoverlay.lab.actions import links
from udpoverlay.lab.hosts import Host

pytestmark = [pytest.mark.root, pytest.mark.etcd]

METADATA = "169.254.169.254"
KUBELET = 10250
ELSEWHERE = "10.5.251.0"
"""A subnet that a third node has leased; no host has its address."""
THIRD = "198.18.0.77"


@dataclass
class World:
    """What an attack can reach."""

    cluster: Cluster
    n1: Node
    n2: Node
    pod1: Pod
    pod2: Pod
    stranger: Host

    @property
    def target(self) -> str:
        """Underlay address of the attacked node."""
        return self.cluster.fabric.address("n1")

    def address(self, name: str) -> str:
        return self.cluster.fabric.address(name)


def build(stack: ExitStack, *flags: str) -> World:
    cluster = stack.enter_context(Cluster("n1", "n2", "stranger"))
    cluster.etcd.put(
        f"{PREFIX}/subnets/{ELSEWHERE}-24", f'{{"PublicIP":"{THIRD}","PublicIPv6":null}}'
    )
    n1, n2 = cluster.start("n1", *flags), cluster.start("n2", *flags)
    cluster.wait_for_peers(n1, n2)
    pods = [stack.enter_context(pod_of(node)) for node in (n1, n2)]
    # A host as lax as it can be: what holds must be ours.
    for name in ("all", "default", "flannel0", "eth0"):
        sysctl(n1.host, f"net/ipv4/conf/{name}/rp_filter", 0)
        sysctl(n1.host, f"net/ipv4/conf/{name}/route_localnet", 1)
    switch = cluster.fabric.switch
    switch.call(links.add_address, name="br0", address=METADATA, prefix_len=32)
    return World(cluster, n1, n2, pods[0], pods[1], cluster.fabric.hosts["stranger"])


@pytest.fixture(scope="module")
def lax() -> Iterator[World]:
    """Daemons that check nothing."""
    with ExitStack() as stack:
        yield build(stack, "--source-check=off")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Daemons with their defaults."""
    with ExitStack() as stack:
        yield build(stack)


# ---- attacks: (sends what, arrives where)


@dataclass(frozen=True)
class Attack:
    """`witness` is where the payload arrives where nothing holds it up."""

    send: Callable[[World, bytes], None]
    witness: Callable[[World], tuple[Host, str, int]]
    verdict: str
    passes_when_off: bool = True
    """False: martians, which never pass."""


def from_stranger(
    destination: Callable[[World], str], port: int, source: Callable[[World], str] | None = None
) -> Callable[[World, bytes], None]:
    """With an inner source of a node's container, so that answers would find their way."""

    def attack(world: World, payload: bytes) -> None:
        inside = source(world) if source else world.pod2.address
        send(world.stranger, world.target, inner(inside, destination(world), payload, port))

    return attack


def from_node(
    destination: Callable[[World], str], port: int, source: Callable[[World], str] | None = None
) -> Callable[[World, bytes], None]:
    """From the address of a leased node: forged, or sent by the node itself."""

    def attack(world: World, payload: bytes) -> None:
        inside = source(world) if source else world.pod2.address
        packet = inner(inside, destination(world), payload, port)
        send_as(world.stranger, world.address("n2"), world.target, packet)

    return attack


def pod(world: World) -> str:
    return world.pod1.address


def other_pod(world: World) -> str:
    return world.pod2.address


def third_pod(_: World) -> str:
    return f"{ELSEWHERE[:-1]}7"


def host(world: World) -> str:
    return world.target


def at_pod(world: World) -> tuple[Host, str, int]:
    return world.pod1.host, world.pod1.address, 7000


def at_other_pod(world: World) -> tuple[Host, str, int]:
    return world.pod2.host, world.pod2.address, 7000


def at_metadata(world: World) -> tuple[Host, str, int]:
    return world.cluster.fabric.switch, METADATA, 80


def at_loopback(world: World) -> tuple[Host, str, int]:
    return world.n1.host, "127.0.0.1", 6379


def at_kubelet(world: World) -> tuple[Host, str, int]:
    return world.n1.host, world.target, KUBELET


ATTACKS = {
    "into a container": Attack(from_stranger(pod, 7000), at_pod, "inbound_unknown_sender"),
    "on to another node": Attack(
        from_stranger(other_pod, 7000, third_pod), at_other_pod, "inbound_unknown_sender"
    ),
    "to the host's own address, past INPUT": Attack(
        from_stranger(host, KUBELET), at_kubelet, "inbound_unknown_sender"
    ),
    "to the metadata address": Attack(
        from_stranger(lambda _: METADATA, 80),
        at_metadata,
        "inbound_unknown_sender",
        passes_when_off=False,
    ),
    "to loopback": Attack(
        from_stranger(lambda _: "127.0.0.1", 6379),
        at_loopback,
        "inbound_unknown_sender",
        passes_when_off=False,
    ),
    "as a node, on to another node": Attack(
        from_node(other_pod, 7000, third_pod), at_other_pod, "inbound_foreign_destination"
    ),
    "as a node, to the host's own address": Attack(
        from_node(host, KUBELET), at_kubelet, "inbound_foreign_destination"
    ),
    "as a node, to the metadata address": Attack(
        from_node(lambda _: METADATA, 80),
        at_metadata,
        "inbound_martian_destination",
        passes_when_off=False,
    ),
    "as a node, to loopback": Attack(
        from_node(lambda _: "127.0.0.1", 6379),
        at_loopback,
        "inbound_martian_destination",
        passes_when_off=False,
    ),
    "as a node, from another node's subnet": Attack(
        from_node(pod, 7000, third_pod), at_pod, "inbound_foreign_source"
    ),
    "as a node, from another node's public address": Attack(
        from_node(pod, 7000, lambda _: THIRD), at_pod, "inbound_foreign_source"
    ),
    "as a node, from outside the overlay": Attack(
        from_node(pod, 7000, lambda _: "203.0.113.9"), at_pod, "inbound_foreign_source"
    ),
    "as a node, from our own subnet": Attack(
        from_node(pod, 7000, lambda world: world.pod1.address[:-1] + "8"),
        at_pod,
        "inbound_martian_source",
        passes_when_off=False,
    ),
    "as a node, from our public address": Attack(
        from_node(pod, 7000, host), at_pod, "inbound_martian_source", passes_when_off=False
    ),
    **{
        f"as a node, from {address}": Attack(
            from_node(pod, 7000, lambda _, address=address: address),  # type: ignore[misc]
            at_pod,
            "inbound_martian_source",
            passes_when_off=False,
        )
        for address in ("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", METADATA)
    },
}
each_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


def count(node: Node, name: str) -> int:
    return node.counters()[name]


VERDICTS = {name for name, direction, *_ in fp.VERDICTS if direction == "inbound"}


def fate(world: World, attack: Attack) -> tuple[str, bool]:
    """What one datagram is counted as at n1, and whether its payload came to the witness."""
    payload = os.urandom(16)
    before = world.n1.counters()
    node, address, port = attack.witness(world)

    def counted() -> list[str]:
        now = world.n1.counters()
        # A claim brings about a question, and the answer to that is counted as well.
        names = VERDICTS - {"inbound_probe"}
        return [name for name in names if now[name] != before[name]]

    with listening(node, address, port) as sock:
        attack.send(world, payload)
        wait_until(lambda: bool(counted()), "it is counted")
        [verdict] = counted()
        sock.settimeout(5 if verdict == "inbound_delivered" else 0.2)
        try:
            return verdict, sock.recv(100) == payload
        except TimeoutError:
            return verdict, False


@each_attack
def test_an_attack_works_where_nothing_is_checked(lax: World, attack: Attack) -> None:
    if attack.passes_when_off:
        assert fate(lax, attack) == ("inbound_delivered", True)
    else:
        unknown = attack.verdict == "inbound_unknown_sender"
        verdict = "inbound_martian_destination" if unknown else attack.verdict
        assert fate(lax, attack) == (verdict, False)


@each_attack
def test_an_attack_is_refused_and_counted_by_name(world: World, attack: Attack) -> None:
    assert fate(world, attack) == (attack.verdict, False)


def test_a_forged_outer_source_reaches_what_that_node_could(world: World) -> None:
    """What remains without authentication: one way, from that node's subnet, to our subnet."""
    attack = Attack(from_node(pod, 7000), at_pod, "inbound_delivered")
    assert fate(world, attack) == ("inbound_delivered", True)


def test_traffic_of_nodes_passes(world: World) -> None:
    assert ping(world.pod1.host, world.pod1.address, world.pod2.address) is not None
    assert ping(world.n1.host, world.n1.address, world.pod2.address) is not None
    assert ping(world.n1.host, world.n1.address, world.n2.address) is not None


# ---- what is told of it


def test_a_stranger_is_seen_among_the_peers_data(world: World) -> None:
    def seen() -> list[dict[str, object]]:
        document = world.n1.ask("/v1/peers")
        address = world.address("stranger")
        return [each for each in document["refused_senders"] if each["address"] == address]

    packet = inner(world.pod2.address, world.pod1.address, b"hello")
    before = sum(int(str(each["datagrams"])) for each in seen())
    for _ in range(5):
        send(world.stranger, world.target, packet)
    wait_until(lambda: sum(int(str(each["datagrams"])) for each in seen()) == before + 5, "5 more")
    [sender] = seen()
    assert sender["reason"] == "inbound_unknown_sender"
    assert sender["inner_source"] == world.pod2.address
    assert sender["inner_destination"] == world.pod1.address


def test_hostile_cardinality_costs_neither_memory_nor_a_steady_sender(world: World) -> None:
    """Thousands of forged addresses pass by; who sends steadily keeps its place."""
    packet = inner(world.pod2.address, world.pod1.address, b"x")
    address = world.address("stranger")
    for round_ in range(20):
        send(world.stranger, world.target, packet)
        for number in range(200):
            forged = f"100.64.{round_}.{number + 1}"
            send_as(world.stranger, forged, world.target, packet)
        send(world.stranger, world.target, packet)

    def rows() -> list[dict[str, object]]:
        found: list[dict[str, object]] = world.n1.ask("/v1/peers")["refused_senders"]
        return found

    wait_until(lambda: any(each["address"] == address for each in rows()), "the steady one is seen")
    assert len(rows()) <= 256


def test_no_icmp_error_goes_to_an_address_that_is_not_verified(world: World) -> None:
    """Packets whose TTL runs out here: only what may be that node's is answered."""
    node, stranger = world.address("n2"), world.address("stranger")
    before = {name: count(world.n1, name) for name in ("icmp_sent", "inbound_unknown_sender")}
    with captured(world.n2.host) as at_node, captured(world.stranger) as at_stranger:
        for source in (stranger, node, world.pod2.address, "203.0.113.9"):
            packet = inner(source, world.pod1.address, b"12345678", ttl=1)
            send(world.stranger, world.target, packet)
            if source != world.pod2.address:
                send_as(world.stranger, node, world.target, packet)
        wait_until(
            lambda: (
                count(world.n1, "inbound_unknown_sender") == before["inbound_unknown_sender"] + 4
            ),
            "all were looked at",
        )
        wait_until(lambda: errors_in(at_node) == 1, "the node is answered")
    assert errors_in(at_stranger) == 0
    assert count(world.n1, "icmp_sent") == before["icmp_sent"] + 1


def errors_in(packets: list[bytes]) -> int:
    """How many say that a TTL ran out."""
    return sum(packet[9] == socket.IPPROTO_ICMP and packet[20] == 11 for packet in packets)


def test_a_subnet_that_moved_is_refused_from_its_old_node(world: World) -> None:
    """Packets that the old holder still has on the way do not get in."""
    moved = f"{PREFIX}/subnets/10.5.252.0-24"
    source, target = "10.5.252.7", world.pod1.address
    old, new = world.address("stranger"), world.address("n2")

    def lease(public_ip: str) -> None:
        world.cluster.etcd.put(moved, f'{{"PublicIP":"{public_ip}","PublicIPv6":null}}')

    def sent(public_ip: str, verdict: str) -> None:
        before = count(world.n1, verdict)
        send_as(world.stranger, public_ip, world.target, inner(source, target, b"in flight"))
        wait_until(lambda: count(world.n1, verdict) > before, verdict)

    def held_by(public_ip: str) -> bool:
        peers = world.n1.ask("/v1/peers")["peers"]
        return any(
            peer["subnet"] == "10.5.252.0/24" and peer["public_ip"] == public_ip for peer in peers
        )

    try:
        lease(old)
        wait_until(lambda: held_by(old), "the lease is known")
        publications = world.n1.status()["control"]["publications"]
        sent(old, "inbound_delivered")
        lease(new)
        wait_until(lambda: held_by(new), "it has moved")
        wait_until(
            lambda: world.n1.status()["control"]["publications"] > publications, "it is published"
        )
        sent(old, "inbound_unknown_sender")
        sent(new, "inbound_delivered")
    finally:
        world.cluster.etcd.delete(moved)


def test_warn_delivers_and_counts() -> None:
    with ExitStack() as stack:
        world = build(stack, "--source-check=warn")
        cases = {
            "warned_unknown_sender": ATTACKS["into a container"],
            "warned_foreign_destination": ATTACKS["as a node, on to another node"],
            "warned_foreign_source": ATTACKS["as a node, from another node's subnet"],
        }
        for counter, attack in cases.items():
            before = count(world.n1, counter)
            assert fate(world, attack) == ("inbound_delivered", True)
            assert count(world.n1, counter) == before + 1
        martian = fate(world, ATTACKS["as a node, to loopback"])
        assert martian == ("inbound_martian_destination", False)
        assert world.n1.status()["node"]["source_check"] == "warn"
