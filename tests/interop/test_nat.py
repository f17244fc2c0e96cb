"""A flanneld whose datagrams come from another address than its PublicIP, and ours with defaults.

    theirs 192.168.50.2 ── router 198.18.0.50, .51, .52 ── switch ── ours 198.18.0.11

flannel allows a public IP that is not the interface's (Documentation/configuration.md, public-ip).
The router translates datagram by datagram, without a table of connections: what comes in by one
address goes out by another, whichever side begins.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.cluster import Cluster, Node, wait_until
from tests.support.stranger import Pod, inner, pod_of, send, sysctl
from tests.support.wire import ping, transfer
from udpoverlay.lab.actions import files, links
from udpoverlay.lab.hosts import Fabric, Host

pytestmark = [
    pytest.mark.root,
    pytest.mark.etcd,
    pytest.mark.flanneld,
    pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on PATH"),
]

FLANNELD = ["flanneld"]
NO_RULES = "--iptables-forward-rules=false"
INSIDE = "192.168.50.2"
PUBLIC, OUT, OTHER = "198.18.0.50", "198.18.0.51", "198.18.0.52"
SOME = 4 << 20
NAT = """
table ip nat
delete table ip nat
table ip nat {{
    chain in {{
        type filter hook prerouting priority raw
        udp dport 8285 notrack
        ip daddr {public} udp dport 8285 ip daddr set {inside}
    }}
    chain out {{
        type filter hook postrouting priority 300
        ip saddr {inside} udp dport 8285 {change}
    }}
    chain others {{
        type nat hook postrouting priority 100
        ip protocol tcp ip saddr {inside} oifname eth0 masquerade
    }}
}}
"""


@dataclass
class World:
    """The two nodes, their containers, and the router between."""

    cluster: Cluster
    ours: Node
    theirs: Node
    our_pod: Pod
    their_pod: Pod
    router: Host

    def also_sends_from(self) -> list[str]:
        """What our node has found out about theirs."""
        peers = self.ours.ask("/v1/peers")["peers"]
        [found] = [peer for peer in peers if peer["subnet"] == self.theirs.subnet]
        addresses: list[str] = found["also_sends_from"]
        return addresses


def translate(router: Host, inside: str, change: str) -> None:
    """What comes to PUBLIC goes on to `inside`, what leaves `inside` is changed so."""
    text = NAT.format(public=PUBLIC, inside=inside, change=change)
    router.call(files.write_text, path="/run/nat", text=text)
    status, output = router.run(["nft", "-f", "/run/nat"])
    assert status == 0, output


def behind_router(stack: ExitStack, change: str) -> World:
    """`change` is what the router does to datagrams on their way out, as nft puts it."""
    cluster = stack.enter_context(Cluster("ours", "router"))
    router = cluster.fabric.hosts["router"]
    theirs = stack.enter_context(Host("theirs"))
    router.add_veth("inside", theirs, "eth0")
    router.call(links.add_address, name="inside", address="192.168.50.1", prefix_len=24)
    theirs.call(links.add_address, name="eth0", address=INSIDE, prefix_len=24)
    theirs.call(links.add_route, destination="default", via="192.168.50.1")
    for address in (PUBLIC, OUT, OTHER):
        router.call(links.add_address, name="eth0", address=address, prefix_len=24)
    sysctl(router, "net/ipv4/ip_forward", 1)
    translate(router, INSIDE, change)
    cluster.fabric.hosts["theirs"] = theirs
    return start(stack, cluster, "theirs")


def start(stack: ExitStack, cluster: Cluster, name: str) -> World:
    theirs = cluster.start(
        name, "--iface=eth0", f"--public-ip={PUBLIC}", NO_RULES, program=FLANNELD
    )
    ours = cluster.start("ours", NO_RULES)
    wait_until(lambda: ours.status()["dataplane"]["routes"] == 1, "we know flanneld's lease")
    pods = [stack.enter_context(pod_of(node)) for node in (ours, theirs)]
    return World(cluster, ours, theirs, pods[0], pods[1], cluster.fabric.hosts["router"])


def works_both_ways(world: World) -> None:
    a, b = world.our_pod, world.their_pod
    assert ping(a.host, a.address, b.address) is not None
    assert ping(b.host, b.address, a.address) is not None
    assert ping(world.theirs.host, world.theirs.address, a.address) is not None
    for one, other in ((a, b), (b, a)):
        sent, received = transfer(one.end, other.end, SOME)
        assert sent == received


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Datagrams of flanneld come from OUT."""
    with ExitStack() as stack:
        yield behind_router(stack, f"ip saddr set {OUT}")


def test_a_nat_that_changes_the_port_alone_needs_nothing() -> None:
    with ExitStack() as stack:
        world = behind_router(stack, f"ip saddr set {PUBLIC} udp sport set 20000")
        works_both_ways(world)
        assert world.also_sends_from() == []
        assert world.ours.counters()["inbound_unknown_sender"] == 0


def test_a_nat_with_another_address_outward_is_found_out(world: World) -> None:
    works_both_ways(world)
    assert world.also_sends_from() == [OUT]
    assert world.ours.lines("another address than its public IP", OUT)


def test_the_address_may_change_in_the_middle(world: World) -> None:
    works_both_ways(world)
    translate(world.router, INSIDE, f"ip saddr set {OTHER}")
    works_both_ways(world)
    assert set(world.also_sends_from()) == {OUT, OTHER}


def test_a_stranger_that_claims_to_be_behind_the_nat_is_refused(world: World) -> None:
    works_both_ways(world)
    before = world.ours.counters()["inbound_unknown_sender"]
    packet = inner(world.their_pod.address, world.our_pod.address, b"let me in")
    for _ in range(20):
        send(world.cluster.fabric.switch, world.cluster.fabric.address("ours"), packet)
    wait_until(
        lambda: world.ours.counters()["inbound_unknown_sender"] == before + 20, "all are refused"
    )
    assert Fabric.GATEWAY not in world.also_sends_from()


def test_a_public_ip_that_is_not_the_interfaces_is_found_out() -> None:
    """flanneld binds to the interface's address and sends from it, whatever it publishes."""
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster("ours", "router"))
        router, address = cluster.fabric.hosts["router"], cluster.fabric.address("router")
        router.call(links.add_address, name="eth0", address=PUBLIC, prefix_len=24)
        translate(router, address, "counter")
        world = start(stack, cluster, "router")
        works_both_ways(world)
        assert world.also_sends_from() == [address]
