"""Backend.Type alloc: a subnet and the subnet file, and no device of ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import NETCONF, Cluster, links_of, wait_until

pytestmark = [pytest.mark.root, pytest.mark.etcd]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster("n1", "n2", netconf={**NETCONF, "Backend": {"Type": "alloc"}}) as cluster:
        yield cluster


def test_host_gets_a_subnet_and_no_tunnel(cluster: Cluster) -> None:
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    assert n1.env["FLANNEL_MTU"] == "1500"
    assert sorted(cluster.leases()) == sorted(n.subnet.replace("/", "-") for n in (n1, n2))
    assert "flannel0" not in links_of(n1.host)
    wait_until(lambda: n1.peers() == {n2.subnet}, "each knows the other")
    status = n1.status()
    assert (status["node"]["backend"], status["node"]["tun"]) == ("alloc", "eth0")
    assert status["dataplane"]["routes"] == 0
    assert n1.errors() == []
