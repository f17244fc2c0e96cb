"""Three hosts: one joins late, leaves, loses its lease, its device or its registry."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.cluster import (
    ADMIN_SOCKET,
    PREFIX,
    SUBNET_FILE,
    Cluster,
    Node,
    links_of,
    run_to_end,
    wait_until,
)
from tests.support.wire import ping, transfer
from udpoverlay.lab.actions import files

pytestmark = [pytest.mark.root, pytest.mark.etcd]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster("n1", "n2", "n3") as cluster:
        yield cluster


def delete_lease(cluster: Cluster, node: Node) -> None:
    cluster.etcd.delete(f"{PREFIX}/subnets/{node.subnet.replace('/', '-')}")


def test_a_host_that_joins_late_is_reached_by_all_and_reaches_all(cluster: Cluster) -> None:
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)
    n3 = cluster.start("n3")
    cluster.wait_for_peers(n1, n2, n3)
    for a in (n1, n2, n3):
        for b in (n1, n2, n3):
            if a is not b:
                assert ping(a.host, a.address, b.address) is not None
    sent, received = transfer(n3.end, n1.end, 20 << 20)
    assert sent == received
    assert len({n1.subnet, n2.subnet, n3.subnet}) == 3


def test_deleted_lease_ends_its_daemon_alone_with_0(
    cluster: Cluster,
) -> None:
    n1, n2, n3 = cluster.start("n1"), cluster.start("n2"), cluster.start("n3")
    cluster.wait_for_peers(n1, n2, n3)
    delete_lease(cluster, n3)
    assert run_to_end(n3) == 0
    assert "flannel0" not in links_of(n3.host)
    wait_until(lambda: (n1.peers(), n2.peers()) == ({n2.subnet}, {n1.subnet}), "n3 is forgotten")
    assert ping(n1.host, n1.address, n2.address) is not None


def test_a_restart_without_the_subnet_file_still_keeps_the_subnet(cluster: Cluster) -> None:
    n1 = cluster.start("n1")
    assert n1.process.stop() == 0
    n1.host.call(files.write_text, path=SUBNET_FILE, text="")
    assert cluster.start("n1").subnet == n1.subnet


def test_a_previous_subnet_is_claimed_again_when_etcd_forgot_it(cluster: Cluster) -> None:
    n1 = cluster.start("n1")
    assert n1.process.stop() == 0
    delete_lease(cluster, n1)
    cluster.start("n2")
    assert cluster.start("n1").subnet == n1.subnet


def test_a_killed_daemon_leaves_no_device_and_starts_again(cluster: Cluster) -> None:
    n1 = cluster.start("n1")
    n1.process.signal(signal.SIGKILL)
    assert n1.process.wait(30) == -signal.SIGKILL
    wait_until(lambda: "flannel0" not in links_of(n1.host), "the device vanishes")
    again = cluster.start("n1")  # its admin socket was left behind, too
    assert again.subnet == n1.subnet
    assert again.status()["pid"] == again.process.pid


def test_it_waits_for_the_network_configuration_and_then_goes_on(cluster: Cluster) -> None:
    config = cluster.etcd.read(f"{PREFIX}/config")[f"{PREFIX}/config"]
    cluster.etcd.delete(f"{PREFIX}/config")
    waiting = cluster.spawn("n1")
    wait_until(lambda: bool(waiting.lines("waiting for the network configuration")), "it complains")
    cluster.etcd.put(f"{PREFIX}/config", config)
    wait_until(lambda: waiting.host.call(files.exists, path=SUBNET_FILE), "it goes on")
    assert waiting.process.stop() == 0


def test_a_signal_while_it_waits_for_the_configuration_ends_it_with_0(cluster: Cluster) -> None:
    cluster.etcd.stop()
    waiting = cluster.spawn("n1")
    wait_until(lambda: bool(waiting.lines("waiting for the network configuration")), "it complains")
    waiting.process.signal(signal.SIGTERM)
    assert run_to_end(waiting) == 0
    assert "flannel0" not in links_of(waiting.host)
    assert not waiting.host.call(files.exists, path=SUBNET_FILE)


def test_a_signal_at_any_step_of_the_start_ends_it_with_0_and_leaves_nothing(
    cluster: Cluster,
) -> None:
    steps = ["network configuration", "interface chosen", "lease acquired", "tunnel device",
             "subnet file written", "lease snapshot"]  # fmt: skip
    for step in steps:
        node = cluster.spawn("n1")
        wait_until(partial(_has_said, node, step), step)
        node.process.signal(signal.SIGTERM)
        assert run_to_end(node) == 0, node.process.log()
        assert "flannel0" not in links_of(node.host)
        assert not node.host.call(files.exists, path=ADMIN_SOCKET)


def _has_said(node: Node, event: str) -> bool:
    return bool(node.lines(f"] {event}"))
