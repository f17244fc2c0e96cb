"""One flanneld and one udpoverlayd on one real kube-apiserver: files and Nodes look the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import SUBNET_FILE, Node, wait_until
from tests.support.kubecluster import flannel_annotations
from tests.support.kubehosts import KubeHosts
from tests.support.wire import ping
from udpoverlay.lab.actions import files

pytestmark = [pytest.mark.root, pytest.mark.kube, pytest.mark.flanneld]

NO_RULES = "--iptables-forward-rules=false"
FLANNELD = ["flanneld"]
DUAL = {
    "Network": "10.244.0.0/16",
    "EnableIPv6": True,
    "IPv6Network": "fd00:10:244::/56",
    "Backend": {"Type": "udp"},
}


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[KubeHosts]:
    kube = KubeHosts("theirs", "ours", directory=tmp_path, real=True)
    try:
        for index, name in enumerate(("theirs", "ours"), 1):
            host = kube.fabric.hosts[name]
            for words in (
                ["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0"],
                ["ip", "-6", "address", "add", f"fd00:198::{index}/64", "dev", "eth0", "nodad"],
                ["ip", "-6", "route", "add", "default", "via", "fd00:198::ff", "dev", "eth0"],
            ):
                status, output = host.run(words)
                assert status == 0, output
        yield kube
    finally:
        kube.fabric.close()


def both(hosts: KubeHosts) -> tuple[Node, Node]:
    return hosts.start("theirs", NO_RULES, program=FLANNELD), hosts.start("ours", NO_RULES)


def same_files(theirs: Node, ours: Node, *differing: str) -> None:
    """The files differ in the values of these keys alone."""
    texts = [node.host.call(files.read_text, path=SUBNET_FILE) for node in (theirs, ours)]
    for key in differing:
        texts[0] = texts[0].replace(theirs.env[key], ours.env[key])
    assert texts[0] == texts[1]


def same_annotations(hosts: KubeHosts, theirs: Node, ours: Node) -> None:
    said = [flannel_annotations(hosts.node(node.name)) for node in (theirs, ours)]
    ips = [each.pop("public-ip") for each in said]
    assert said[0] == said[1]
    assert ips == [hosts.fabric.address(node.name) for node in (theirs, ours)]


def test_ipv4_alone(hosts: KubeHosts) -> None:
    hosts.register("theirs", "10.244.1.0/24")
    hosts.register("ours", "10.244.2.0/24")
    theirs, ours = both(hosts)
    same_files(theirs, ours, "FLANNEL_SUBNET")
    same_annotations(hosts, theirs, ours)
    wait_until(lambda: ours.peers() == {"10.244.1.0/24"}, "we know flanneld's Node")
    wait_until(lambda: ping(ours.host, ours.address, theirs.address) is not None, "a ping")
    assert ping(theirs.host, theirs.address, ours.address) is not None


def test_dual_stack(hosts: KubeHosts) -> None:
    hosts.net_conf.write_text(json.dumps(DUAL))
    hosts.register("theirs", "10.244.1.0/24", "fd00:10:244:1::/64")
    hosts.register("ours", "10.244.2.0/24", "fd00:10:244:2::/64")
    theirs, ours = both(hosts)
    assert ours.env["FLANNEL_IPV6_NETWORK"] == "fd00:10:244::/56"
    assert ours.env["FLANNEL_IPV6_SUBNET"] == "fd00:10:244:2::1/64"
    same_files(theirs, ours, "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET")
    same_annotations(hosts, theirs, ours)
    # flanneld finds no peer in dual stack (docs/deviations.md); we find it.
    theirs_is = "10.244.1.0/24&fd00:10:244:1::/64"
    wait_until(lambda: ours.peers() == {theirs_is}, "we know flanneld's Node")
