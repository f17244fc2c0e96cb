"""The rules that docs/explanation/security.md tells to set, as they stand there."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, Node, wait_until
from tests.support.icmperrors import icmp_error, send_error
from tests.support.stranger import Pod, inner, pod_of, send
from tests.support.wire import listen, ping
from udpoverlay.lab.hosts import Host

pytestmark = [pytest.mark.root, pytest.mark.etcd]

PAGE = Path(__file__).parents[2] / "docs/explanation/security.md"
NODES = "192.0.2.0/24"
UNREACHABLE, PORT_UNREACHABLE, FRAGMENTATION_NEEDED = 3, 3, 4
"""ICMP type and codes (RFC 792)."""


def commands(program: str) -> list[str]:
    """The page's commands of one program, in order."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [
        line for block in blocks for line in block.splitlines() if line.startswith(f"{program} ")
    ]


def run(host: Host, line: str) -> None:
    status, output = host.run(["sh", "-c", line])
    assert status == 0, f"{line}: {output}"


class World:
    """n1 has the rules; its nodes are n2 alone."""

    def __init__(self, stack: ExitStack, program: str) -> None:
        self.cluster = stack.enter_context(Cluster("n1", "n2", "stranger"))
        self.n1, self.n2 = self.cluster.start("n1"), self.cluster.start("n2")
        self.cluster.wait_for_peers(self.n1, self.n2)
        self.pod1, self.pod2 = (stack.enter_context(pod_of(node)) for node in (self.n1, self.n2))
        for line in commands(program):
            run(self.n1.host, line.replace(NODES, f"{self.cluster.fabric.address('n2')}/32"))


@pytest.fixture(params=["nft", "iptables"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} on PATH")
    with ExitStack() as stack:
        yield World(stack, request.param)


def connects(host: Host, source: str, to: tuple[str, int]) -> bool:
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(1.5)
        client.bind((source, 0))
        try:
            client.connect(to)
        except OSError:
            return False
        return True


def both_ways(pod1: Pod, pod2: Pod, n1: Node) -> None:
    assert ping(pod1.host, pod1.address, pod2.address) is not None
    assert ping(pod2.host, pod2.address, pod1.address) is not None
    assert ping(pod2.host, pod2.address, n1.address) is not None
    for (host, source), (other, to) in ((pod1.end, pod2.end), (pod2.end, pod1.end)):
        with listen(other, to) as server:
            assert connects(host, source, server.getsockname())


def test_the_rules_of_the_page_do_what_it_says(
    world: World, request: pytest.FixtureRequest
) -> None:
    n1, stranger = world.n1, world.cluster.fabric.hosts["stranger"]
    address = world.cluster.fabric.address("n1")
    both_ways(world.pod1, world.pod2, n1)
    packet = inner(world.pod2.address, world.pod1.address, b"x")
    for _ in range(5):
        send(stranger, address, packet)
    # What a node sends afterwards has passed the same queue.
    delivered = n1.counters()["inbound_delivered"]
    assert ping(world.pod2.host, world.pod2.address, world.pod1.address) is not None
    wait_until(lambda: n1.counters()["inbound_delivered"] > delivered, "the ping is counted")
    assert n1.counters()["inbound_unknown_sender"] == 0
    # A process of this host asks a container and hears its answer.
    with listen(world.pod2.host, world.pod2.address) as server:
        assert connects(n1.host, n1.address, server.getsockname())
    with listen(n1.host, n1.address) as server:
        reached = connects(world.pod2.host, world.pod2.address, server.getsockname())
    assert reached == ("iptables" in request.node.name)  # the page has that rule for nft alone
    # The page has a rule against forged MTUs for nft alone, too; other ICMP errors come through.
    node = world.cluster.fabric.address("n2")
    with stranger.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for code in (FRAGMENTATION_NEEDED, PORT_UNREACHABLE):
            send_error(raw, icmp_error(UNREACHABLE, code, address, node, rest=552))

    def reports() -> dict[str, int]:
        counts: dict[str, int] = n1.status()["dataplane"]["reports"]
        return counts

    wait_until(lambda: reports()["port_unreachable"] == 1, "the later one is counted")
    assert reports()["fragmentation_needed"] == int("iptables" in request.node.name)
