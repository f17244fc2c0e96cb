"""With what addresses the nodes of a flannel cluster send, and that all of it passes our default.

    pod ── flanneld "theirs" ══ 8285 ══ udpoverlayd "ours" ── pod

The table in docs/explanation/security.md says the same in words.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.support.cluster import Cluster, Node, wait_until
from tests.support.stranger import DISCARD, Pod, pod_of, sysctl
from tests.support.wire import captured
from udpoverlay.lab.actions import links
from udpoverlay.lab.hosts import Host

pytestmark = [
    pytest.mark.root,
    pytest.mark.etcd,
    pytest.mark.flanneld,
    pytest.mark.skipif(shutil.which("iptables") is None, reason="no iptables on PATH"),
]

FLANNELD = ["flanneld"]
SERVICE = "10.96.0.10"
IP_RECVERR = 11
"""linux/in.h."""
NETCONF = {"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}


@dataclass
class World:
    """Their node sends, ours receives."""

    cluster: Cluster
    theirs: Node
    ours: Node
    their_pod: Pod
    our_pod: Pod

    @property
    def public(self) -> str:
        """Public IP of their node."""
        return self.cluster.fabric.address("theirs")


MODES: dict[str, tuple[str, bool]] = {
    "without ip-masq": ("--ip-masq=false", False),
    "with ip-masq": ("--ip-masq=true", False),
    "with ip-masq by nftables": ("--ip-masq=true", True),
}


@pytest.fixture(scope="module", params=MODES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    flag, nftables = MODES[request.param]
    with ExitStack() as stack:
        cluster = stack.enter_context(
            Cluster("theirs", "ours", netconf={**NETCONF, "EnableNFTables": nftables})
        )
        theirs = cluster.start("theirs", flag, program=FLANNELD)
        ours = cluster.start("ours")
        wait_until(lambda: ours.status()["dataplane"]["routes"] == 1, "we know flanneld's lease")
        pods = [stack.enter_context(pod_of(node)) for node in (theirs, ours)]
        yield World(cluster, theirs, ours, pods[0], pods[1])


@contextmanager
def answering(host: Host, address: str) -> Iterator[tuple[str, int]]:
    """A TCP server that tells each client by which address it was seen."""
    stop = threading.Event()
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind((address, 0))
        server.listen()
        server.settimeout(0.1)

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, peer = server.accept()
                    with connection:
                        connection.sendall(peer[0].encode())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()
        finally:
            stop.set()
            thread.join()


def ask(host: Host, to: tuple[str, int], source: str = "") -> str:
    """Connect; the address by which the server saw us."""
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(20)
        if source:
            client.bind((source, 0))
        client.connect(to)
        return client.recv(100).decode()


def nothing_refused(world: World) -> bool:
    return not world.ours.ask("/v1/peers")["refused_senders"]


Case = Callable[[World], object]


def container_to_container(world: World) -> object:
    with answering(world.our_pod.host, world.our_pod.address) as server:
        return ask(world.their_pod.host, server)


def container_the_other_way(world: World) -> object:
    with answering(world.their_pod.host, world.their_pod.address) as server:
        return ask(world.our_pod.host, server)


def host_process(world: World) -> object:
    """kubelet, a hostNetwork pod: from flannel0's address."""
    with answering(world.our_pod.host, world.our_pod.address) as server:
        assert ask(world.theirs.host, server) == world.theirs.address
    return True


def host_process_from_its_public_address(world: World) -> object:
    """What a hostNetwork pod sends that reaches a service by the default route: see below."""
    with answering(world.our_pod.host, world.our_pod.address) as server:
        return ask(world.theirs.host, server, source=world.public)


def answer_of_a_host_process(world: World) -> object:
    """A container asks a node by its public address: the way back is the tunnel."""
    with answering(world.theirs.host, world.public) as server:
        return ask(world.our_pod.host, server)


def answer_from_the_tunnel_address(world: World) -> object:
    with answering(world.theirs.host, world.theirs.address) as server:
        return ask(world.our_pod.host, server)


def answer_from_the_bridge(world: World) -> object:
    with answering(world.theirs.host, world.their_pod.gateway) as server:
        return ask(world.our_pod.host, server)


def service_from(client: Callable[[World], Host]) -> Case:
    def case(world: World) -> object:
        with answering(world.our_pod.host, world.our_pod.address) as (address, port):
            for chain in ("OUTPUT", "PREROUTING"):
                rule = f"-t nat -I {chain} -d {SERVICE} -p tcp --dport 80 -j DNAT"
                words = [*rule.split(), "--to-destination", f"{address}:{port}"]
                status, output = world.theirs.host.run(["iptables", *words])
                assert status == 0, output
            return ask(client(world), (SERVICE, 80))

    return case


PASSES: dict[str, Case] = {
    "container to container": container_to_container,
    "container to container, asked by ours": container_the_other_way,
    "host process": host_process,
    "host process, from its public address": host_process_from_its_public_address,
    "answer of a host process, asked by its public address": answer_of_a_host_process,
    "answer of a host process, asked by flannel0's address": answer_from_the_tunnel_address,
    "answer of a host process, asked by the bridge's address": answer_from_the_bridge,
    "service, asked by a container": service_from(lambda world: world.their_pod.host),
    "service, asked by a host process": service_from(lambda world: world.theirs.host),
}


@pytest.mark.parametrize("case", PASSES.values(), ids=PASSES)
def test_what_flannels_nodes_send_passes(world: World, case: Case) -> None:
    assert case(world)
    assert nothing_refused(world)


@pytest.mark.parametrize(
    ("last", "ttl"),
    [
        pytest.param(7, 2, id="hops used up at our node"),
        pytest.param(7, 4, id="hops used up at their node"),
        pytest.param(7, 64, id="closed port"),
        pytest.param(99, 64, id="no such container"),
    ],
)
def test_icmp_errors_of_nodes_and_containers_pass(world: World, last: int, ttl: int) -> None:
    """Of 4 hops our kernel, our daemon and theirs take one each; their kernel speaks of the last,
    from flannel0's address, as it does of a container that is not there."""
    net = world.their_pod.address.rpartition(".")[0]
    with world.our_pod.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sock.connect((f"{net}.{last}", DISCARD))
        sock.send(b"x")
        wait_until(
            lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0, "the error comes"
        )
    assert nothing_refused(world)


def test_what_is_routed_by_a_node_without_masquerade_is_refused(world: World) -> None:
    """An outsider with a route by way of their node: neither theirs nor ours may speak for it."""
    if world.theirs.process.argv[-1] != "--ip-masq=false":
        pytest.skip("their node masquerades it")
    outsider = world.cluster.fabric.switch
    outsider.call(links.add_route, destination="10.5.0.0/16", via=world.public)
    for name in ("all", "eth0"):
        sysctl(world.theirs.host, f"net/ipv4/conf/{name}/send_redirects", 0)
    with (
        captured(world.ours.host) as packets,
        outsider.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(b"x", (world.our_pod.address, DISCARD))
        wait_until(lambda: world.ours.counters()["inbound_foreign_source"] == 1, "it is refused")
    assert packets
