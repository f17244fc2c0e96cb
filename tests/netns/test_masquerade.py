"""Which address a server sees with --ip-masq, beside what container runtimes set up.

pod1 10.244.a.2 ── cni0 ── n1 ══ udp 8285 ══ n2 ── cni0 ── pod2 10.244.b.2
                           │eth0                             world: 198.18.0.1, no way back
                           └──────── 198.18.0.0/24 ─────────────────┘      to the overlay
"""

from __future__ import annotations

import shlex
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from udpoverlay.lab.actions import files, links
from udpoverlay.lab.cluster import NETWORK, POD_BRIDGE, Cluster, Overlay
from udpoverlay.lab.hosts import Fabric, Host
from udpoverlay.lab.node import Node, udpoverlayd

pytestmark = [
    pytest.mark.root,
    pytest.mark.etcd,
    pytest.mark.skipif(shutil.which("iptables") is None, reason="no iptables on PATH"),
]

PORT, KUBE_PROXYS_PORT = 7000, 7001
SECONDS = 20.0

RUNTIMES: dict[str, list[str]] = {
    "none": [],
    "portmap": [
        "iptables -t nat -N CNI-HOSTPORT-MASQ",
        "iptables -t nat -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE",
        "iptables -t nat -A POSTROUTING -j CNI-HOSTPORT-MASQ",
    ],
}
"""What runtimes add where the subnet file says FLANNEL_IPMASQ=true: nothing of their own for what
leaves, and the CNI portmap plugin's rules."""
KUBE_PROXY = [
    f"iptables -t mangle -A PREROUTING -p tcp --dport {KUBE_PROXYS_PORT} -j MARK --set-mark 0x4000",
    "iptables -t nat -A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE",
]
UNDO = [
    "iptables -t mangle -F",
    "iptables -t nat -D POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE",
    "iptables -t nat -D POSTROUTING -j CNI-HOSTPORT-MASQ",
    "iptables -t nat -F CNI-HOSTPORT-MASQ",
    "iptables -t nat -X CNI-HOSTPORT-MASQ",
]
"""All of the above; the daemon's own rules stay."""


class Pod:
    """A namespace behind the bridge of a node."""

    def __init__(self, node: Node, host: Host) -> None:
        self.node, self.host = node, host
        gateway, _, length = node.gateway.partition("/")
        self.address = gateway.rpartition(".")[0] + ".2"
        self.subnet = gateway.rpartition(".")[0] + f".0/{length}"
        node.host.add_veth("veth0", host, "eth0", node.mtu)
        node.host.call(links.set_link, name="veth0", master=POD_BRIDGE)
        host.call(links.add_address, name="eth0", address=self.address, prefix_len=int(length))
        host.call(links.add_route, destination="default", via=gateway)
        node.host.call(files.write_text, path="/proc/sys/net/ipv4/ip_forward", text="1")

    def rules(self, lines: list[str] | tuple[str, ...]) -> None:
        for line in lines:
            rule = line.format(subnet=self.subnet, pod=self.address).replace("NETWORK", NETWORK)
            status, output = self.node.host.run(shlex.split(rule))
            assert status == 0, output

    def seen_by(self, server: Host, address: str, port: int = PORT) -> str | None:
        """Our address as a TCP server in `server` sees it; None when no connection comes up."""
        listener = server.socket(socket.AF_INET, socket.SOCK_STREAM)
        client = self.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        with listener, client:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen()
            listener.settimeout(SECONDS)
            client.settimeout(2.0 if address == Fabric.GATEWAY else SECONDS)
            try:
                client.connect((address, port))
            except TimeoutError:
                return None
            accepted, (peer, _) = listener.accept()
            accepted.close()
        return str(peer)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("n1", "n2") as made:
        yield made


@pytest.fixture(scope="module")
def overlay(cluster: Cluster) -> Overlay:
    return cluster.overlay(udpoverlayd("--ip-masq"))


@pytest.fixture(scope="module")
def pods(overlay: Overlay) -> Iterator[tuple[Pod, Pod]]:
    with ExitStack() as stack:
        hosts = [stack.enter_context(Host(f"pod{number}")) for number in (1, 2)]
        one, two = (
            Pod(node, host) for node, host in zip(overlay.nodes.values(), hosts, strict=True)
        )
        yield one, two


@pytest.fixture
def clean(pods: tuple[Pod, Pod]) -> Iterator[None]:
    yield
    for pod in pods:
        for rule in UNDO:
            pod.node.host.run(shlex.split(rule))


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_server_sees_the_pod_and_the_world_sees_the_node(
    runtime: str, cluster: Cluster, pods: tuple[Pod, Pod]
) -> None:
    one, two = pods
    world = cluster.fabric.switch
    for pod in pods:
        pod.rules(RUNTIMES[runtime])
    assert one.seen_by(two.host, two.address) == one.address
    assert two.seen_by(one.host, one.address) == two.address
    assert one.seen_by(world, Fabric.GATEWAY) == one.node.public_ip


@pytest.mark.usefixtures("clean")
def test_what_kube_proxy_marks_is_left_to_it(pods: tuple[Pod, Pod]) -> None:
    one, two = pods
    one.rules(KUBE_PROXY)
    tunnel = one.subnet.partition("/")[0]
    assert one.seen_by(two.host, two.address, KUBE_PROXYS_PORT) == tunnel
    assert one.seen_by(two.host, two.address) == one.address
