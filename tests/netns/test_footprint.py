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

TWO_CAPABILITIES = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in range(64):  # PR_CAPBSET_DROP all but CAP_NET_ADMIN (12) and CAP_NET_RAW (13)
    if capability not in (12, 13) and libc.prctl(24, capability, 0, 0, 0) != 0:
        assert ctypes.get_errno() == 22, capability  # EINVAL: beyond the last one
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
os.execv(sys.argv[1], sys.argv[1:])
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
    program = [sys.executable, "-c", TWO_CAPABILITIES, *UDPOVERLAYD]
    n1, n2 = cluster.start("n1", program=program), cluster.start("n2")
    status = n1.host.call(files.read_text, path=f"/proc/{n1.process.pid}/status")
    assert "CapEff:\t0000000000003000" in status
    cluster.wait_for_peers(n1, n2)
    assert ping(n1.host, n1.address, n2.address) is not None
    assert n1.process.stop() == 0


def test_a_hundred_leases_need_less_than_40_mb(cluster: Cluster) -> None:
    n1 = cluster.start("n1")
    for number in range(100):
        cluster.etcd.put(
            f"{PREFIX}/subnets/10.5.{number + 128}.0-24",
            f'{{"PublicIP":"198.19.0.{number + 1}","PublicIPv6":null}}',
        )
    wait_until(lambda: n1.status()["dataplane"]["routes"] == 100, "all leases have a route")
    assert resident_mb(n1) < 40
