"""flanneld's packet rules and ours are the same: taken over, not doubled, and the way back."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.support.cluster import NETCONF, Cluster, Node
from tests.support.layers import checked
from udpoverlay.lab.hosts import Host

pytestmark = [
    pytest.mark.root,
    pytest.mark.etcd,
    pytest.mark.flanneld,
    pytest.mark.skipif(shutil.which("iptables") is None, reason="no iptables on PATH"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on PATH"),
]

FLANNELD = ["flanneld"]


def iptables_rules(host: Host) -> list[str]:
    saved = checked(host, "iptables-save") + checked(host, "ip6tables-save")
    return [line for line in saved.splitlines() if line.startswith("-A") and "FLANNEL-" in line]


def nft_tables(host: Host) -> str:
    """flannel's tables, without what differs between two equal ones."""
    listed = [
        found
        for family, table in (("ip", "flannel-ipv4"), ("ip6", "flannel-ipv6"))
        for status, found in [host.run(["nft", "list", "table", family, table])]
        if status == 0 and "chain" in found
    ]
    return re.sub(r"\s+", " ", "".join(listed))


def in_turn(cluster: Cluster, node: Node | None, program: list[str] | None) -> Node:
    if node is not None:
        assert node.process.stop() == 0
    return cluster.start("n1", "--ip-masq", program=program)


@pytest.mark.parametrize("nftables", [False, True], ids=["iptables", "nftables"])
def test_rules_of_flanneld_are_taken_over_and_left_as_it_knows_them(nftables: bool) -> None:
    with Cluster("n1", netconf={**NETCONF, "EnableNFTables": nftables}) as cluster:
        host = cluster.fabric.hosts["n1"]

        def rules() -> object:
            return nft_tables(host) if nftables else iptables_rules(host)

        theirs = in_turn(cluster, None, FLANNELD)
        before = rules()
        assert before
        ours = in_turn(cluster, theirs, None)
        assert ours.subnet == theirs.subnet
        assert rules() == before
        assert ours.status()["firewall"]["error"] == ""
        back = in_turn(cluster, ours, FLANNELD)
        assert back.subnet == theirs.subnet
        assert rules() == before
        assert (iptables_rules(host) if nftables else nft_tables(host)) in ([], "")
