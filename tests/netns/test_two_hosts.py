"""Two hosts, two daemons, one etcd: the main job on real traffic.

n1 flannel0 ── udpoverlayd ── eth0 ══ UDP 8285 ══ eth0 ── udpoverlayd ── flannel0 n2
                    └────────────── etcd ──────────────┘
"""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.support.cluster import (
    ADMIN_SOCKET,
    PREFIX,
    SUBNET_FILE,
    Cluster,
    Node,
    links_of,
    wait_until,
)
from tests.support.wire import captured, ping, transfer, udp_payloads
from udpoverlay.lab.actions import files

pytestmark = [pytest.mark.root, pytest.mark.etcd]

HUNDRED_MB = 100 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("n1", "n2") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def pair(cluster: Cluster) -> tuple[Node, Node]:
    """Two daemons, started with nothing but where etcd is."""
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)
    return n1, n2


def wait_for_routes(nodes: tuple[Node, ...], count: int) -> None:
    def known() -> bool:
        return all(node.status()["dataplane"]["routes"] == count for node in nodes)

    wait_until(known, f"{count} routes everywhere")


@pytest.mark.parametrize("size", [0, 56, 1444, 5000, 60000])
def test_each_host_pings_the_other_at_every_size(pair: tuple[Node, Node], size: int) -> None:
    n1, n2 = pair
    assert ping(n1.host, n1.address, n2.address, size) is not None
    assert ping(n2.host, n2.address, n1.address, size) is not None


def test_both_daemons_take_one_from_the_ttl(pair: tuple[Node, Node]) -> None:
    n1, n2 = pair
    assert ping(n1.host, n1.address, n2.address) == 64 - 2


def test_a_hundred_megabytes_arrive_as_they_were_sent_both_ways(pair: tuple[Node, Node]) -> None:
    for a, b in (pair, pair[::-1]):
        sent, received = transfer(a.end, b.end, HUNDRED_MB)
        assert sent == received


def test_the_wire_carries_the_bare_packet_on_port_8285(pair: tuple[Node, Node]) -> None:
    n1, n2 = pair
    with captured(n2.host) as packets:
        assert ping(n1.host, n1.address, n2.address, size=100) is not None
    payloads = udp_payloads(packets)
    assert {payload[0] for payload in payloads} == {0x45}
    request = next(payload for payload in payloads if payload[20] == 8)
    assert len(request) == 20 + 8 + 100
    assert socket.inet_ntoa(request[12:16]) == n1.address
    assert socket.inet_ntoa(request[16:20]) == n2.address
    assert request[8] == 63


def test_etcd_holds_exactly_what_flanneld_writes(cluster: Cluster, pair: tuple[Node, Node]) -> None:
    for node in pair:
        key = node.subnet.replace("/", "-")
        public_ip = cluster.fabric.address(node.name)
        assert re.fullmatch(r"10\.5\.\d+\.0-24", key)
        assert cluster.leases()[key] == f'{{"PublicIP":"{public_ip}","PublicIPv6":null}}'


def test_the_subnet_file_is_flannels(pair: tuple[Node, Node]) -> None:
    n1, _ = pair
    gateway = n1.address[:-1] + "1"
    assert n1.host.call(files.read_text, path=SUBNET_FILE) == (
        "FLANNEL_NETWORK=10.5.0.0/16\n"
        f"FLANNEL_SUBNET={gateway}/24\n"
        "FLANNEL_MTU=1472\n"
        "FLANNEL_IPMASQ=false\n"
    )


def test_the_device_is_flannels(pair: tuple[Node, Node]) -> None:
    n1, _ = pair
    device = links_of(n1.host)["flannel0"]
    assert device["mtu"] == 1472
    assert device["addresses"] == [f"{n1.address}/32"]


def test_the_admin_socket_knows_the_node(cluster: Cluster, pair: tuple[Node, Node]) -> None:
    n1, n2 = pair
    status = n1.status()
    assert status["node"]["public_ip"] == cluster.fabric.address("n1")
    assert status["node"]["interface"] == "eth0"
    assert status["node"]["tun"] == "flannel0"
    assert status["node"]["mtu"] == 1472
    assert status["node"]["subnet_file_written"] is True
    assert status["lease"]["subnet"] == n1.subnet
    assert 0 < status["lease"]["expires_in_seconds"] <= 86400
    assert status["peers"] == 1
    (peer,) = n1.ask("/v1/peers")["peers"]
    assert peer["subnet"] == n2.subnet
    assert peer["public_ip"] == cluster.fabric.address("n2")
    assert (peer["refused"], peer["fallbacks"]) == ("", [])
    assert peer["also_sends_from"] == []
    assert n1.ask("/v1/peers")["refused_senders"] == []
    assert status["dataplane"]["routes"] == 1


HOSTILE = {
    "nonsense": "{}",
    "10.5.300.0-24": '{"PublicIP":"198.18.0.99","PublicIPv6":null}',
    "10.5.250.0-24": "not json",
    "10.5.251.0-24": '{"PublicIP":null}',
    "10.5.252.0-24": '{"PublicIP":"999.1.1.1","PublicIPv6":null}',
    "10.5.253.0-24": "[" * 10000,
    "10.5.254.0-32": '{"PublicIP":"198.18.0.99","PublicIPv6":null}',
    "\x1b[31m\n": '{"PublicIP":"198.18.0.99"}',
}


def test_hostile_entries_are_skipped_and_no_peer_is_lost(
    cluster: Cluster, pair: tuple[Node, Node]
) -> None:
    n1, n2 = pair
    before = n1.status()["registry"]["counters"]
    for key, value in HOSTILE.items():
        cluster.etcd.put(f"{PREFIX}/subnets/{key}", value)
    cluster.etcd.put(f"{PREFIX}/subnets-old/10.5.248.0-24", '{"PublicIP":"1.2.3.4"}')
    # A watch is in order: once this sound entry is known, all before it have been judged.
    sound = "10.5.247.0-24"
    cluster.etcd.put(f"{PREFIX}/subnets/{sound}", '{"PublicIP":"198.18.0.77","PublicIPv6":null}')
    wait_for_routes(pair, 2)
    assert ping(n1.host, n1.address, n2.address) is not None
    after = n1.status()["registry"]["counters"]
    assert sum(after.values()) > sum(before.values())
    assert "\x1b" not in n1.process.log()
    for key in (*HOSTILE, sound):
        cluster.etcd.delete(f"{PREFIX}/subnets/{key}")
    wait_for_routes(pair, 1)
    assert ping(n1.host, n1.address, n2.address) is not None


def test_etcd_may_restart_underneath_while_traffic_goes_on(
    cluster: Cluster, pair: tuple[Node, Node]
) -> None:
    n1, n2 = pair
    steps = {HUNDRED_MB // 4: cluster.etcd.stop, HUNDRED_MB // 2: cluster.etcd.start}

    def disturb(done: int) -> None:
        for threshold in [step for step in steps if done >= step]:
            steps.pop(threshold)()

    sent, received = transfer(n1.end, n2.end, HUNDRED_MB, disturb)
    assert not steps
    assert sent == received
    # And what happens in etcd afterwards is seen again.
    late = f"{PREFIX}/subnets/10.5.246.0-24"
    cluster.etcd.put(late, '{"PublicIP":"198.18.0.77","PublicIPv6":null}')
    wait_for_routes(pair, 2)
    cluster.etcd.delete(late)
    wait_for_routes(pair, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_a_restart_keeps_the_subnet(
    cluster: Cluster, pair: tuple[Node, Node], number: int
) -> None:
    n1, n2 = pair
    n2.process.signal(number)
    assert n2.process.wait(30) == 0, n2.process.log()
    assert "flannel0" not in links_of(n2.host)
    assert not n2.host.call(files.exists, path=ADMIN_SOCKET)
    assert n2.host.call(files.exists, path=SUBNET_FILE)
    assert n2.subnet.replace("/", "-") in cluster.leases()
    again = cluster.start("n2")
    assert again.subnet == n2.subnet
    n2.process, n2.env = again.process, again.env
    cluster.wait_for_peers(n1, n2)
    assert ping(n1.host, n1.address, n2.address) is not None
