"""`udpoverlay status`, `peers` and `routes` beside real daemons, while things break."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import Cluster, Node, wait_until

pytestmark = [pytest.mark.root, pytest.mark.etcd]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("n1", "n2") as cluster:
        yield cluster


def ask(node: Node, *words: str) -> tuple[int, str]:
    return node.host.run([sys.executable, "-m", "udpoverlay.cli", *words])


def document(node: Node, *words: str) -> dict[str, Any]:
    _, text = ask(node, *words, "--json")
    found: dict[str, Any] = json.loads(text)
    return found


def test_commands_follow_what_happens(cluster: Cluster) -> None:
    n1, n2 = cluster.start("n1"), cluster.start("n2")
    cluster.wait_for_peers(n1, n2)

    code, shown = ask(n1, "status")
    assert code == 0, shown
    assert n1.subnet in shown
    assert "nothing is wrong" in shown
    [peer] = document(n1, "peers")["peers"]
    assert peer["subnet"] == n2.subnet
    [route] = document(n1, "routes", n2.address)["routes"]
    assert route["destination"] == n2.subnet
    assert route["device"] == n1.status()["node"]["tun"]

    cluster.etcd.put("/coreos.com/network/subnets/10.5.0.0-17", '{"PublicIP": "198.18.0.77"}')
    wait_until(lambda: ask(n1, "status")[0] == 3, "status sees the lease that is refused")
    assert "too wide" in ask(n1, "peers")[1]
    cluster.etcd.delete("/coreos.com/network/subnets/10.5.0.0-17")
    wait_until(lambda: ask(n1, "status")[0] == 0, "all is well again")
