"""What a daemon needs of its host: privileges and memory."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from tests.support.cluster import PREFIX, UDPOVERLAYD, Cluster, Node, wait_until
from tests.support.wire import ping
from udpoverlay.lab.actions import files

pytestmark = [pytest.mark.root, pytest.mark.etcd]

NET_ADMIN, NET_RAW = 12, 13
CAPABILITIES = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
kept = [int(word) for word in sys.argv[1].split(",")]
for capability in range(64):  # PR_CAPBSET_DROP
    if capability not in kept and libc.prctl(24, capability, 0, 0, 0) != 0:
        assert ctypes.get_errno() == 22, capability  # EINVAL: beyond the last one
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster("n1", "n2") as cluster:
        yield cluster


def resident_mb(node: Node) -> float:
    text = node.host.call(files.read_text, path=f"/proc/{node.process.pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def test_two_capabilities_are_enough(cluster: Cluster) -> None:
    n1, n2 = start_with(cluster, NET_ADMIN, NET_RAW), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)
    assert ping(n1.host, n1.address, n2.address) is not None
    assert not n1.lines("ICMP errors cannot be read")
    assert "port_unreachable" in n1.status()["dataplane"]["reports"]
    assert n1.process.stop() == 0


def test_without_net_raw_it_runs_and_says_what_it_cannot_see(cluster: Cluster) -> None:
    n1, n2 = start_with(cluster, NET_ADMIN), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)
    assert ping(n1.host, n1.address, n2.address) is not None
    assert n1.lines("ICMP errors cannot be read", "CAP_NET_RAW")
    assert n1.status()["dataplane"]["reports"] == {}
    assert n1.process.stop() == 0


def start_with(cluster: Cluster, *capabilities: int) -> Node:
    """n1, with these capabilities and no other."""
    kept = ",".join(str(each) for each in capabilities)
    n1 = cluster.start("n1", program=[sys.executable, "-c", CAPABILITIES, kept, *UDPOVERLAYD])
    status = n1.host.call(files.read_text, path=f"/proc/{n1.process.pid}/status")
    assert f"CapEff:\t{sum(1 << each for each in capabilities):016x}" in status
    return n1


def test_a_hundred_leases_need_less_than_40_mb(cluster: Cluster) -> None:
    n1 = cluster.start("n1")
    for number in range(100):
        cluster.etcd.put(
            f"{PREFIX}/subnets/10.5.{number + 128}.0-24",
            f'{{"PublicIP":"198.19.0.{number + 1}","PublicIPv6":null}}',
        )
    wait_until(lambda: n1.status()["dataplane"]["routes"] == 100, "all leases have a route")
    assert resident_mb(n1) < 40
    maps = n1.host.call(files.read_text, path=f"/proc/{n1.process.pid}/maps")
    assert "uvloop" in maps
    for library in ("aiohttp", "yarl", "msgspec"):
        assert library not in maps, "for Kubernetes alone"
