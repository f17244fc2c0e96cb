"""Leases that no correct host writes, two hosts with one public IP, hosts inside Network."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import NETCONF, PREFIX, Cluster, Node, run_to_end, wait_until
from tests.support.wire import captured, ping, transfer, udp_payloads

pytestmark = [pytest.mark.root, pytest.mark.etcd]

ROUTE = (
    "import sys; from pyroute2 import IPRoute\n"
    "with IPRoute() as ip: ip.route(sys.argv[1], dst=sys.argv[2], "
    "oif=ip.link_lookup(ifname='flannel0')[0])\n"
)


@pytest.fixture(scope="module")
def module_cluster() -> Iterator[Cluster]:
    with Cluster("n1", "n2") as cluster:
        yield cluster


@pytest.fixture
def cluster(module_cluster: Cluster) -> Iterator[Cluster]:
    yield module_cluster
    for host in module_cluster.fabric.hosts.values():
        host.run(["rm", "-f", "/run/flannel/subnet.env"])
    for key in module_cluster.leases():
        module_cluster.etcd.delete(f"{PREFIX}/subnets/{key}")
    module_cluster.etcd.put(f"{PREFIX}/config", json.dumps(NETCONF))


def claim(cluster: Cluster, net: str, public_ip: str) -> None:
    key = f"{PREFIX}/subnets/{net.replace('/', '-')}"
    cluster.etcd.put(key, json.dumps({"PublicIP": public_ip, "PublicIPv6": None}))


def control(node: Node) -> dict[str, Any]:
    counters: dict[str, Any] = node.status()["control"]
    return counters


def stop(*nodes: Node) -> None:
    for node in nodes:
        assert node.process.stop() == 0, node.process.log()


def refusals(node: Node) -> dict[str, str]:
    """Leases without a route, and why."""
    peers = node.ask("/v1/peers")["peers"]
    return {peer["subnet"]: peer["refused"] for peer in peers if peer["refused"]}


# ---------------------------------------------------------------- no loop


def test_lease_that_points_into_itself_makes_no_loop(cluster: Cluster) -> None:
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)
    claim(cluster, "10.5.199.0/24", "10.5.199.5")
    claim(cluster, "10.5.198.0/24", "10.5.197.5")
    claim(cluster, "10.5.197.0/24", "10.5.198.5")
    wait_until(lambda: control(n1)["leases_refused"] == 3, "all three are refused")
    before = n1.counters()
    for target in ("10.5.199.7", "10.5.198.7", "10.5.197.7"):
        assert ping(n1.host, n1.address, target, seconds=0.5) is None
    assert ping(n1.host, n1.address, n2.address) == 62
    after = n1.counters()
    sent = after["outbound_sent"] - before["outbound_sent"]
    assert after["outbound_no_route"] > before["outbound_no_route"]
    assert sent < 10, "the pings of n2 alone"
    assert refusals(n1) == dict.fromkeys(
        ("10.5.199.0/24", "10.5.198.0/24", "10.5.197.0/24"), "in_overlay"
    )
    assert len(n1.lines("lease refused", "10.5.199.0/24", "10.5.199.5", "overlay")) == 1
    digest = transfer(n1.end, n2.end, 4 << 20)
    assert digest[0] == digest[1]
    stop(n1, n2)


def test_route_that_turns_into_the_tunnel_makes_no_loop(cluster: Cluster) -> None:
    """Whatever the lease says: the datagrams themselves are recognised."""
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)
    target = cluster.fabric.address("n2")
    assert ping(n1.host, n1.address, n2.address) == 62
    assert n1.host.run([sys.executable, "-c", ROUTE, "add", f"{target}/32"]) == (0, "")
    assert ping(n1.host, n1.address, n2.address, seconds=0.5) is None
    looped = n1.counters()
    assert looped["outbound_own_datagram"] > 0
    assert looped["outbound_sent"] <= looped["outbound_own_datagram"] + 10
    assert n1.host.run([sys.executable, "-c", ROUTE, "del", f"{target}/32"]) == (0, "")
    assert ping(n1.host, n1.address, n2.address) == 62
    stop(n1, n2)


# ---------------------------------------------------------------- what may look odd and is not


def test_hosts_whose_addresses_lie_inside_network_reach_each_other(cluster: Cluster) -> None:
    """flannel's own example has Network 10.0.0.0/8 and hosts in 10.240.0.0/16."""
    netconf = {**NETCONF, "Network": "198.0.0.0/8", "SubnetMin": "198.51.0.0", "SubnetLen": 24}
    cluster.etcd.put(f"{PREFIX}/config", json.dumps(netconf))
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)
    assert refusals(n1) == refusals(n2) == {}
    with captured(n2.host) as packets:
        assert ping(n1.host, n1.address, n2.address) == 62
    assert udp_payloads(packets)
    claim(cluster, "198.60.0.0/24", "198.70.0.5")  # no route but the tunnel's
    wait_until(lambda: refusals(n1) == {"198.60.0.0/24": "in_overlay"}, "it is refused")
    stop(n1, n2)


def test_subnets_of_an_earlier_subnet_len_keep_their_routes(cluster: Cluster) -> None:
    """A host that has not restarted since SubnetLen changed is a peer like any other."""
    netconf = {**NETCONF, "SubnetLen": 22}
    cluster.etcd.put(f"{PREFIX}/config", json.dumps(netconf))
    n1 = cluster.start("n1")
    cluster.etcd.put(f"{PREFIX}/config", json.dumps({**NETCONF, "SubnetLen": 26}))
    n2 = cluster.start("n2")
    assert (n1.subnet.split("/")[1], n2.subnet.split("/")[1]) == ("22", "26")
    cluster.wait_for_peers(n1, n2)
    assert ping(n2.host, n2.address, n1.address) == 62
    stop(n1, n2)


# ---------------------------------------------------------------- wide leases


def test_wide_leases_written_first_keep_no_host_from_starting(cluster: Cluster) -> None:
    nets = ("10.0.0.0/8", "10.5.0.0/16", "10.5.0.0/17", "10.5.128.0/17", "127.0.0.0/8",
            "224.0.0.0/4")  # fmt: skip
    for number, net in enumerate(nets):
        claim(cluster, net, f"198.18.0.{200 + number}")
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)
    assert ping(n1.host, n1.address, n2.address) == 62
    assert set(refusals(n1)) == set(nets)
    assert control(n1)["leases_refused"] == len(nets)
    # And one whose lease ran out comes back to its subnet.
    before = n1.subnet
    stop(n1)
    cluster.etcd.delete(f"{PREFIX}/subnets/{before.replace('/', '-')}")
    again = cluster.start("n1")
    assert again.subnet == before
    stop(again, n2)


# ---------------------------------------------------------------- one public IP, two hosts


def test_two_hosts_with_one_public_ip_are_told_apart_and_told(cluster: Cluster) -> None:
    """As Vagrant's 10.0.2.15, or a copied flag: they share a lease, and the log says so."""
    shared = f"--public-ip={cluster.fabric.address('n1')}"
    n1 = cluster.start("n1", "--iface=eth0", shared)
    assert control(n1)["foreign_renewals"] == 0
    n2 = cluster.start("n2", "--iface=eth0", shared)
    assert n2.subnet == n1.subnet
    wait_until(lambda: control(n1)["foreign_renewals"] == 1, "n1 notices")
    [line] = n1.lines("another daemon renews our lease")
    assert line.startswith("E")
    for word in (n1.subnet, shared.partition("=")[2], "--iface or --public-ip"):
        assert word in line
    stop(n2)
    # The remedy: an address of its own.
    n2 = cluster.start("n2")
    assert n2.subnet != n1.subnet
    cluster.wait_for_peers(n1, n2)
    assert ping(n1.host, n1.address, n2.address) == 62
    assert control(n1)["foreign_renewals"] == 1
    stop(n1, n2)


# ---------------------------------------------------------------- many claims

MANY = 8000


@pytest.fixture
def crowded() -> Iterator[Cluster]:
    with Cluster("n1") as cluster:
        yield cluster


def test_many_overlapping_claims_delay_neither_status_nor_the_end(crowded: Cluster) -> None:
    cluster = crowded
    cluster.etcd.put(f"{PREFIX}/config", json.dumps({**NETCONF, "Network": "10.0.0.0/8"}))
    value = {f"10.{n // 250}.{n % 250}": f"198.18.{n // 250}.{n % 250}" for n in range(MANY)}
    for length in (24, 25):
        cluster.etcd.put_all(
            {
                f"{PREFIX}/subnets/{net}.0-{length}": json.dumps({"PublicIP": ip})
                for net, ip in value.items()
            }
        )
    n1 = cluster.start("n1")
    slowest = 0.0

    def routed() -> bool:
        nonlocal slowest
        started = time.monotonic()
        status = n1.status()
        slowest = max(slowest, time.monotonic() - started)
        return bool(status["dataplane"]["routes"] >= MANY - 2)

    wait_until(routed, "every range has one route")
    assert slowest < 10, "it took a minute"
    assert control(n1)["leases_waiting"] >= MANY - 2
    assert n1.status()["peers"] >= 2 * MANY - 2
    started = time.monotonic()
    n1.process.signal(signal.SIGTERM)
    assert run_to_end(n1) == 0
    assert time.monotonic() - started < 10
    print(f"slowest status {slowest:.3f} s, end after {time.monotonic() - started:.3f} s")
